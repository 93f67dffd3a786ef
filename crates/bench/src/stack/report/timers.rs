//! Tables of timers and bursts.

use hdrhistogram::Histogram;

use super::Section;
use crate::timers::{Burst, Timers};

/// Bars of the design, and of how many timers (a second, and at once): p50 and p99, in ms.
const TIMERS: u64 = 10_000;
const BURST: u64 = 1_000_000;
const P50_MAX: f64 = 20.0;
const P99_MAX: f64 = 80.0;
/// From the due instant of a burst to its last send, in s.
const BURST_MAX: f64 = 6.0;
/// p99 of orders during a burst, beside that before.
const RATIO_MAX: f64 = 2.0;
const BESIDE: &str = "Their people came in before the traffic began. No sender runs, so nobody takes the sends from wp1.send: what \
                      sending costs is not in it. Each person has one send, none is there twice.";

pub(super) fn timers(all: &[Timers]) -> Section {
    let rows = all.iter().map(|one| {
        let at = |quantile| millis(&one.histogram, quantile);
        vec![
            format!("{} for {} s", one.per_second, one.seconds),
            format!("{:.0}", one.in_time as f64 / one.seconds as f64),
            format!("{:.0}", one.rate),
            judged(at(0.5), P50_MAX, one.per_second >= TIMERS),
            judged(at(0.99), P99_MAX, one.per_second >= TIMERS),
            format!("{:.1}", at(0.999)),
            format!("{:.1}", at(1.0)),
            format!("{:.2}", one.lag_max.as_secs_f64()),
        ]
    });
    let head = ["timers/s due", "sends/s meanwhile", "events/s", "p50", "p99", "p99.9", "max", "lag max, s"];
    let mut section = Section::new("due instant → send read back from wp1.send, ms", &head, rows.collect());
    section.notes.push(BESIDE.to_owned());
    section.notes.extend(all.iter().filter_map(behind));
    section
}

/// What is to be said where the timers came faster than they were worked off.
fn behind(one: &Timers) -> Option<String> {
    let missing = one.histogram.len() - one.in_time as u64;
    let second = one.per_second;
    (missing > second).then(|| {
        format!(
            "{second} timers a second were not held beside {:.0} events/s: {missing} of {} sends came when the last timer had been due.",
            one.rate,
            one.histogram.len()
        )
    })
}

pub(super) fn bursts(all: &[Burst]) -> Section {
    let rows = all.iter().map(|one| {
        let (before, during) = (millis(&one.before, 0.99), millis(&one.during, 0.99));
        let is_full = one.histogram.len() >= BURST;
        vec![
            one.histogram.len().to_string(),
            format!("{:.0}", one.rate),
            judged(one.took.as_secs_f64(), BURST_MAX, is_full),
            format!("{:.0}", one.histogram.len() as f64 / one.took.as_secs_f64()),
            format!("{:.2}", millis(&one.histogram, 0.5) / 1e3),
            format!("{before:.1} of {}", one.before.len()),
            format!("{during:.1} of {}", one.during.len()),
            judged(during / before, RATIO_MAX, is_full),
            format!("{:.2}", one.lag_max.as_secs_f64()),
        ]
    });
    let head = [
        "timers",
        "events/s",
        "last send, s",
        "sends/s",
        "median send, s",
        "p99 of orders before, ms",
        "meanwhile",
        "meanwhile / before",
        "lag max, s",
    ];
    let mut section = Section::new("timers due at one instant → the last send read back from wp1.send", &head, rows.collect());
    section.notes.push(BESIDE.to_owned());
    section.notes.extend(all.iter().filter(|one| one.took > one.traffic).map(|one| {
        format!(
            "Traffic ended {:.0} s behind the due instant, before the last send: the rest had the machine for itself.",
            one.traffic.as_secs_f64()
        )
    }));
    section
}

fn millis(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e3
}

/// Fewer timers than the bar is of may miss it, but cannot meet it.
fn judged(value: f64, bar: f64, is_full: bool) -> String {
    let verdict = match (value <= bar, is_full) {
        (true, true) => "met",
        (true, false) => "too few timers to say met",
        (false, _) => "missed",
    };
    format!("{value:.1} (≤ {bar}: {verdict})")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn of(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        for value in values {
            histogram.record(*value).unwrap();
        }
        histogram
    }

    #[test]
    fn a_rate_that_was_not_held_is_said_to_be() {
        let with = |in_time| Timers {
            partitions: 8,
            rate: 100.0,
            per_second: 2,
            seconds: 5,
            histogram: of(&[1_000; 10]),
            in_time,
            lag_max: Duration::ZERO,
        };
        assert_eq!(timers(&[with(8)]).notes.len(), 1);
        assert!(timers(&[with(7)]).notes[1].starts_with("2 timers a second were not held beside 100 events/s: 3 of 10 sends"));
        assert_eq!(timers(&[with(8)]).rows[0][1], "2");
        assert_eq!(timers(&[with(8)]).rows[0][3], "1.0 (≤ 20: too few timers to say met)");
        assert_eq!(timers(&[Timers { per_second: 10_000, ..with(8) }]).rows[0][3], "1.0 (≤ 20: met)");
    }

    #[test]
    fn a_burst_is_judged_by_its_last_send_and_by_orders_meanwhile() {
        let with = |count, seconds, during| {
            let mut histogram = of(&[]);
            histogram.record_n(seconds * 1_000_000, count).unwrap();
            let burst = Burst {
                partitions: 8,
                rate: 100.0,
                histogram,
                took: Duration::from_secs(seconds),
                traffic: Duration::from_secs(5),
                before: of(&[10_000]),
                during: of(&[during]),
                lag_max: Duration::ZERO,
            };
            let section = bursts(&[burst]);
            ([2, 7].map(|column| section.rows[0][column].clone()), section.notes.len())
        };
        let words = |last: &str, ratio: &str| [last.to_owned(), ratio.to_owned()];
        assert_eq!(with(1_000_000, 4, 15_000), (words("4.0 (≤ 6: met)", "1.5 (≤ 2: met)"), 1));
        assert_eq!(with(1_000_000, 7, 30_000), (words("7.0 (≤ 6: missed)", "3.0 (≤ 2: missed)"), 2));
        assert_eq!(with(10, 4, 30_000), (words("4.0 (≤ 6: too few timers to say met)", "3.0 (≤ 2: missed)"), 1));
    }
}
