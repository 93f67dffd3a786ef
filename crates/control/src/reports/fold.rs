//! The figures of one partition of a public topic: what is in memory, what is to be written, what is taken in again.
//!
//! A figure is a function of the rows before an offset, and says which offset (`through`); whoever counts gets the same. So any
//! number of processes count every partition, each for itself, and write what they have for those that begin later. That takes
//! neither a group nor a lock:
//!
//! - *Nothing twice.* A row below a figure's own `through` is in it already. After a crash the rows behind the last progress come
//!   again and are added to those figures alone that were not written with them.
//! - *Nothing lost.* A progress is written when the figures it speaks of are acknowledged. It may be any process's and be
//!   overwritten by a late one of a process that was long thought dead: then more rows are read again, and nothing else.
//! - *A late write takes nothing's place.* The writer's life is part of a figure's key, so compaction never lets a life's newer
//!   figure fall for another's older one; of several lives' the one with the greater `through` holds.

use std::collections::{BTreeMap, BTreeSet};

use waypost_runtime::ports::{Delivery, Offset};
use waypost_types::{Span, Timestamp};

use super::{
    measure::{Counted, Figure, Series, Unreadable, What},
    packed::Packed,
    record::{self, Hour, Pair, Place, Progress, Said, Through},
};
use crate::tail::once;

/// In place of an hour: what holds of a version since counting began, and is not forgotten with its hours.
const ALWAYS: u32 = 0;

/// Number of a series, and an hour.
type At = (u32, u32);

/// One partition, counted.
#[derive(Debug)]
pub(crate) struct Fold {
    place: Place,
    /// Of the process that counts.
    life: u64,
    limits: Limits,
    /// First hour that is kept: it only rises.
    oldest: u32,
    series: Names<Series>,
    words: Names<String>,
    cells: BTreeMap<At, Cell>,
    /// Those that are not written as they are.
    changed: BTreeSet<At>,
    progress: Progress,
    /// Of the last written progress.
    written: Option<Through>,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Hours before the newest.
    pub(crate) hours: u32,
    /// Cells: some 100 bytes each. Where there are more, the oldest hours go before their time.
    pub(crate) cells: usize,
}

/// Figures of an hour.
#[derive(Clone, Debug, Default)]
struct Cell {
    through: Through,
    figures: Packed,
}

/// Things and their numbers, in the order in which they came.
#[derive(Debug)]
struct Names<T> {
    all: Vec<T>,
    numbers: BTreeMap<T, u32>,
}

/// What is to be written: first the figures, and when they are acknowledged, the progress.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) figures: Vec<Pair>,
    pub(crate) progress: Pair,
    through: Through,
    cells: BTreeSet<At>,
}

/// The hour of an instant.
pub(crate) fn hour_of(at: Timestamp) -> u32 {
    u32::try_from(at.millis().div_euclid(Span::from_hours(1).millis())).unwrap_or(ALWAYS)
}

/// Where an hour begins.
pub(crate) fn begin_of(hour: u32) -> Timestamp {
    Timestamp::from_millis(i64::from(hour) * Span::from_hours(1).millis())
}

// === impl Fold ===

impl Fold {
    pub(crate) fn new(place: Place, life: u64, limits: Limits) -> Self {
        let (series, words) = (Names::default(), Names::default());
        let (cells, changed, progress) = (BTreeMap::new(), BTreeSet::new(), Progress::default());
        Self { place, life, limits, oldest: ALWAYS, series, words, cells, changed, progress, written: None }
    }

    /// Takes in what some life has written; in any order.
    pub(crate) fn take_in(&mut self, said: Said) {
        match said {
            Said::Progress(progress) => {
                if self.written.is_none_or(|written| written < progress.through) {
                    self.written = Some(progress.through);
                    self.progress = progress;
                    self.forget(self.first_of_time());
                }
            }
            Said::Hour(Hour { series, number: hour, through, figures }) => {
                if hour != ALWAYS && hour < self.oldest {
                    return;
                }
                let at = (self.series.number(series), hour);
                if self.cells.get(&at).is_none_or(|cell| cell.through < through) {
                    let figures = figures.into_iter().map(|(word, amount)| (self.words.number(word), amount)).collect();
                    self.cells.insert(at, Cell { through, figures: Packed::of(figures) });
                    self.bound();
                }
            }
        }
    }

    /// Where to read on in a topic that reaches from `start` to `end`; how many rows have gone before they were counted, and whether
    /// it is another topic than it was.
    pub(crate) fn begin(&mut self, start: Offset, end: Offset) -> (Offset, u64, bool) {
        let Progress { through, once, missed, .. } = &mut self.progress;
        if *through == Through::default() {
            through.offset = start;
            return (start, 0, false);
        }
        let is_new = through.offset > end;
        if is_new {
            *through = Through { epoch: through.epoch + 1, offset: start };
            once.after_gap();
        }
        let gone = start.saturating_sub(through.offset);
        if gone > 0 {
            through.offset = start;
            *missed = missed.saturating_add(gone);
            once.after_gap();
        }
        (through.offset, gone, is_new)
    }

    /// Counts a record of the topic.
    ///
    /// # Errors
    /// A row of a schema that is not known: nothing is counted on from it.
    pub(crate) fn take(&mut self, delivery: &Delivery) -> Result<(), Unreadable> {
        let here = Through { offset: delivery.offset, ..self.progress.through };
        if here < self.progress.through {
            return Ok(());
        }
        if let Some((source, number)) = once::numbered(delivery)
            && self.progress.once.expects(source, number)
        {
            let counted = self.place.0.read(delivery)?;
            self.progress.once.note(source, number);
            if let Some(counted) = counted {
                self.count(here, counted);
            }
        }
        self.progress.through = Through { offset: delivery.offset + 1, ..here };
        let newest = hour_of(delivery.appended);
        if newest > self.progress.newest {
            self.progress.newest = newest;
            self.forget(self.first_of_time());
        }
        Ok(())
    }

    fn count(&mut self, here: Through, counted: Counted) {
        let hour = hour_of(counted.at);
        // What is forgotten does not begin again with a late row.
        if hour == ALWAYS || hour < self.oldest {
            return;
        }
        let whole = Series { step: String::new(), ..counted.series.clone() };
        let series = self.series.number(counted.series);
        self.add((series, hour), here, &counted.figures);
        let turns = |figure: &Figure| matches!(figure.what, What::Entered | What::Exited);
        let lives: Vec<_> = counted.figures.into_iter().filter(turns).map(|figure| Figure { reason: String::new(), ..figure }).collect();
        if !lives.is_empty() {
            let whole = self.series.number(whole);
            self.add((whole, ALWAYS), here, &lives);
        }
    }

    fn add(&mut self, at: At, here: Through, figures: &[Figure]) {
        let cell = self.cells.entry(at).or_default();
        if here < cell.through {
            return;
        }
        cell.through = Through { offset: here.offset + 1, ..here };
        for figure in figures {
            cell.figures.add(self.words.number(figure.word()), figure.amount);
        }
        self.changed.insert(at);
        self.bound();
    }

    /// The first hour that is kept, by time alone.
    fn first_of_time(&self) -> u32 {
        self.progress.newest.saturating_sub(self.limits.hours)
    }

    /// Lets the hours before `oldest` go. That looks at every cell, and mostly there is nothing to let go: none is ever older than
    /// what was the oldest before.
    fn forget(&mut self, oldest: u32) {
        if oldest <= self.oldest {
            return;
        }
        self.oldest = oldest;
        let is_kept = |(_, hour): &At| *hour == ALWAYS || *hour >= oldest;
        self.cells.retain(|at, _| is_kept(at));
        self.changed.retain(is_kept);
    }

    /// Lets the oldest hours go while there is too much, and some more, so that this is seldom done.
    fn bound(&mut self) {
        if self.cells.len() <= self.limits.cells {
            return;
        }
        let mut hours: BTreeMap<u32, usize> = BTreeMap::new();
        for (_, hour) in self.cells.keys().filter(|(_, hour)| *hour != ALWAYS) {
            *hours.entry(*hour).or_default() += 1;
        }
        let mut surplus = self.cells.len().saturating_sub(self.limits.cells - self.limits.cells / 16);
        let mut oldest = self.oldest;
        for (hour, cells) in hours {
            if surplus == 0 {
                break;
            }
            surplus = surplus.saturating_sub(cells);
            oldest = hour + 1;
        }
        self.forget(oldest);
    }

    /// Its topic of figures has gone: everything is written again.
    pub(crate) fn start_over(&mut self) {
        self.changed = self.cells.keys().copied().collect();
        self.written = None;
    }

    /// What has changed since the last batch; nothing where nothing was read since.
    pub(crate) fn batch(&mut self) -> Option<Batch> {
        let through = self.progress.through;
        if self.written == Some(through) || through == Through::default() {
            return None;
        }
        let cells = std::mem::take(&mut self.changed);
        let figures = cells.iter().filter_map(|at| {
            let (cell, series) = (self.cells.get(at)?, self.series.named(at.0)?);
            let figures = cell.figures.iter().filter_map(|(word, amount)| Some((self.words.named(word)?.clone(), amount)));
            let hour = Hour { series: series.clone(), number: at.1, through: cell.through, figures: figures.collect() };
            Some(record::hour(self.place, self.life, hour))
        });
        let figures = figures.collect();
        Some(Batch { figures, progress: record::progress(self.place, &self.progress), through, cells })
    }

    /// A batch is acknowledged.
    pub(crate) fn wrote(&mut self, batch: &Batch) {
        self.written = Some(batch.through);
    }

    /// A batch may not have been written: its figures go with the next.
    pub(crate) fn put_back(&mut self, batch: Batch) {
        self.changed.extend(batch.cells.into_iter().filter(|at| self.cells.contains_key(at)));
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// First offset that is not counted.
    pub(crate) fn next(&self) -> Offset {
        self.progress.through.offset
    }

    pub(crate) fn missed(&self) -> u64 {
        self.progress.missed
    }

    /// First hour that is kept whole.
    pub(crate) fn kept_from(&self) -> u32 {
        self.oldest
    }

    /// Whether anything was counted of such a series.
    pub(crate) fn knows(&self, wanted: impl Fn(&Series) -> bool) -> bool {
        self.series.all.iter().any(wanted)
    }

    /// Tells every figure of the wanted series from one hour until before another: whose, when, its word and amount.
    pub(crate) fn tell(&self, wanted: impl Fn(&Series) -> bool, from: u32, until: u32, mut each: impl FnMut(&Series, u32, &str, i64)) {
        for (number, series) in (0..).zip(&self.series.all).filter(|(_, series)| wanted(series)) {
            for ((_, hour), cell) in self.cells.range((number, from.max(ALWAYS + 1))..(number, until.max(ALWAYS + 1))) {
                self.words_of(cell, |word, amount| each(series, *hour, word, amount));
            }
        }
    }

    /// Entries of the wanted series less their ends, since counting began; runs that had entered before are missing, and below
    /// nothing while they end.
    pub(crate) fn live(&self, wanted: impl Fn(&Series) -> bool) -> i64 {
        let mut live = 0;
        for (number, _) in (0..).zip(&self.series.all).filter(|(_, series)| wanted(series)) {
            if let Some(cell) = self.cells.get(&(number, ALWAYS)) {
                self.words_of(cell, |word, amount| match What::parse(word) {
                    Some((What::Entered, _)) => live += amount,
                    Some((What::Exited, _)) => live -= amount,
                    Some(_) | None => {}
                });
            }
        }
        live
    }

    fn words_of(&self, cell: &Cell, mut each: impl FnMut(&str, i64)) {
        for (word, amount) in cell.figures.iter() {
            if let Some(word) = self.words.named(word) {
                each(word, amount);
            }
        }
    }
}

// === impl Names ===

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { all: Vec::new(), numbers: BTreeMap::new() }
    }
}

impl<T: Clone + Ord> Names<T> {
    fn number(&mut self, name: T) -> u32 {
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push(name.clone());
        self.numbers.insert(name, number);
        number
    }

    fn named(&self, number: u32) -> Option<&T> {
        self.all.get(usize::try_from(number).ok()?)
    }
}

#[cfg(test)]
mod tests;
