//! One producer's life: what is sent, in which frames, what its acknowledgements count for, and what
//! happens when any of them fails (PROTOCOL §7.1, §7.2).
//!
//! An acknowledgement counts only from the producer that is current, and for the life of the worker that
//! put the outputs out. On any error the producer is thrown away, and every window sends again from its
//! first unacknowledged output.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use waypost_codec::frame::{self, Frame, Record};
use waypost_types::{PartitionId, Role, Span, Timestamp};

use crate::{
    channel_out::{Content, Item, Run, Window},
    config::Config,
    machine::{Command, Destination, Produced},
    packer::{Lane, Waits, pack},
    ports::{AppendError, Offset},
};

/// Longest wait before a producer is made anew after repeated failures.
const RESET_PAUSE: Span = Span::from_secs(1);

/// All windows of a machine, and the producer behind them.
#[derive(Debug)]
pub(crate) struct Publisher {
    role: Role,
    lanes: BTreeMap<Destination, Lane>,
    /// Bytes that wait for acknowledgement, by worker.
    unacknowledged: BTreeMap<u32, usize>,
    own: VecDeque<OwnFrame>,
    flights: BTreeMap<u64, Flight>,
    discarded: BTreeMap<u64, Flight>,
    number: u64,
    life: u64,
    state: Producer,
    failures: u32,
    /// When the log last acknowledged anything.
    acknowledged: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Producer {
    /// None was ever asked for.
    Absent,
    /// To be asked for at this instant.
    Broken(Timestamp),
    /// Asked for.
    Coming,
    /// In use.
    Ready,
}

/// A frame that a partition appends to its own inbox.
#[derive(Clone, Debug)]
struct OwnFrame {
    partition: u32,
    what: Own,
    frame: Bytes,
}

/// What a frame to the own inbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// The leader record of this life of a worker.
    Leader(u64),
    /// A tick of this life of a worker.
    Tick(u64),
    /// What jobs brought; appended whoever owns the partition by now.
    Proposals,
}

#[derive(Debug)]
enum Flight {
    Outputs(Destination, Vec<Part>),
    Own(OwnFrame),
}

/// Outputs of one worker's life in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Whose.
    pub(crate) worker: u32,
    /// In which life.
    pub(crate) life: u64,
    /// Which.
    pub(crate) run: Run,
}

/// What an answer of the producer changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Workers whose acknowledged prefix may have moved.
    pub(crate) workers: BTreeSet<u32>,
    /// A frame to the own inbox stands at this offset.
    pub(crate) appended: Option<(u32, Own, Offset)>,
    /// Ticks that must be taken for lost.
    pub(crate) lost_ticks: Vec<(u32, u64)>,
    /// Workers that put out what no producer takes.
    pub(crate) refused: BTreeMap<u32, String>,
    /// The producer was thrown away.
    pub(crate) reset: bool,
}

// === impl Publisher ===

impl Publisher {
    /// Nothing to send, no producer yet.
    pub(crate) fn new(role: Role) -> Self {
        Self {
            role,
            lanes: BTreeMap::new(),
            unacknowledged: BTreeMap::new(),
            own: VecDeque::new(),
            flights: BTreeMap::new(),
            discarded: BTreeMap::new(),
            number: 0,
            life: 0,
            state: Producer::Absent,
            failures: 0,
            acknowledged: Timestamp::ZERO,
        }
    }

    /// Whether what is put goes out now.
    pub(crate) fn ready(&self) -> bool {
        self.state == Producer::Ready
    }

    /// Adds an output of a worker that may wait so long; `before` is the number that its window starts behind.
    pub(crate) fn put(&mut self, waits: Waits, destination: &Destination, worker: u32, life: u64, before: u64, item: Item) {
        let lane = match self.lanes.get_mut(destination) {
            Some(lane) => lane,
            None => self.lanes.entry(destination.clone()).or_default(),
        };
        let size = item.size;
        let forgotten = lane.put(waits, worker, life, before, item);
        let bytes = self.unacknowledged.entry(worker).or_default();
        *bytes = (*bytes + size).saturating_sub(forgotten);
    }

    /// A worker gives its partition back: its outputs wait for no company.
    pub(crate) fn hurry(&mut self, worker: u32) {
        for lane in self.lanes.values_mut() {
            lane.hurry(worker);
        }
    }

    /// Forgets a worker: its outputs, and its own frames but for proposals.
    pub(crate) fn close(&mut self, worker: u32) {
        for lane in self.lanes.values_mut() {
            lane.close(worker);
        }
        self.unacknowledged.remove(&worker);
        self.own.retain(|own| own.partition != worker || own.what == Own::Proposals);
        for flight in self.flights.values_mut() {
            if let Flight::Own(own) = flight
                && own.partition == worker
                && let Own::Leader(life) = own.what
            {
                // Of a life that is over: as little worth repeating as a tick.
                own.what = Own::Tick(life);
            }
        }
    }

    /// Up to which number this worker's outputs to `destination` are acknowledged; none: it put none out.
    pub(crate) fn acknowledged(&self, destination: &Destination, worker: u32) -> Option<u64> {
        self.lanes.get(destination)?.window(worker).map(Window::acknowledged)
    }

    /// Whether the log has acknowledged anything, of whomever, since then.
    pub(crate) fn was_acknowledged_since(&self, instant: Timestamp) -> bool {
        self.acknowledged > instant
    }

    /// Bytes of a worker's outputs that wait for acknowledgement.
    pub(crate) fn unacknowledged_bytes(&self, worker: u32) -> usize {
        self.unacknowledged.get(&worker).copied().unwrap_or(0)
    }

    /// Appends a frame of this worker to its own inbox, waiting behind nothing.
    pub(crate) fn append_own(&mut self, worker: u32, what: Own, records: Vec<Record>) {
        self.own.push_back(OwnFrame { partition: worker, what, frame: Frame::unsourced(records).encode() });
    }

    /// Whether anything of this worker to its own inbox is neither acknowledged nor given up.
    pub(crate) fn own_pending(&self, worker: u32) -> bool {
        self.own.iter().any(|own| own.partition == worker)
            || self.flights.values().any(|f| matches!(f, Flight::Own(own) if own.partition == worker))
    }

    /// Whether nothing waits and nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.own.is_empty() && self.flights.is_empty() && self.lanes.values().all(Lane::is_empty)
    }

    /// When [`Self::flush`] has something to do at the latest.
    pub(crate) fn next_wake(&self, config: &Config) -> Option<Timestamp> {
        match self.state {
            Producer::Broken(until) => Some(until),
            Producer::Absent | Producer::Coming => None,
            Producer::Ready => self.lanes.values().filter_map(|lane| lane.due(config)).min(),
        }
    }

    /// Sends what is to be sent now.
    pub(crate) fn flush(&mut self, now: Timestamp, config: &Config, commands: &mut Vec<Command>) {
        match self.state {
            Producer::Absent if !self.own.is_empty() || self.lanes.values().any(Lane::has_unsent) => self.replace(commands),
            Producer::Broken(until) if until <= now => self.replace(commands),
            Producer::Absent | Producer::Broken(_) | Producer::Coming => return,
            Producer::Ready => {}
        }
        if !self.ready() {
            return;
        }
        while let Some(own) = self.own.pop_front() {
            let destination = Destination::Inbox(PartitionId { role: self.role, index: own.partition });
            commands.push(Command::Produce(self.number, destination, Produced::Frame(own.frame.clone())));
            self.flights.insert(self.number, Flight::Own(own));
            self.number += 1;
        }
        for (destination, lane) in &mut self.lanes {
            match destination {
                Destination::Inbox(_) => {
                    while let Some((sections, parts)) = pack(lane, self.role, now, config) {
                        commands.push(Command::Produce(self.number, destination.clone(), Produced::Frame(frame::encode(&sections))));
                        self.flights.insert(self.number, Flight::Outputs(destination.clone(), parts));
                        self.number += 1;
                    }
                }
                Destination::Public { .. } | Destination::Dead(_) => {
                    for (part, item) in lane.singles(now, config) {
                        commands.push(Command::Produce(self.number, destination.clone(), produced(item.content)));
                        self.flights.insert(self.number, Flight::Outputs(destination.clone(), vec![part]));
                        self.number += 1;
                    }
                }
            }
        }
    }

    fn replace(&mut self, commands: &mut Vec<Command>) {
        self.life += 1;
        self.state = Producer::Coming;
        commands.push(Command::NewProducer(self.life));
    }

    /// The producer of this life is there.
    pub(crate) fn producer_ready(&mut self, life: u64) {
        if life == self.life && self.state == Producer::Coming {
            self.state = Producer::Ready;
        }
    }

    /// The answer to a produce.
    pub(crate) fn produced(&mut self, now: Timestamp, config: &Config, number: u64, result: Result<Offset, AppendError>) -> Report {
        let mut report = Report::default();
        let Some(flight) = self.flights.remove(&number) else {
            if let (Ok(_), Some(Flight::Outputs(destination, parts))) = (&result, self.discarded.remove(&number)) {
                self.acknowledge(&destination, &parts, &mut report);
            }
            return report;
        };
        match result {
            Ok(offset) => {
                self.failures = 0;
                self.acknowledged = now;
                match flight {
                    Flight::Outputs(destination, parts) => {
                        if let Some(lane) = self.lanes.get_mut(&destination) {
                            lane.landed();
                        }
                        self.acknowledge(&destination, &parts, &mut report);
                    }
                    Flight::Own(own) => report.appended = Some((own.partition, own.what, offset)),
                }
            }
            Err(error) => {
                if let (AppendError::TooLarge { .. }, Flight::Outputs(_, parts)) = (&error, &flight) {
                    report.refused = parts.iter().map(|part| (part.worker, error.to_string())).collect();
                }
                if let (false, Flight::Outputs(destination, _)) = (config.rules.whole_producer, &flight) {
                    self.resend(now, config, &destination.clone());
                } else {
                    self.flights.insert(number, flight);
                    self.reset(now, config, &mut report);
                }
            }
        }
        report
    }

    fn acknowledge(&mut self, destination: &Destination, parts: &[Part], report: &mut Report) {
        let Some(lane) = self.lanes.get_mut(destination) else { return };
        for part in parts {
            let freed = lane.acknowledge(*part);
            if let Some(bytes) = self.unacknowledged.get_mut(&part.worker) {
                *bytes = bytes.saturating_sub(freed);
            }
            report.workers.insert(part.worker);
        }
    }

    /// Only what is in flight to one destination is given up; the producer goes on.
    fn resend(&mut self, now: Timestamp, config: &Config, failed: &Destination) {
        self.flights.retain(|_, flight| !matches!(flight, Flight::Outputs(destination, _) if destination == failed));
        if let Some(lane) = self.lanes.get_mut(failed) {
            lane.rewind(now, config.rules.contiguous_acknowledgements);
        }
    }

    /// Everything in flight is given up; windows start again behind their acknowledged prefix.
    fn reset(&mut self, now: Timestamp, config: &Config, report: &mut Report) {
        report.reset = true;
        let mut again = Vec::new();
        for (number, flight) in std::mem::take(&mut self.flights) {
            match flight {
                // A tick may be lost, another will be proposed; a leader record and outcomes may not.
                Flight::Own(own) => match own.what {
                    Own::Tick(life) => report.lost_ticks.push((own.partition, life)),
                    Own::Leader(_) | Own::Proposals => again.push(own),
                },
                Flight::Outputs(..) if config.rules.void_discarded_acknowledgements => {}
                Flight::Outputs(..) => {
                    self.discarded.insert(number, flight);
                }
            }
        }
        for own in again.into_iter().rev() {
            self.own.push_front(own);
        }
        for lane in self.lanes.values_mut() {
            lane.rewind(now, config.rules.contiguous_acknowledgements);
        }
        let pause = if self.failures == 0 { 0 } else { (10_i64 << self.failures.min(10)).min(RESET_PAUSE.millis()) };
        self.failures = self.failures.saturating_add(1);
        self.state = Producer::Broken(now.plus(Span::from_millis(pause)));
    }
}

fn produced(content: Content) -> Produced {
    match content {
        // Not reached: records travel in frames. As a frame of one unsourced record it would be seen at once.
        Content::Record(record) => Produced::Frame(frame::encode(&[(None, vec![record])])),
        Content::Public { key, headers, version, body } => Produced::Public { key, headers, version, body },
        Content::Dead { letter, origin } => Produced::Dead { letter, origin },
    }
}

#[cfg(test)]
mod tests;
