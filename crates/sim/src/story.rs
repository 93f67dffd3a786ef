//! What happened in a world: a digest of every step, the milestones in words, and counts.

use std::{collections::BTreeMap, fmt};

use waypost_runtime::machine::Counters;
use waypost_types::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use crate::faults::Dice;

/// A step is told in so many numbers at most.
const MOST_FACTS: usize = 4;

/// What happened, in order.
#[derive(Clone, Debug, Default)]
pub struct Story {
    lines: Vec<String>,
    told: bool,
    start: Timestamp,
    digest: u64,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Worlds.
    pub worlds: u64,
    /// Small things that happened.
    pub steps: u64,
    /// Events appended, repeats not counted.
    pub events: u64,
    /// Claims that the store granted.
    pub takeovers: u64,
    /// Times a store was found rewound or moved.
    pub rewinds: u64,
    /// Sections dropped behind a gap.
    pub gaps: u64,
    /// Records dropped as already had.
    pub repeats: u64,
    /// Frames folded.
    pub frames: u64,
    /// Records folded.
    pub records: u64,
    /// Times a producer was recreated.
    pub producer_resets: u64,
    /// Worlds in which a partition halted over what was lost.
    pub halts: u64,
    /// Times a process left its group and joined it again.
    pub rejoins: u64,
    /// Parts of stored states compared with their digests.
    pub audits: u64,
    /// Commits applied.
    pub commits: u64,
    /// Profiles erased, their addresses suppressed.
    pub erases: u64,
    /// Profiles that expired: the same without suppression.
    pub expires: u64,
    /// Identifiers that began a new life because they were detached.
    pub detaches: u64,
    /// Tombstones buried with the profile they lead to.
    pub buries: u64,
    /// Events that came to somebody who was erased, and were answered.
    pub answered: u64,
    /// Events that fell with the node at which they waited.
    pub fallen: u64,
    /// Sends taken back after they were decided.
    pub recalls: u64,
    /// Sends that went out although they were taken back.
    pub raced: u64,
    /// Messages attempted behind a suppression of their address, for which nothing was called.
    pub fenced: u64,
    /// Profiles that moved.
    pub merges: u64,
    /// Sends decided.
    pub sends: u64,
    /// Reminders that had to be decided, and were.
    pub kept: u64,
    /// Calls of providers.
    pub calls: u64,
    /// Calls that a provider knew by their key: it had done them already.
    pub known_keys: u64,
    /// Sends of which nobody knows what became.
    pub unknowns: u64,
    /// Timers fired.
    pub timers: u64,
    /// Divergences that a chain found.
    pub divergences: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Partitions that changed to another engine.
    pub engines: u64,
    /// Times a partition halted because its process lacked an engine.
    pub barriers: u64,
    /// People kept in parts because together they would have too many identifiers.
    pub limited: u64,
    /// People kept in parts because they have two user ids.
    pub two_users: u64,
    /// Holds given up because too much waited.
    pub overflows: u64,
    /// Events that counted again because their id had fallen out of the window.
    pub forgotten_ids: u64,
    /// Look-ups of what became of a call.
    pub look_ups: u64,
    /// Messages that went out again because their key was forgotten.
    pub forgotten_keys: u64,
    /// Processes that died of a record.
    pub deaths: u64,
    /// Times a partition halted at the record that kills, and named it.
    pub killers: u64,
    /// Records set aside by an operator.
    pub skips: u64,
    /// Skips refused, because somebody had folded the record.
    pub refused_skips: u64,
    /// What operators did and what came of it, by its name.
    pub operated: BTreeMap<&'static str, u64>,
    /// Injected faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
}

// === impl Story ===

impl Story {
    /// An empty one; its lines are kept only if it is to be `told`.
    pub fn new(start: Timestamp, told: bool) -> Self {
        Self { lines: Vec::new(), told, start, digest: 0 }
    }

    /// Whether its lines are kept.
    pub fn is_told(&self) -> bool {
        self.told
    }

    /// A milestone.
    pub fn tell(&mut self, now: Timestamp, line: impl FnOnce() -> String) {
        if self.told {
            let ms = now.since(self.start).millis();
            self.lines.push(format!("{:>4}.{:03} s  {}", ms / 1_000, ms % 1_000, line()));
        }
    }

    /// Every step, told or not.
    pub fn note(&mut self, facts: &[u64]) {
        let (mut bytes, mut end) = ([0; 8 * (1 + MOST_FACTS)], 0);
        for fact in [self.digest].iter().chain(facts) {
            bytes[end..end + 8].copy_from_slice(&fact.to_be_bytes());
            end += 8;
        }
        self.digest = xxh3_64(&bytes[..end]);
    }

    /// Of all that happened.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The milestones.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

// === impl Tally ===

impl Tally {
    /// What took place of the faults that these dice decided.
    pub fn faults(&mut self, dice: &Dice) {
        for (fault, count) in dice.counts() {
            *self.faults.entry(fault.name()).or_default() += count;
        }
    }

    /// Operators, or what they held, did this once more.
    pub fn did(&mut self, what: &'static str) {
        *self.operated.entry(what).or_default() += 1;
    }

    /// What a machine counted in its life.
    pub fn machine(&mut self, counters: &Counters) {
        self.rewinds += counters.rewound;
        self.gaps += counters.gaps;
        self.repeats += counters.repeats;
        self.commits += counters.commits;
        self.audits += counters.audits;
        self.frames += counters.frames;
        self.records += counters.records;
        self.producer_resets += counters.producer_resets;
        self.timers += counters.timers;
        self.divergences += counters.divergences;
        self.dead_letters += counters.dead_letters;
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        let Self { worlds, steps, events, takeovers, rewinds, gaps, repeats, frames, records, producer_resets, commits, .. } = other;
        let Self {
            merges, erases, sends, recalls, raced, kept, calls, unknowns, timers, divergences, dead_letters, rejoins, audits, ..
        } = other;
        self.worlds += worlds;
        self.steps += steps;
        self.events += events;
        self.takeovers += takeovers;
        self.rewinds += rewinds;
        self.gaps += gaps;
        self.repeats += repeats;
        self.frames += frames;
        self.records += records;
        self.producer_resets += producer_resets;
        self.commits += commits;
        self.rejoins += rejoins;
        self.halts += other.halts;
        self.known_keys += other.known_keys;
        self.audits += audits;
        self.merges += merges;
        self.erases += erases;
        self.expires += other.expires;
        self.detaches += other.detaches;
        self.buries += other.buries;
        self.answered += other.answered;
        self.fallen += other.fallen;
        self.sends += sends;
        self.recalls += recalls;
        self.raced += raced;
        self.fenced += other.fenced;
        self.kept += kept;
        self.calls += calls;
        self.unknowns += unknowns;
        self.timers += timers;
        self.divergences += divergences;
        self.dead_letters += dead_letters;
        self.engines += other.engines;
        self.barriers += other.barriers;
        self.limited += other.limited;
        self.two_users += other.two_users;
        self.overflows += other.overflows;
        self.forgotten_ids += other.forgotten_ids;
        self.look_ups += other.look_ups;
        self.forgotten_keys += other.forgotten_keys;
        self.deaths += other.deaths;
        self.killers += other.killers;
        self.skips += other.skips;
        self.refused_skips += other.refused_skips;
        for (what, count) in &other.operated {
            *self.operated.entry(what).or_default() += count;
        }
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worlds, steps, events, merges, erases, sends, recalls, raced, fenced, kept, calls, known_keys, unknowns, .. } = self;
        writeln!(f, "{worlds} worlds, {steps} steps")?;
        writeln!(f, "people: {events} events, {merges} merges")?;
        let Self { expires, detaches, buries, answered, fallen, .. } = self;
        writeln!(
            f,
            "privacy: {erases} erases, {expires} expires, {detaches} detaches, {buries} tombstones buried, {answered} events answered, {fallen} fallen"
        )?;
        writeln!(
            f,
            "sends: {sends} decided ({kept} foreseen), {recalls} recalled, {raced} raced, {fenced} fenced, {calls} calls, {known_keys} known by key, {unknowns} unknown"
        )?;
        let Self { frames, records, commits, timers, takeovers, rewinds, gaps, repeats, .. } = self;
        writeln!(f, "folded: {frames} frames of {records} records, {timers} timers, {commits} commits")?;
        writeln!(f, "survived: {takeovers} takeovers, {rewinds} rewinds, {gaps} gaps, {repeats} repeats")?;
        let Self { producer_resets, rejoins, audits, halts, .. } = self;
        writeln!(f, "also: {producer_resets} producers discarded, {rejoins} rejoins, {audits} audits, {halts} halts over what was lost")?;
        let Self { limited, two_users, overflows, forgotten_ids, look_ups, forgotten_keys, engines, barriers, .. } = self;
        writeln!(
            f,
            "limits: {limited} people in parts, {two_users} by two user ids, {overflows} holds given up, {forgotten_ids} ids forgotten"
        )?;
        writeln!(f, "providers: {look_ups} look-ups, {forgotten_keys} keys forgotten")?;
        writeln!(f, "engines: {engines} partitions changed, {barriers} halts at the barrier")?;
        let Self { deaths, killers, skips, refused_skips, dead_letters, .. } = self;
        writeln!(
            f,
            "poison: {deaths} deaths, {killers} halts at who kills, {skips} skipped, {refused_skips} not, {dead_letters} dead letters"
        )?;
        let named = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
        };
        if !self.operated.is_empty() {
            writeln!(f, "operators: {}", named(&self.operated))?;
        }
        write!(f, "faults: {}", if self.faults.is_empty() { "none".to_owned() } else { named(&self.faults) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_depends_on_every_step_and_its_place() {
        let digest = |steps: &[&[u64]]| {
            let mut story = Story::default();
            for step in steps {
                story.note(step);
            }
            story.digest()
        };
        assert_ne!(digest(&[&[1], &[2]]), digest(&[&[2], &[1]]));
        assert_eq!(digest(&[&[1], &[2]]), digest(&[&[1], &[2]]));
    }
}
