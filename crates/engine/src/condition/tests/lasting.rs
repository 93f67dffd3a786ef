//! `valid_until` is never later than the true flip: whatever a condition says now, it says at every instant
//! before that, whatever it is made of.

use proptest::prelude::*;

use super::*;

const SPANS: [i64; 5] = [1, 2, 3, 7, 30];

/// When the times of the facts are, in hours from now; the segment `vip` ends then, `lapsed-60d` begins then.
#[derive(Clone, Debug)]
struct Times {
    order: Option<i64>,
    event: i64,
    entered: i64,
    vip_ends: i64,
    lapsed_begins: i64,
    covered: i64,
}

impl Times {
    fn hours(hours: i64) -> i64 {
        NOW + hours * HOUR
    }

    /// The facts as they are at `now`.
    fn facts(&self, now: i64) -> Given {
        let times = [("event.meta.time", Some(self.event)), ("run.entered_at", Some(self.entered)), ("profile.last_order_at", self.order)];
        let paths = times.into_iter().filter_map(|(path, hours)| Some((path.to_owned(), Value::Time(at(Self::hours(hours?))))));
        let flips = |hours: i64, before: Truth, after: Truth| {
            let flip = Self::hours(hours);
            if now < flip { (before, Some(at(flip))) } else { (after, None) }
        };
        Given {
            paths: paths.chain([("profile.order_count".to_owned(), Value::Int(2))]).collect(),
            segments: BTreeMap::from([
                ("vip".to_owned(), flips(self.vip_ends, Truth::Yes, Truth::No)),
                ("lapsed-60d".to_owned(), flips(self.lapsed_begins, Truth::No, Truth::Yes)),
            ]),
            covered: Some(at(Self::hours(self.covered))),
            now,
            ..Given::default()
        }
    }

    /// Every instant at which an atom may flip.
    fn edges(&self) -> Vec<i64> {
        let starts = [self.order.unwrap_or(0), self.event, self.entered, self.covered].map(Self::hours);
        let ends = starts.iter().flat_map(|start| SPANS.map(|days| start + days * DAY));
        let segments = [self.vip_ends, self.lapsed_begins].map(Self::hours);
        ends.chain(starts).chain(segments).flat_map(|edge| [edge - 1, edge, edge + 1]).collect()
    }
}

fn times() -> impl Strategy<Value = Times> {
    let hour = -800_i64..800;
    (prop::option::of(hour.clone()), hour.clone(), hour.clone(), hour.clone(), hour, -1_000_i64..-1).prop_map(
        |(order, event, entered, vip_ends, lapsed_begins, covered)| Times { order, event, entered, vip_ends, lapsed_begins, covered },
    )
}

fn atom() -> impl Strategy<Value = String> {
    let timed = (
        prop::sample::select(vec!["within", "elapsed", "idle"]),
        prop::sample::select(vec!["profile.last_order_at", "event.meta.time", "run.entered_at"]),
        prop::sample::select(SPANS.to_vec()),
    );
    prop_oneof![
        6 => timed.prop_map(|(function, path, days)| format!("{function}({path}, \"{days}d\")")),
        2 => prop::sample::select(vec!["in_segment(\"vip\")", "in_segment(\"lapsed-60d\")", "in_segment(\"never-seen\")"]).prop_map(|atom| format!("({atom})")),
        2 => prop::sample::select(vec!["profile.order_count > 1", "profile.order_count > 5", "event.unknown == 1", "known(profile.last_order_at)"])
            .prop_map(|atom| format!("({atom})")),
    ]
}

fn source() -> impl Strategy<Value = String> {
    atom().prop_recursive(4, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} == {b})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            inner.prop_map(|a| format!("default({a}, false)")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_holds_until_it_says(source in source(), times in times()) {
        let program = program(&source);
        let (truth, until) = program.truth(&times.facts(NOW));
        if let Some(until) = until {
            prop_assert!(until > at(NOW), "{source} has flipped already");
        }
        for instant in times.edges().into_iter().filter(|instant| *instant > NOW && until.is_none_or(|until| at(*instant) < until)) {
            let (then, _) = program.truth(&times.facts(instant));
            prop_assert_eq!(then, truth, "{} flips at {} ms from now, before {:?}", source, instant - NOW, until);
        }
    }

    /// Who evaluates only what may have changed rests on it.
    #[test]
    fn until_an_answer_is_unsteady_not_even_how_long_it_holds_changes(source in source(), times in times()) {
        let program = program(&source);
        let (truth, until, steady_until) = program.judge(&times.facts(NOW));
        prop_assert_eq!((truth, until), program.truth(&times.facts(NOW)));
        prop_assert!(steady_until.is_none() || program.reads().time || !program.reads().segments.is_empty());
        for instant in times.edges().into_iter().filter(|i| *i > NOW && steady_until.is_none_or(|until| at(*i) < until)) {
            prop_assert_eq!(program.truth(&times.facts(instant)), (truth, until), "{} at {} ms from now", source, instant - NOW);
        }
    }
}
