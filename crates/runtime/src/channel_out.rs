//! Sending a partition channel: numbered outputs stay in memory until a contiguous prefix of them is
//! acknowledged (PROTOCOL §7.2).
//!
//! Behind a failure, later acknowledgements are void, because the receiver dropped those records as a gap:
//! everything from the first unacknowledged output on is sent again.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use waypost_codec::frame::Record;

use crate::processor::DeadLetter;

/// One numbered output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its number.
    pub seq: u64,
    /// The chain after it.
    pub chain: u64,
    /// Bytes, roughly.
    pub size: usize,
    /// What is sent.
    pub content: Content,
}

/// What an output carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A record of an inbox.
    Record(Arc<Record>),
    /// A record of a public topic.
    Public {
        /// Kafka key.
        key: Bytes,
        /// CloudEvents attributes.
        headers: Vec<(String, String)>,
        /// Schema version.
        version: u32,
        /// Avro body.
        body: Bytes,
    },
    /// A dead letter.
    Dead {
        /// The letter.
        letter: DeadLetter,
        /// Role, partition and position.
        origin: String,
    },
}

/// A run of outputs, by number, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First.
    pub first: u64,
    /// Last.
    pub end: u64,
}

/// Outputs of one worker's life to one destination, from the first unacknowledged on.
#[derive(Clone, Debug)]
pub struct Window {
    acknowledged: u64,
    items: VecDeque<(Item, bool)>,
    unsent: usize,
    bytes: usize,
    unsent_bytes: usize,
}

// === impl Window ===

impl Window {
    /// A window behind output `acknowledged`.
    pub fn new(acknowledged: u64) -> Self {
        Self { acknowledged, items: VecDeque::new(), unsent: 0, bytes: 0, unsent_bytes: 0 }
    }

    /// Every output up to this number is in its log.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Bytes waiting for acknowledgement.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes not sent yet.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// Whether something is to be sent.
    pub fn has_unsent(&self) -> bool {
        self.unsent < self.items.len()
    }

    /// Whether everything is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds the next output.
    pub fn put(&mut self, item: Item) {
        debug_assert_eq!(item.seq, self.acknowledged + self.items.len() as u64 + 1, "numbered in order");
        self.bytes += item.size;
        self.unsent_bytes += item.size;
        self.items.push_back((item, false));
    }

    /// Takes the next unsent outputs, one at least, as long as `fits` says so.
    pub fn send(&mut self, mut fits: impl FnMut(&Item) -> bool) -> Vec<Item> {
        // Acknowledged ones among them stand here only where the contiguous rule is off.
        while self.items.get(self.unsent).is_some_and(|(_, acknowledged)| *acknowledged) {
            self.unsent += 1;
        }
        let mut taken: Vec<Item> = Vec::new();
        while let Some((item, acknowledged)) = self.items.get(self.unsent) {
            if *acknowledged || !fits(item) {
                break;
            }
            self.unsent_bytes -= item.size;
            taken.push(item.clone());
            self.unsent += 1;
        }
        taken
    }

    /// Counts an acknowledgement; only a contiguous prefix moves [`Self::acknowledged`].
    pub fn acknowledge(&mut self, run: Run) {
        for seq in run.first.max(self.acknowledged + 1)..=run.end {
            let index = usize::try_from(seq - self.acknowledged - 1).unwrap_or(usize::MAX);
            let Some((_, acknowledged)) = self.items.get_mut(index) else { break };
            *acknowledged = true;
        }
        while let Some((item, true)) = self.items.front() {
            self.bytes -= item.size;
            self.acknowledged = item.seq;
            if self.unsent == 0 {
                // Acknowledged before it was sent again: possible only with acknowledgements of a discarded producer.
                self.unsent_bytes = self.unsent_bytes.saturating_sub(item.size);
            } else {
                self.unsent -= 1;
            }
            self.items.pop_front();
        }
    }

    /// After a failure: everything behind the acknowledged prefix is to be sent again.
    pub fn rewind(&mut self, contiguous: bool) {
        self.unsent = 0;
        self.unsent_bytes = 0;
        for (item, acknowledged) in &mut self.items {
            *acknowledged &= !contiguous;
            if !*acknowledged {
                self.unsent_bytes += item.size;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use waypost_types::{Timestamp, WorkspaceId};

    use super::*;

    fn window(acknowledged: u64, end: u64) -> Window {
        let mut window = Window::new(acknowledged);
        for seq in acknowledged + 1..=end {
            let record = Record::new(1, WorkspaceId::new(1), [0; 16], Bytes::new(), Timestamp::ZERO, Bytes::new());
            window.put(Item { seq, chain: seq, size: 10, content: Content::Record(Arc::new(record)) });
        }
        window
    }

    fn sent(window: &mut Window) -> Vec<u64> {
        window.send(|_| true).iter().map(|item| item.seq).collect()
    }

    #[test]
    fn only_a_contiguous_prefix_counts() {
        let mut window = window(4, 8);
        assert_eq!(sent(&mut window), [5, 6, 7, 8]);
        window.acknowledge(Run { first: 7, end: 8 });
        assert_eq!((window.acknowledged(), window.bytes()), (4, 40));
        window.acknowledge(Run { first: 5, end: 6 });
        assert_eq!((window.acknowledged(), window.is_empty()), (8, true));
    }

    #[test]
    fn after_a_failure_everything_behind_the_prefix_goes_again() {
        let mut window = window(0, 5);
        sent(&mut window);
        window.acknowledge(Run { first: 1, end: 2 });
        window.acknowledge(Run { first: 4, end: 4 });
        window.rewind(true);
        assert_eq!(window.unsent_bytes(), 30);
        assert_eq!(sent(&mut window), [3, 4, 5]);
        window.acknowledge(Run { first: 3, end: 3 });
        assert_eq!(window.acknowledged(), 3, "the acknowledgement of 4 was void");
    }

    #[test]
    fn a_frame_takes_what_fits() {
        let mut window = window(0, 3);
        let mut left = 2;
        let first = window.send(|_| {
            left -= 1;
            left >= 0
        });
        assert_eq!(first.len(), 2);
        assert_eq!(sent(&mut window), [3]);
        assert!(!window.has_unsent());
    }

    #[test]
    fn acknowledgements_of_other_numbers_do_no_harm() {
        let mut window = window(4, 5);
        sent(&mut window);
        window.acknowledge(Run { first: 1, end: 4 });
        window.acknowledge(Run { first: 6, end: 9 });
        assert_eq!(window.acknowledged(), 4);
    }
}
