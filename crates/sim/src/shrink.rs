//! Makes a world that goes wrong smaller: fewer kinds of faults, fewer events, fewer faults, and still wrong.

use crate::{
    Switches, run,
    scenario::{Part, Scenario},
};

/// What a shrunk world says.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// As small as it got.
    pub scenario: Scenario,
    /// What is wrong with it.
    pub wrong: String,
    /// Worlds run to find it.
    pub runs: u32,
}

struct Search<'a> {
    switches: Switches,
    found: Shrunk,
    most: u32,
    seen: &'a mut dyn FnMut(&Shrunk),
}

/// Leaves out of a world that goes wrong whatever it stays wrong without, with `most` worlds run at the most.
/// None if it does not go wrong. `seen` hears of every step forward.
pub fn shrink(scenario: &Scenario, switches: Switches, most: u32, seen: &mut dyn FnMut(&Shrunk)) -> Option<Shrunk> {
    let report = run(scenario, switches, false);
    let found = Shrunk { scenario: scenario.clone(), wrong: report.wrong?, runs: 1 };
    let mut search = Search { switches, found, most, seen };
    let mut parts = report.parts;
    loop {
        let before = search.found.scenario.clone();
        // Coarse first: a kind of fault less makes all that follows cheaper.
        for pick in [is_kind as fn(Part) -> bool, is_event, is_fault] {
            let some: Vec<Part> = parts.iter().copied().filter(|part| pick(*part)).collect();
            parts = search.leave_out(some).unwrap_or(parts);
        }
        if search.found.scenario == before || search.found.runs >= search.most {
            return Some(search.found);
        }
    }
}

fn is_kind(part: Part) -> bool {
    matches!(part, Part::Kind(_))
}

fn is_event(part: Part) -> bool {
    matches!(part, Part::Event(_))
}

fn is_fault(part: Part) -> bool {
    matches!(part, Part::Fault(..))
}

// === impl Search ===

impl Search<'_> {
    /// Tries these parts in runs, each half as long as the one before. Returns what the last world that
    /// went wrong consisted of.
    fn leave_out(&mut self, mut parts: Vec<Part>) -> Option<Vec<Part>> {
        let mut left = None;
        let mut size = parts.len();
        while size > 0 {
            let mut at = 0;
            while at < parts.len() {
                if self.found.runs >= self.most {
                    return left;
                }
                let end = (at + size).min(parts.len());
                if let Some(consists_of) = self.goes_wrong_without(&parts[at..end]) {
                    parts.drain(at..end);
                    left = Some(consists_of);
                } else {
                    at = end;
                }
            }
            size /= 2;
        }
        left
    }

    fn goes_wrong_without(&mut self, parts: &[Part]) -> Option<Vec<Part>> {
        let mut scenario = self.found.scenario.clone();
        for part in parts {
            scenario.without.leave_out(*part);
        }
        self.found.runs += 1;
        let report = run(&scenario, self.switches, false);
        let wrong = report.wrong?;
        self.found = Shrunk { scenario, wrong, runs: self.found.runs };
        (self.seen)(&self.found);
        Some(report.parts)
    }
}
