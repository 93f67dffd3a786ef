//! CART-1: each passage, and what Waypost comes to beside its rival.

use serde_json::{Value, json};

use super::{Section, json::percentiles};
use crate::{
    cart1::{Cart1, CatchUp, Live, Passage, System, core_seconds},
    sampler::Usage,
};

/// Bars of the design: Waypost's events per core second as parts of the rival's, and the rival's median as times Waypost's.
const PER_CORE_MIN: f64 = 1.0;
const MEDIAN_MIN: f64 = 5.0;

/// Median, least and greatest of some figures.
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

// === impl Spread ===

impl Spread {
    fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().unwrap_or(f64::NAN);
        let last = figures.len().saturating_sub(1);
        Self { median: f64::midpoint(at(last / 2), at(figures.len() / 2)), least: at(0), greatest: at(last) }
    }

    fn shown(&self, digits: usize) -> String {
        let Self { median, least, greatest } = self;
        format!("{median:.digits$} ({least:.digits$} – {greatest:.digits$})")
    }
}

// === impl Cart1 ===

impl Cart1 {
    fn spread(&self, system: System, figure: impl Fn(&Passage) -> f64) -> Spread {
        Spread::of(self.passages.iter().filter(|one| one.system == system).map(figure).collect())
    }

    /// How many times as many events per core second as the rival.
    fn per_core(&self) -> f64 {
        let of = |system| self.spread(system, |one| one.catch_up.per_core_second()).median;
        of(System::Waypost) / of(System::KafkaStreams)
    }

    /// How many times as long the rival's median is.
    fn median(&self) -> f64 {
        let of = |system| self.spread(system, |one| one.live.millis(0.5)).median;
        of(System::KafkaStreams) / of(System::Waypost)
    }

    pub(super) fn sections(&self) -> [Section; 3] {
        let passages = self.passages.iter().map(|one| {
            vec![
                one.system.name().to_owned(),
                format!("{:.0}", one.catch_up.rate),
                format!("{:.2}", core_seconds(&one.catch_up.usage) * 1e6 / one.catch_up.events),
                format!("{:.0}", one.catch_up.per_core_second()),
                format!("{:.2}", core_seconds(&one.live.usage) * 1e6 / one.live.events),
                format!("{:.1}", one.live.millis(0.5)),
                format!("{:.1}", one.live.millis(0.99)),
                format!("{:.1}", one.live.millis(1.0)),
                format!("{:.0}", one.live.generator_late.as_secs_f64() * 1e3),
                one.sends.to_string(),
            ]
        });
        let title = format!(
            "CART-1, {} partitions: Kafka Streams by hand ({}), one stage, beside Waypost, three hops and the sender",
            self.partitions, self.set
        );
        let head = [
            "",
            "backlog: events/s",
            "µs an event",
            "events per core second",
            "live: µs an event",
            "p50 ms",
            "p99 ms",
            "max ms",
            "generator late ms",
            "sends",
        ];
        let mut section = Section::new(title, &head, passages.collect());
        section.notes.push(format!(
            "Live: {:.0} events/s, from the instant at which a timer is due to its send as a consumer of what is committed reads it. CPU is \
             that of everything but the broker and the generator. Each system sent what the reference says, and nothing else.",
            self.rate
        ));
        [section, self.compared(), self.by_process()]
    }

    fn compared(&self) -> Section {
        let row = |name: &str, digits, figure: &dyn Fn(&Passage) -> f64, verdict: String| {
            let shown = |system| self.spread(system, figure).shown(digits);
            vec![name.to_owned(), shown(System::KafkaStreams), shown(System::Waypost), verdict]
        };
        let judged = |ratio: f64, bar: f64, what: &str| {
            let verdict = if ratio >= bar { "met" } else { "missed" };
            format!("{ratio:.2} {what} (≥ {bar}: {verdict})")
        };
        let rows = vec![
            row("events per core second", 0, &|one| one.catch_up.per_core_second(), judged(self.per_core(), PER_CORE_MIN, "times as many")),
            row("events/s of a backlog", 0, &|one| one.catch_up.rate, String::new()),
            row("p50 live, ms", 1, &|one| one.live.millis(0.5), judged(self.median(), MEDIAN_MIN, "times lower")),
            row("p99 live, ms", 1, &|one| one.live.millis(0.99), String::new()),
        ];
        Section::new("CART-1, median (range)", &["", "Kafka Streams", "Waypost", "Waypost beside it"], rows)
    }

    fn by_process(&self) -> Section {
        let of = |passage: &Passage| {
            let (events, system) = (passage.catch_up.events, passage.system);
            let row = |one: &Usage| {
                vec![
                    system.name().to_owned(),
                    one.name.clone(),
                    format!("{:.2}", one.cpu_seconds),
                    format!("{:.2}", one.cpu_seconds * 1e6 / events),
                    format!("{:.0}", one.resident_bytes as f64 / 1e6),
                ]
            };
            passage.catch_up.usage.iter().map(row).collect::<Vec<_>>()
        };
        let head = ["", "process", "CPU s", "µs an event", "RSS MB"];
        Section::new("CART-1, backlog, by process", &head, self.passages.iter().flat_map(of).collect())
    }

    pub(super) fn json(&self) -> Value {
        let processes = |usage: &[Usage]| -> Vec<Value> {
            let of = |one: &Usage| json!({"name": one.name, "cpu_seconds": one.cpu_seconds, "rss_bytes": one.resident_bytes});
            usage.iter().map(of).collect()
        };
        let live = |one: &Live| {
            json!({
                "events": one.events, "processes": processes(&one.usage), "core_seconds": core_seconds(&one.usage),
                "due_to_send_us": percentiles(&one.histogram), "timers": one.histogram.len(),
                "histogram_us": one.histogram.iter_recorded().map(|v| [v.value_iterated_to(), v.count_at_value()]).collect::<Vec<_>>(),
                "generator_late_seconds": one.generator_late.as_secs_f64(),
            })
        };
        let catch_up = |one: &CatchUp| {
            json!({
                "events": one.events, "events_per_second": one.rate, "processes": processes(&one.usage),
                "core_seconds": core_seconds(&one.usage), "events_per_core_second": one.per_core_second(),
            })
        };
        let passages = self.passages.iter().map(|one| {
            json!({
                "system": one.system.name(), "live": live(&one.live), "catch_up": catch_up(&one.catch_up), "sends": one.sends,
            })
        });
        json!({
            "partitions": self.partitions, "live_events_per_second": self.rate, "rival_set": self.set,
            "passages": passages.collect::<Vec<_>>(), "events_per_core_second_ratio": self.per_core(), "p50_ratio": self.median(),
        })
    }
}

// === impl Live ===

impl Live {
    /// Milliseconds at a quantile.
    fn millis(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_with_the_least_and_the_greatest() {
        let shown = |figures: &[f64]| Spread::of(figures.to_vec()).shown(0);
        assert_eq!([shown(&[3.0, 1.0, 2.0]), shown(&[4.0, 1.0]), shown(&[7.0])], ["2 (1 – 3)", "2 (1 – 4)", "7 (7 – 7)"]);
    }
}
