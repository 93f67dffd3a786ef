//! Figures without noise that may not rise: a small text file that is committed, and the rule by which a test compares with it.
//!
//! A figure that is more than 5 % above the committed one fails the test. `make guards-update` measures all of them and writes the
//! file anew, which is a change that everybody sees.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, ensure};

use crate::{stages::Settings, traffic::Size};

/// A figure may rise by so much before it fails.
const MARGIN: f64 = 0.05;
const HEAD: &str = "\
# What an event costs, counted without noise (crates/bench/tests). A figure that is more than 5 % above its line here fails
# `make test`; `make guards-update` measures them and writes this file.
#   allocations   of the heap, an event, in the machine of the role; plain_: an event that changes nothing but counters
#                 journeys_1000, segments_1000: with so many of them instead of 30 and 50
#   instructions  an event, by callgrind, in the build of `make test`
#   append_bytes  to Kafka, commit_bytes to the store, an event; appends, commits, entities, reads: a thousand events
";

/// Figures by name.
pub type Figures = BTreeMap<String, f64>;

/// How measured figures stand to the committed ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Those that have risen too far, and those without a line.
    pub worse: Vec<String>,
    /// Those that have fallen as far: the file can be written anew.
    pub better: Vec<String>,
}

/// The committed file.
pub fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("guards.txt")
}

/// The input of every guard, but for how much of it there is: of so many people, all of whom have been there before.
pub fn settings(people: u64, run_in: usize, events: usize) -> Settings {
    let (size, known) = (Size::Of(people), people);
    Settings { seed: 7, size, known, events, run_in, frame: 100, per_millisecond: 10, partitions: 4, journeys: 30, segments: 50 }
}

/// Whether `WAYPOST_GUARDS=write` asks for the file to be written.
pub fn is_update() -> bool {
    std::env::vars().any(|(name, value)| name == "WAYPOST_GUARDS" && value == "write")
}

/// Writes the measured figures into the file, or compares them with it.
///
/// # Errors
/// If one has risen, or the file cannot be read or written.
pub fn keep(measured: &Figures, write: bool) -> anyhow::Result<Comparison> {
    let file = file();
    let text = if write { fs::read_to_string(&file).unwrap_or_default() } else { fs::read_to_string(&file)? };
    let mut committed = parse(&text).with_context(|| format!("{}", file.display()))?;
    if write {
        committed.extend(measured.iter().map(|(name, value)| (name.clone(), *value)));
        fs::write(&file, shown(&committed))?;
        return Ok(Comparison::default());
    }
    let comparison = compare(&committed, measured);
    ensure!(
        comparison.worse.is_empty(),
        "an event costs more than it did:\n  {}\nIf that is meant: make guards-update, and commit {}",
        comparison.worse.join("\n  "),
        file.display()
    );
    Ok(comparison)
}

fn parse(text: &str) -> anyhow::Result<Figures> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let (name, value) = line.split_once(char::is_whitespace).with_context(|| format!("no figure: {line}"))?;
            Ok((name.to_owned(), value.trim().parse().with_context(|| format!("no figure: {line}"))?))
        })
        .collect()
}

fn shown(figures: &Figures) -> String {
    let lines: Vec<String> = figures.iter().map(|(name, value)| format!("{name:<32}{value:>12.2}\n")).collect();
    format!("{HEAD}{}", lines.concat())
}

fn compare(committed: &Figures, measured: &Figures) -> Comparison {
    let mut comparison = Comparison::default();
    for (name, now) in measured {
        match committed.get(name) {
            None => comparison.worse.push(format!("{name}: {now:.2}, and no committed figure")),
            Some(then) => {
                let line = || format!("{name}: {then:.2} before, {now:.2} now ({:+.1} %)", (now / then - 1.0) * 100.0);
                // what is rounded to two places may be off by half of the last
                if *now > then * (1.0 + MARGIN) + 0.005 {
                    comparison.worse.push(line());
                } else if *now < then * (1.0 - MARGIN) - 0.005 {
                    comparison.better.push(line());
                }
            }
        }
    }
    comparison
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(all: &[(&str, f64)]) -> Figures {
        all.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn a_figure_may_rise_by_a_twentieth() {
        let committed = figures(&[("a", 100.0), ("b", 0.0)]);
        assert_eq!(compare(&committed, &figures(&[("a", 104.9), ("b", 0.0)])), Comparison::default());
        assert_eq!(compare(&committed, &figures(&[("a", 105.1)])).worse.len(), 1);
        assert_eq!(compare(&committed, &figures(&[("b", 0.01)])).worse.len(), 1);
        assert_eq!(compare(&committed, &figures(&[("c", 1.0)])).worse.len(), 1);
        assert_eq!(compare(&committed, &figures(&[("a", 90.0)])).better.len(), 1);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let all = figures(&[("identity.allocations", 12.25), ("identity.commits", 0.5)]);
        assert_eq!(parse(&shown(&all)).unwrap(), all);
        assert!(parse("identity.allocations many").is_err());
    }
}
