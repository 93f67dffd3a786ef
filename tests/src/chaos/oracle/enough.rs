//! Whether a run says anything: it came to rest, and enough happened in it. A run in which nothing happens proves nothing.

use std::time::Duration;

use super::{Finding, Verdict, Wrong};

/// Faults that a minute must have seen.
const FAULTS_A_MINUTE: u64 = 6;

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// How long people came.
    pub lasted: Duration,
    /// How many faults there were.
    pub faults: usize,
    /// Only some kinds of faults were asked for: then they may be few.
    pub restricted: bool,
    /// What was still under way when nobody waited any longer.
    pub under_way: Option<String>,
}

/// Judges it.
pub(super) fn judge(verdict: &mut Verdict, ran: &Ran) {
    if let Some(what) = &ran.under_way {
        verdict.findings.push(Finding { wrong: Wrong::Lost, person: None, what: format!("not at rest: {what}") });
    }
    let (faults, seconds) = (ran.faults as u64, ran.lasted.as_secs());
    if !ran.restricted && faults * 60 < seconds * FAULTS_A_MINUTE {
        verdict.idle.push(format!("{faults} faults in {seconds} s, which is fewer than {FAULTS_A_MINUTE} a minute"));
    }
    for (count, what) in [(verdict.sends, "no sends"), (verdict.merged, "no merges"), (verdict.runs.1, "no stop came in time for a send")] {
        if count == 0 {
            verdict.idle.push(what.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(sends: usize, merged: usize, stopped: usize, ran: &Ran) -> Verdict {
        let mut verdict = Verdict { sends, merged, runs: (3, stopped), ..Verdict::default() };
        judge(&mut verdict, ran);
        verdict
    }

    #[test]
    fn a_run_in_which_too_little_happens_is_not_good() {
        let ran = Ran { lasted: Duration::from_mins(2), faults: 12, ..Ran::default() };
        assert!(judged(1, 1, 1, &ran).is_good());
        let few = Ran { faults: 11, ..ran.clone() };
        let verdict = judged(1, 1, 1, &few);
        assert!(!verdict.is_good() && verdict.to_string().contains("11 faults in 120 s"), "{verdict}");
        assert!(judged(1, 1, 1, &Ran { restricted: true, ..few }).is_good(), "few were asked for");
        for (sends, merged, stopped) in [(0, 1, 1), (1, 0, 1), (1, 1, 0)] {
            assert_eq!(judged(sends, merged, stopped, &ran).idle.len(), 1);
        }
    }

    #[test]
    fn a_run_that_does_not_come_to_rest_is_wrong() {
        let ran = Ran { lasted: Duration::from_mins(2), faults: 12, under_way: Some("identity/0 is at 7 of 9".into()), ..Ran::default() };
        let verdict = judged(1, 1, 1, &ran);
        assert_eq!((verdict.is_good(), verdict.count(Wrong::Lost)), (false, 1));
    }
}
