//! A world's name: its seed, and what of it is left out.
//!
//! A seed says everything; but a world that goes wrong is easier to read with only the faults and events that it
//! takes. `412/kill,zombie.3,m7-9` is the world of seed 412 without any kill, without its fourth zombie and without
//! the events 7, 8 and 9.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::faults::Fault;

/// A seed, and what is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scenario {
    /// Which world.
    pub seed: u64,
    /// Less than it holds.
    pub without: Without,
}

/// What is left out of a world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Without {
    kinds: BTreeSet<Fault>,
    faults: BTreeSet<(Fault, u32)>,
    events: BTreeSet<u32>,
}

/// One thing that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All faults of a kind.
    Kind(Fault),
    /// The fault of this kind that would be the n-th, from 0.
    Fault(Fault, u32),
    /// The n-th event of the workload, from 0.
    Event(u32),
}

// === impl Scenario ===

impl Scenario {
    /// The whole world.
    pub fn new(seed: u64) -> Self {
        Self { seed, without: Without::default() }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seed)?;
        if self.without == Without::default() { Ok(()) } else { write!(f, "/{}", self.without) }
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (seed, without) = text.split_once('/').unwrap_or((text, ""));
        let seed = seed.parse().map_err(|_| format!("`{seed}` is no seed; write a number, or a number, a slash and what is left out"))?;
        Ok(Self { seed, without: Without::parse(without)? })
    }
}

// === impl Without ===

impl Without {
    /// From its text: parts between commas; empty: nothing is left out.
    ///
    /// # Errors
    /// The part that is none, and what would be one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut without = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            for part in parts(part)? {
                without.leave_out(part);
            }
        }
        Ok(without)
    }

    /// Leaves out more.
    pub fn leave_out(&mut self, part: Part) {
        match part {
            Part::Kind(fault) => drop(self.kinds.insert(fault)),
            Part::Fault(fault, n) => drop(self.faults.insert((fault, n))),
            Part::Event(n) => drop(self.events.insert(n)),
        }
    }

    /// Whether this fault is left out.
    pub fn fault(&self, fault: Fault, n: u32) -> bool {
        self.kinds.contains(&fault) || (!self.faults.is_empty() && self.faults.contains(&(fault, n)))
    }

    /// Whether this part is left out.
    pub fn has(&self, part: Part) -> bool {
        match part {
            Part::Kind(fault) => self.kinds.contains(&fault),
            Part::Fault(fault, n) => self.fault(fault, n),
            Part::Event(n) => self.event(n),
        }
    }

    /// Whether this event is left out.
    pub fn event(&self, n: u32) -> bool {
        self.events.contains(&n)
    }
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let numbers = |text: &str| -> Option<Vec<u32>> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some((first.parse().ok()?..=last.parse().ok()?).collect())
    };
    if let Some(numbers) = text.strip_prefix('m').and_then(numbers) {
        return Ok(numbers.into_iter().map(Part::Event).collect());
    }
    let (name, occasions) = text.split_once('.').map_or((text, None), |(name, numbers)| (name, Some(numbers)));
    let unknown = || {
        let names: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        format!("`{text}` is nothing to leave out; write m<n> for an event, or <fault> or <fault>.<n>, with one of: {}", names.join(" "))
    };
    let fault = *Fault::ALL.iter().find(|fault| fault.name() == name).ok_or_else(unknown)?;
    match occasions {
        None => Ok(vec![Part::Kind(fault)]),
        Some(occasions) => {
            let occasions = numbers(occasions).ok_or_else(unknown)?;
            Ok(occasions.into_iter().map(|n| Part::Fault(fault, n)).collect())
        }
    }
}

impl fmt::Display for Without {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts: Vec<String> = self.kinds.iter().map(|fault| fault.name().to_owned()).collect();
        for fault in Fault::ALL.iter().filter(|fault| !self.kinds.contains(fault)) {
            let occasions = self.faults.iter().filter(|(kind, _)| kind == fault).map(|(_, n)| *n);
            texts.extend(ranges(occasions).into_iter().map(|range| format!("{}.{range}", fault.name())));
        }
        texts.extend(ranges(self.events.iter().copied()).into_iter().map(|range| format!("m{range}")));
        write!(f, "{}", texts.join(","))
    }
}

/// `1-3` for 1, 2, 3.
fn ranges(numbers: impl Iterator<Item = u32>) -> Vec<String> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for n in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(n) => *last = n,
            Some(_) | None => ranges.push((n, n)),
        }
    }
    ranges.into_iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_its_text() {
        for text in ["412", "412/kill", "7/append-lost.0-2,zombie.3,m7-9,m12", "3/starved,kill,rewind.5"] {
            let scenario: Scenario = text.parse().unwrap();
            let again: Scenario = scenario.to_string().parse().unwrap();
            assert_eq!(scenario, again, "{text}");
        }
        let scenario: Scenario = "412/kill,zombie.3,m7-9".parse().unwrap();
        assert_eq!(scenario.to_string(), "412/kill,zombie.3,m7-9");
        assert!(scenario.without.fault(Fault::Kill, 8) && scenario.without.event(8) && !scenario.without.event(10));
    }

    #[test]
    fn what_cannot_be_left_out_is_refused_with_what_can() {
        assert!("x".parse::<Scenario>().unwrap_err().contains("seed"));
        assert!("1/nonsense".parse::<Scenario>().unwrap_err().contains("zombie"));
        assert!("1/kill.x".parse::<Scenario>().is_err());
    }
}
