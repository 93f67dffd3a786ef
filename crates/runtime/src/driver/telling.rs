//! What is told of records whose trace is kept, by OpenTelemetry's names for messaging: of each its fold, and of each commit all that it
//! covers.

use std::collections::{BTreeMap, VecDeque};

use waypost_types::{
    Timestamp,
    trace::{SpanKind, Told, TraceContext, Value},
};

use super::Driver;
use crate::{machine::Traced, ports::Offset};

/// Links of one commit; OpenTelemetry's default for a span.
const LINKS: usize = 128;

/// Folds of kept traces that no commit covers yet, by partition.
#[derive(Debug, Default)]
pub(super) struct Uncommitted(BTreeMap<u32, Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// Offset of the frame, and the place of the fold; in their order.
    folds: VecDeque<(Offset, TraceContext)>,
    /// The commit under way: what it covers ends before this offset, and when it was begun.
    commit: Option<(Offset, Timestamp)>,
}

// === impl Uncommitted ===

impl Uncommitted {
    fn add(&mut self, partition: u32, offset: Offset, place: TraceContext) {
        let folds = &mut self.0.entry(partition).or_default().folds;
        // folded again, after the store moved back
        while folds.back().is_some_and(|(last, _)| *last > offset) {
            folds.pop_back();
        }
        if folds.len() < LINKS {
            folds.push_back((offset, place));
        }
    }

    /// A commit begins.
    pub(super) fn begin(&mut self, partition: u32, next: Offset, now: Timestamp) {
        // Folds of this very turn may be told of behind it.
        self.0.entry(partition).or_default().commit = Some((next, now));
    }

    /// It is done: when it was begun, and what it covers.
    fn end(&mut self, partition: u32) -> Option<(Timestamp, Vec<TraceContext>)> {
        let waiting = self.0.get_mut(&partition)?;
        let (next, from) = waiting.commit.take()?;
        let covered = waiting.folds.partition_point(|(offset, _)| *offset < next);
        let places = waiting.folds.drain(..covered).map(|(_, place)| place).collect();
        if waiting.folds.is_empty() {
            self.0.remove(&partition);
        }
        Some((from, places))
    }

    /// The partition is somebody else's, who folds the rest again.
    pub(super) fn forget(&mut self, partition: u32) {
        self.0.remove(&partition);
    }
}

// === impl Driver ===

impl Driver {
    /// Tells what was folded since.
    pub(super) fn tell_traced(&mut self) {
        let traced = self.machine.take_traced();
        if traced.is_empty() {
            return;
        }
        let until = self.ports.clock.now();
        let role = self.machine.role();
        let inbox = role.inbox().unwrap_or_default();
        let (topic, layout) = (format!("{}{inbox}", self.settings.prefix), self.settings.install.layout);
        let group = format!("{}waypost.{layout}.{role}", self.settings.prefix);
        for Traced { partition, position, kind, sent, here, appended, at } in traced {
            self.uncommitted.add(partition, position.offset, here);
            let number = |n: u64| Value::Number(i64::try_from(n).unwrap_or(i64::MAX));
            self.ports.traces.tell(Told {
                name: format!("process {topic}"),
                kind: SpanKind::Consumer,
                context: here,
                parent: Some(sent),
                links: Vec::new(),
                from: at,
                until,
                attributes: vec![
                    ("messaging.system", Value::Text("kafka".to_owned())),
                    ("messaging.operation.type", Value::Text("process".to_owned())),
                    ("messaging.destination.name", Value::Text(topic.clone())),
                    ("messaging.destination.partition.id", Value::Text(partition.to_string())),
                    ("messaging.consumer.group.name", Value::Text(group.clone())),
                    ("messaging.kafka.offset", number(position.offset)),
                    ("waypost.role", Value::Text(role.to_string())),
                    ("waypost.record.index", number(u64::from(position.index))),
                    ("waypost.record.kind", Value::Number(i64::from(kind))),
                    ("waypost.waited_ms", Value::Number(at.since(appended).millis())),
                ],
                failed: false,
            });
        }
    }

    /// Tells of a commit that is done, if it covers folds of kept traces: a place in the first one's trace, with links to all.
    pub(super) fn tell_committed(&mut self, partition: u32) {
        let Some((from, links)) = self.uncommitted.end(partition) else { return };
        let Some(first) = links.first().copied() else { return };
        let inbox = self.machine.role().inbox().unwrap_or_default();
        let topic = format!("{}{inbox}", self.settings.prefix);
        let count = i64::try_from(links.len()).unwrap_or(i64::MAX);
        self.ports.traces.tell(Told {
            name: format!("commit {topic}"),
            kind: SpanKind::Client,
            context: first.child(&[b"commit"]),
            parent: Some(first),
            links,
            from,
            until: self.ports.clock.now(),
            attributes: vec![
                ("messaging.system", Value::Text("kafka".to_owned())),
                ("messaging.operation.type", Value::Text("settle".to_owned())),
                ("messaging.destination.name", Value::Text(topic)),
                ("messaging.destination.partition.id", Value::Text(partition.to_string())),
                ("messaging.batch.message_count", Value::Number(count)),
            ],
            failed: false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(of: u8) -> TraceContext {
        TraceContext::new([of; 16], [of; 8]).unwrap()
    }

    #[test]
    fn a_commit_links_to_what_it_covers_and_to_nothing_else() {
        let mut uncommitted = Uncommitted::default();
        assert_eq!(uncommitted.end(3), None, "nothing was traced");
        uncommitted.begin(3, 7, Timestamp::from_millis(40));
        uncommitted.add(3, 6, place(9));
        assert_eq!(uncommitted.end(3), Some((Timestamp::from_millis(40), vec![place(9)])), "told of behind its commit");
        for (offset, of) in [(7, 1), (7, 2), (9, 3)] {
            uncommitted.add(3, offset, place(of));
        }
        uncommitted.add(3, 11, place(4));
        uncommitted.add(3, 9, place(3));
        uncommitted.begin(3, 8, Timestamp::from_millis(50));
        assert_eq!(uncommitted.end(3), Some((Timestamp::from_millis(50), vec![place(1), place(2)])));
        assert_eq!(uncommitted.end(3), None, "no commit is under way");
        uncommitted.begin(3, 10, Timestamp::from_millis(60));
        uncommitted.forget(3);
        assert_eq!(uncommitted.end(3), None, "somebody else's");
    }

    #[test]
    fn links_are_bounded() {
        let mut uncommitted = Uncommitted::default();
        for offset in 0..2 * LINKS as Offset {
            uncommitted.add(0, offset, place(1));
        }
        uncommitted.begin(0, Offset::MAX, Timestamp::from_millis(1));
        assert_eq!(uncommitted.end(0).unwrap().1.len(), LINKS);
        assert!(uncommitted.0.is_empty());
    }
}
