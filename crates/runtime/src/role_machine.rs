//! The machine of one role in one process: routes inputs to its workers and sends what they put out.

use std::{collections::BTreeMap, fmt};

use waypost_codec::frame::Record;
use waypost_types::{Layout, Role, Timestamp};

use crate::{
    config::Config,
    figures::PartitionFigures,
    machine::{Command, Counters, Input, Machine, Progress, Traced},
    pace::Pace,
    ports::{Entropy, Install},
    processor::{Processor, Proposal},
    publisher::{Own, Publisher, Report},
    worker::{Skips, Turn, Worker, draw},
};

/// All partitions of one role that a process owns.
pub struct RoleMachine<P: Processor> {
    /// A random name, new with every process.
    process: u64,
    config: Config,
    install: Install,
    layout: Layout,
    entropy: Box<dyn Entropy>,
    make: Box<dyn Fn(u32) -> P + Send>,
    workers: BTreeMap<u32, Worker<P>>,
    publisher: Publisher,
    counters: Counters,
    pace: Pace,
    jobs: BTreeMap<u32, usize>,
    lives: u64,
    through: BTreeMap<u32, Timestamp>,
    skips: Skips,
    draining: bool,
    /// Of records that are traced, until somebody asks.
    traced: Vec<Traced>,
}

// === impl RoleMachine ===

impl<P: Processor> RoleMachine<P> {
    /// A machine without partitions; `make` brings the logic of one, anew for each of its lives.
    pub fn new(
        config: Config,
        install: Install,
        layout: Layout,
        mut entropy: Box<dyn Entropy>,
        make: Box<dyn Fn(u32) -> P + Send>,
    ) -> Self {
        let process = entropy.next();
        Self {
            process,
            config,
            install,
            layout,
            entropy,
            make,
            workers: BTreeMap::new(),
            publisher: Publisher::new(P::ROLE),
            counters: Counters::default(),
            pace: Pace::default(),
            jobs: BTreeMap::new(),
            lives: 0,
            through: BTreeMap::new(),
            skips: Skips::new(),
            draining: false,
            traced: Vec::new(),
        }
    }

    /// With the skip list as it stands; later entries come as [`Input::Skips`]. To be given before any partition
    /// is: a listed record is set aside in every life.
    #[must_use]
    pub fn skipping(mut self, skips: Skips) -> Self {
        self.skips = skips;
        self
    }

    /// Least `through` of all identity partitions, once each has told one.
    fn upstream(&self) -> Option<Timestamp> {
        let all = self.through.len() >= self.layout.partitions as usize;
        if P::WATERMARKED && all { self.through.values().min().copied() } else { None }
    }

    /// Does `act` to one worker, if it is here.
    fn with(&mut self, now: Timestamp, commands: &mut Vec<Command>, partition: u32, act: impl FnOnce(&mut Worker<P>, &mut Turn<'_>)) {
        let upstream = self.upstream();
        let Some(worker) = self.workers.get_mut(&partition) else { return };
        let mut turn = Turn {
            now,
            config: &self.config,
            layout: self.layout,
            entropy: &mut *self.entropy,
            commands,
            counters: &mut self.counters,
            pace: &mut self.pace,
            publisher: &mut self.publisher,
            jobs: &mut self.jobs,
            lives: &mut self.lives,
            upstream,
            process: self.process,
            skips: &self.skips,
            traced: &mut self.traced,
        };
        act(worker, &mut turn);
        // A life that was lost begins again, with a processor that knows nothing of the old one.
        while let Some(at) = worker.wants_new_life() {
            worker.start_over(&mut turn, (self.make)(partition), at);
            worker.step(&mut turn);
        }
        if worker.is_gone() {
            self.publisher.close(partition);
            self.workers.remove(&partition);
        }
    }

    /// Does `act`, then whatever follows from it.
    fn step(&mut self, now: Timestamp, commands: &mut Vec<Command>, partition: u32, act: impl FnOnce(&mut Worker<P>, &mut Turn<'_>)) {
        self.with(now, commands, partition, |worker, turn| {
            act(worker, turn);
            worker.step(turn);
        });
    }

    fn step_all(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        for partition in self.workers.keys().copied().collect::<Vec<_>>() {
            self.step(now, commands, partition, |_, _| {});
        }
    }

    fn assigned(&mut self, now: Timestamp, commands: &mut Vec<Command>, partitions: Vec<u32>) {
        for partition in partitions {
            if self.draining {
                commands.push(Command::Gone(partition));
                continue;
            }
            let processor = (self.make)(partition);
            self.workers.entry(partition).or_insert_with(|| Worker::new(partition, processor));
            let again = (self.make)(partition);
            self.step(now, commands, partition, |worker, turn| {
                if worker.life() == 0 {
                    worker.start_over(turn, again, now);
                }
            });
        }
    }

    fn follow(&mut self, now: Timestamp, commands: &mut Vec<Command>, report: Report) {
        self.counters.producer_resets += u64::from(report.reset);
        for (partition, life) in report.lost_ticks {
            self.with(now, commands, partition, |worker, _| worker.tick_lost(life));
        }
        for (partition, why) in report.refused {
            self.with(now, commands, partition, |worker, turn| worker.halt(turn, format!("an output cannot be appended: {why}")));
        }
        if let Some((partition, what, offset)) = report.appended {
            self.step(now, commands, partition, |worker, turn| worker.appended(turn, what, offset));
        }
        for partition in report.workers {
            self.step(now, commands, partition, |_, _| {});
        }
    }

    /// Appends what a job brought to its partition, in frames of their own.
    fn job_done(&mut self, now: Timestamp, partition: u32, proposals: Vec<Proposal>) {
        if let Some(running) = self.jobs.get_mut(&partition) {
            *running = running.saturating_sub(1);
        }
        let (mut records, mut bytes) = (Vec::new(), 0);
        for proposal in proposals {
            let Proposal { workspace, kind, key, body, trace } = proposal;
            let size = key.len() + body.len() + trace.len() + 64;
            if !records.is_empty() && (records.len() >= self.config.frame_records || bytes + size > self.config.frame_bytes) {
                self.publisher.append_own(partition, Own::Proposals, std::mem::take(&mut records));
                bytes = 0;
            }
            bytes += size;
            records.push(Record { trace, ..Record::new(kind, workspace, draw(&mut *self.entropy), key, now, body) });
        }
        if !records.is_empty() {
            self.publisher.append_own(partition, Own::Proposals, records);
        }
    }
}

impl<P: Processor> Machine for RoleMachine<P> {
    fn role(&self) -> Role {
        P::ROLE
    }

    fn handle(&mut self, now: Timestamp, input: Input, commands: &mut Vec<Command>) {
        match input {
            Input::Assigned(partitions) => self.assigned(now, commands, partitions),
            Input::Revoke(partitions) => {
                for partition in partitions {
                    if self.workers.contains_key(&partition) {
                        self.step(now, commands, partition, |worker, turn| worker.drain(turn, turn.config.revoke));
                    } else {
                        commands.push(Command::Gone(partition));
                    }
                }
            }
            Input::Lost(partitions) => {
                for partition in partitions {
                    self.with(now, commands, partition, Worker::lost);
                }
            }
            Input::Delivered(delivery) => {
                let partition = delivery.partition;
                self.with(now, commands, partition, |worker, turn| {
                    if worker.delivered(turn, delivery) {
                        worker.step(turn);
                    }
                });
            }
            Input::LogFailed(partition, error) => self.step(now, commands, partition, |worker, turn| worker.log_failed(turn, &error)),
            Input::Watermarks(partition, start, end) => {
                self.step(now, commands, partition, |worker, turn| worker.watermarks(turn, start, end));
            }
            Input::Claimed(partition, token, reply) => {
                self.step(now, commands, partition, |worker, turn| worker.claimed(turn, token, reply));
            }
            Input::Released(partition, token, _) => self.step(now, commands, partition, |worker, turn| {
                if token == worker.token() {
                    worker.released(turn);
                }
            }),
            Input::Committed(partition, token, reply) => {
                self.step(now, commands, partition, |worker, turn| worker.committed(turn, token, &reply));
            }
            Input::Loaded(partition, token, number, reply) => {
                self.step(now, commands, partition, |worker, turn| worker.loaded(turn, token, number, reply));
            }
            Input::Audited(partition, token, part, reply) => {
                self.step(now, commands, partition, |worker, turn| worker.audited(turn, token, part, reply));
            }
            Input::Deaths(partition, token, reply) => self.step(now, commands, partition, |worker, turn| worker.deaths(turn, token, reply)),
            Input::DeathsNoted(partition, token, reply) => {
                self.step(now, commands, partition, |worker, turn| worker.deaths_noted(turn, token, &reply));
            }
            Input::Skips(skips) => {
                self.skips.extend(skips);
                for partition in self.workers.keys().copied().collect::<Vec<_>>() {
                    self.step(now, commands, partition, Worker::skips_changed);
                }
            }
            Input::Produced(number, result) => {
                let report = self.publisher.produced(now, &self.config, number, result);
                self.follow(now, commands, report);
            }
            Input::ProducerReady(life) => {
                self.publisher.producer_ready(life);
                self.step_all(now, commands);
            }
            Input::JobDone(partition, proposals) => {
                self.job_done(now, partition, proposals);
                self.step(now, commands, partition, |_, _| {});
            }
            Input::Through(partition, through) => {
                let before = self.upstream();
                let known = self.through.entry(partition).or_insert(through);
                *known = through.max(*known);
                if self.upstream() > before {
                    self.step_all(now, commands);
                }
            }
            Input::DefinitionsChanged | Input::Wake => self.step_all(now, commands),
            Input::Query(number, partition, entity) => {
                if self.workers.contains_key(&partition) {
                    self.with(now, commands, partition, |worker, turn| worker.query(turn, number, entity));
                } else {
                    commands.push(Command::Answer(number, None));
                }
            }
            Input::Drain => {
                self.draining = true;
                for partition in self.workers.keys().copied().collect::<Vec<_>>() {
                    self.step(now, commands, partition, |worker, turn| worker.drain(turn, turn.config.drain));
                }
            }
        }
        self.publisher.flush(now, &self.config, commands);
    }

    fn wants(&self, partition: u32) -> bool {
        self.workers.get(&partition).is_some_and(|worker| worker.wants(&self.config, &self.publisher))
    }

    fn next_wake(&self) -> Option<Timestamp> {
        let (upstream, ready) = (self.upstream(), self.publisher.ready());
        let workers = self.workers.values().filter_map(|worker| worker.next_wake(&self.config, upstream, ready));
        workers.chain(self.publisher.next_wake(&self.config)).min()
    }

    fn progress(&self) -> Vec<Progress> {
        self.workers.values().map(Worker::progress).collect()
    }

    fn take_traced(&mut self) -> Vec<Traced> {
        std::mem::take(&mut self.traced)
    }

    fn counters(&self) -> Counters {
        self.counters.clone()
    }

    fn folded(&self) -> u64 {
        self.counters.records
    }

    fn figures(&self) -> Vec<PartitionFigures> {
        self.workers.values().map(|worker| worker.figures(&self.publisher)).collect()
    }

    fn idle(&self) -> bool {
        self.publisher.is_idle() && self.jobs.values().all(|running| *running == 0) && self.workers.values().all(Worker::is_idle)
    }
}

impl<P: Processor> fmt::Debug for RoleMachine<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleMachine")
            .field("role", &P::ROLE)
            .field("install", &self.install)
            .field("workers", &self.workers)
            .field("publisher", &self.publisher)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
