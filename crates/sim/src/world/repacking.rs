//! The same records in other frames: any run of a partition channel may land again, packed with any other.
//!
//! How records fall into frames is chance (PROTOCOL §3.4), and anybody may publish a partition channel again, in
//! whole or in part: a zombie, a replay, a resend after a failure.

use std::collections::BTreeMap;

use waypost_codec::{
    frame::{Frame, Record, Section, Source, chain},
    kind,
};
use waypost_runtime::ports::Append;
use waypost_types::Role;

use super::World;
use crate::{chance::Chance, faults::Fault};

/// Topic and partition that a partition channel leads to, role and partition that it comes from.
type Channel = (String, u32, Role, u32);

/// What has been sent on every partition channel so far: each record, and the chain behind it.
#[derive(Debug, Default)]
pub(super) struct Channels {
    on: bool,
    sent: BTreeMap<Channel, Vec<(Record, u64)>>,
}

// === impl Channels ===

impl Channels {
    /// Learns from now on, if that is of use.
    pub(super) fn new(on: bool) -> Self {
        Self { on, sent: BTreeMap::new() }
    }

    /// What goes into the log.
    pub(super) fn learn(&mut self, append: &Append) {
        if !self.on || append.key.is_some() {
            return;
        }
        // A dead letter is no frame.
        let Ok(frame) = Frame::decode(append.payload.clone()) else { return };
        for Section { source, records } in frame.sections {
            let Some(Source { role, partition, first, .. }) = source else { continue };
            let sent = self.sent.entry((append.topic.clone(), append.partition, role, partition)).or_default();
            for (record, number) in records.into_iter().zip(first..) {
                if number == sent.len() as u64 + 1 {
                    let before = sent.last().map_or(0, |(_, chain)| *chain);
                    let after = chain(before, record.kind, &record.key, &record.body);
                    sent.push((record, after));
                }
            }
        }
    }

    /// Any run that has gone to this partition.
    fn run_to(&self, chance: &mut Chance, topic: &str, partition: u32) -> Option<Section> {
        let ways: Vec<_> = self.sent.iter().filter(|((to, p, ..), _)| to == topic && *p == partition).collect();
        run(chance, &ways)
    }

    /// A frame of one to four runs to one destination.
    fn draw(&self, chance: &mut Chance) -> Option<Append> {
        let nth = chance.index(self.sent.len());
        let ((topic, partition, ..), _) = self.sent.iter().nth(nth)?;
        let ways: Vec<_> = self.sent.iter().filter(|((to, p, ..), _)| to == topic && p == partition).collect();
        let mut sections = Vec::new();
        for _ in 0..chance.small(4) {
            sections.extend(run(chance, &ways));
        }
        let payload = Frame { sections }.encode();
        Some(Append { topic: topic.clone(), partition: *partition, key: None, headers: Vec::new(), payload })
    }
}

/// A run of one of these partition channels.
fn run(chance: &mut Chance, ways: &[(&Channel, &Vec<(Record, u64)>)]) -> Option<Section> {
    let ((_, _, role, from), sent) = chance.pick(ways)?;
    let start = chance.index(sent.len());
    let run = &sent[start..(start + chance.small(6)).min(sent.len())];
    let (_, chain) = run.last()?;
    let source = Source { role: *role, partition: *from, first: start as u64 + 1, chain: *chain };
    Some(Section { source: Some(source), records: run.iter().map(|(record, _)| record.clone()).collect() })
}

// === impl World ===

impl World {
    /// If a switch says so: a leader record goes in one frame with what is queued behind it, between copies of what
    /// was sent before. Returns the frame, and which other sends it carries out.
    pub(super) fn packed(&mut self, i: usize, append: Append) -> (Append, Vec<u64>) {
        let leads = |frame: &Frame| frame.sections.iter().flat_map(|section| &section.records).any(|record| record.kind == kind::LEADER);
        let frame = if self.switches.leaders_alone { None } else { Frame::decode(append.payload.clone()).ok().filter(leads) };
        let Some(mut frame) = frame else { return (append, Vec::new()) };
        let mut with_it = Vec::new();
        self.processes[i].sending.retain(|(number, other)| {
            let there = (&other.topic, other.partition) == (&append.topic, append.partition);
            let Some(other) = Frame::decode(other.payload.clone()).ok().filter(|_| there) else { return true };
            frame.sections.extend(other.sections);
            with_it.push(*number);
            false
        });
        let (topic, partition) = (append.topic.clone(), append.partition);
        let [before, behind] = [(); 2].map(|()| self.channels.run_to(&mut self.other, &topic, partition));
        frame.sections = before.into_iter().chain(frame.sections).chain(behind).collect();
        (Append { payload: frame.encode(), ..append }, with_it)
    }

    pub(super) fn repack(&mut self, chance: &mut Chance) -> bool {
        let Some(append) = self.channels.draw(chance) else { return false };
        self.story.tell(self.clock.now(), || {
            format!("FAULT {}: in other frames, to {}/{}", Fault::Repacked.name(), append.topic, append.partition)
        });
        self.put("somebody", append);
        true
    }
}
