//! Partitions that come and go: an assignment is answered with where each starts, a revocation when
//! all of it is drained (PROTOCOL §6.2).

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;
use tracing::{info, warn};
use waypost_types::{Span, Timestamp};

use super::Driver;
use crate::{
    machine::Input,
    ports::{self, Consumer, Offset},
};

/// Claims may take so long together; a little less than the consumer waits.
const CLAIMS: Span = Span::from_millis(1_800);

/// What is owned, and what is being answered.
#[derive(Debug, Default)]
pub(super) struct Membership {
    pub(super) owned: BTreeSet<u32>,
    assigning: Vec<Assigning>,
    revoking: Vec<Revoking>,
}

#[derive(Debug)]
struct Assigning {
    waiting: BTreeSet<u32>,
    starts: BTreeMap<u32, Option<Offset>>,
    answer: oneshot::Sender<Vec<(u32, Option<Offset>)>>,
    until: Timestamp,
}

#[derive(Debug)]
struct Revoking {
    waiting: BTreeSet<u32>,
    answer: oneshot::Sender<()>,
}

// === impl Membership ===

impl Membership {
    /// A start has become known, or that there is none. Says whether an assignment was waiting for it;
    /// else the consumer has to seek.
    pub(super) fn start(&mut self, partition: u32, start: Option<Offset>) -> bool {
        let Some(assigning) = self.assigning.iter_mut().find(|a| a.waiting.contains(&partition)) else { return false };
        assigning.waiting.remove(&partition);
        assigning.starts.insert(partition, start);
        self.answer();
        true
    }

    /// A partition is drained, or gone by itself.
    pub(super) fn gone(&mut self, partition: u32) {
        self.owned.remove(&partition);
        self.start(partition, None);
        for revoking in &mut self.revoking {
            revoking.waiting.remove(&partition);
        }
        self.answer();
    }

    /// When an assignment has to be answered.
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.assigning.iter().map(|a| a.until).min()
    }

    /// What has no answer by now starts at the end, until a seek.
    pub(super) fn expire(&mut self, now: Timestamp) {
        for assigning in self.assigning.iter_mut().filter(|a| a.until <= now) {
            for partition in std::mem::take(&mut assigning.waiting) {
                info!(partition, "claim has no answer yet");
                assigning.starts.insert(partition, None);
            }
        }
        self.answer();
    }

    /// A consumer that waits no longer for an answer needs none.
    fn answer(&mut self) {
        for done in self.assigning.extract_if(.., |a| a.waiting.is_empty()) {
            drop(done.answer.send(done.starts.into_iter().collect()));
        }
        for done in self.revoking.extract_if(.., |r| r.waiting.is_empty()) {
            done.answer.send(()).unwrap_or_default();
        }
    }
}

// === impl Driver ===

impl Driver {
    /// The consumer is given up, and with it whatever it had.
    pub(super) fn lose_all(&mut self) {
        let partitions: Vec<u32> = self.membership.owned.iter().copied().collect();
        for partition in &partitions {
            self.membership.gone(*partition);
        }
        self.feed(Input::Lost(partitions));
    }

    /// Hears what has happened to the membership.
    pub(super) fn news(&mut self, consumer: &mut Box<dyn Consumer>) {
        while let Some(news) = consumer.membership() {
            match news {
                ports::Membership::Assign { partitions, starts } => {
                    info!(role = %self.machine.role(), ?partitions, "assigned");
                    self.membership.owned.extend(&partitions);
                    let until = self.ports.clock.now().plus(CLAIMS);
                    let waiting = partitions.iter().copied().collect();
                    self.membership.assigning.push(Assigning { waiting, starts: BTreeMap::new(), answer: starts, until });
                    self.membership.answer();
                    self.feed(Input::Assigned(partitions));
                }
                ports::Membership::Revoke { partitions, drained } => {
                    info!(role = %self.machine.role(), ?partitions, "to be given back");
                    let waiting = partitions.iter().copied().collect();
                    self.membership.revoking.push(Revoking { waiting, answer: drained });
                    self.feed(Input::Revoke(partitions));
                }
                ports::Membership::Lost(partitions) => {
                    warn!(role = %self.machine.role(), ?partitions, "lost");
                    for partition in &partitions {
                        self.membership.gone(*partition);
                    }
                    self.feed(Input::Lost(partitions));
                }
                ports::Membership::Failed { partition, error } => {
                    warn!(role = %self.machine.role(), partition, %error, "the log fails a partition");
                    self.feed(Input::LogFailed(partition, error));
                }
            }
            // claims and seeks go out before the next news is heard
            self.perform(consumer);
        }
    }
}
