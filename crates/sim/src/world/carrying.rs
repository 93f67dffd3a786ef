//! What machines ask for: carried out later than asked, in another order, sometimes without an answer.

use futures::FutureExt as _;
use waypost_codec::frame::Frame;
use waypost_runtime::{
    Command, Input,
    append::to_append,
    ports::{Append, AppendError, ClaimReply, Commit, LogError, Offset, StoreError},
};
use waypost_types::PartitionId;

use super::{Late, World};
use crate::faults::Fault;

// === impl World ===

impl World {
    /// One input, and what the machine wants done upon it.
    pub(crate) fn handle(&mut self, i: usize, input: Input) {
        let mut commands = Vec::new();
        let process = &mut self.processes[i];
        if process.is_dead {
            return;
        }
        let (role, now) = (process.role, process.clock(&self.clock));
        process.handle(now, input, &mut commands);
        if self.has_died(i) {
            return;
        }
        let (mut gone, mut rejoins) = (Vec::new(), None);
        for command in commands {
            let process = &mut self.processes[i];
            match command {
                Command::Seek(p, offset) => drop(process.positions.insert(p, offset)),
                Command::Produce(number, destination, produced) => {
                    process.sending.push_back((number, to_append("", &destination, produced, |_, _, body| body.clone())));
                }
                Command::NewProducer(life) => self.new_producer(i, life),
                Command::Gone(p) => {
                    process.positions.remove(&p);
                    process.assigned.remove(&p);
                    if !process.is_zombie() {
                        gone.push(p);
                    }
                }
                Command::Halted(p, why) => self.halts(i, p, why),
                Command::Rejoin(why) => rejoins = Some(why),
                Command::Exit(why) => {
                    self.wrong.get_or_insert_with(|| format!("a process of {role} gives up: {why}"));
                }
                Command::Answer(..) | Command::Alarm(..) => {}
                asked @ (Command::Claim(..)
                | Command::Release(..)
                | Command::Commit(..)
                | Command::Read(..)
                | Command::Audit(..)
                | Command::Deaths(..)
                | Command::NoteDeaths(..)
                | Command::Job(..)
                | Command::Watermarks(_)) => process.asked.push(asked),
            }
        }
        for p in gone {
            self.assign_anew(role, p);
        }
        if let Some(why) = rejoins {
            self.rejoin(i, &why);
        }
    }

    /// A partition halts: where that was to be expected, or is to be, the world goes on or ends.
    fn halts(&mut self, i: usize, partition: u32, why: String) {
        let role = self.processes[i].role;
        self.story.tell(self.clock.now(), || format!("{role}/{partition} halts: {why}"));
        let id = PartitionId { role, index: partition };
        if self.is_barrier(i, &why) || self.is_killer(id, &why) || self.is_unlucky(i, id, &why) {
            return;
        }
        if self.may_halt(id) {
            self.noticed.get_or_insert(why);
        } else {
            self.wrong.get_or_insert_with(|| format!("{role}/{partition} halts: {why}"));
        }
    }

    /// A process leaves its group and joins it again; its partitions go to whoever is there.
    fn rejoin(&mut self, i: usize, why: &str) {
        let process = &mut self.processes[i];
        let (role, assigned) = (process.role, std::mem::take(&mut process.assigned));
        process.positions.clear();
        let is_zombie = process.is_zombie();
        self.story.tell(self.clock.now(), || format!("{} leaves its group: {why}", self.processes[i]));
        self.tally.rejoins += 1;
        self.handle(i, Input::Lost(assigned.iter().copied().collect()));
        for p in assigned.into_iter().filter(|_| !is_zombie) {
            self.assign_anew(role, p);
        }
    }

    /// What the old one has queued is purged; some of it was on its way already.
    fn new_producer(&mut self, i: usize, life: u64) {
        let on_its_way = self.dice.may(Fault::AppendLate) && !self.dice.is_over() && self.chance.index(3) == 0;
        let process = &mut self.processes[i];
        let purged = std::mem::take(&mut process.sending);
        process.answers.push(Input::ProducerReady(life));
        if on_its_way {
            self.late.extend(purged.into_iter().map(|(_, append)| Late::Append(append)));
        }
    }

    /// Delivers the next record of a partition.
    pub(super) fn deliver(&mut self, i: usize, partition: u32) {
        let topic = self.processes[i].role.inbox().unwrap_or_default();
        let Some(mut at) = self.processes[i].positions.get(&partition).copied() else { return };
        let more = at + 1 < self.end_of(PartitionId { role: self.processes[i].role, index: partition });
        if more && self.dice.strike(Fault::Skip).is_some() {
            self.story
                .tell(self.clock.now(), || format!("FAULT skip: {topic}/{partition} @{at} is not delivered to {}", self.processes[i]));
            at += 1;
        }
        match self.log.read(topic, partition, at) {
            Ok(Some(delivery)) => {
                self.processes[i].positions.insert(partition, at + 1);
                self.handle(i, Input::Delivered(delivery));
            }
            Ok(None) => {}
            Err(error) => {
                self.processes[i].positions.remove(&partition);
                self.handle(i, Input::LogFailed(partition, error));
            }
        }
    }

    /// Appends the next record that a process has queued.
    pub(super) fn send(&mut self, i: usize) {
        let Some((number, append)) = self.next_to_send(i) else { return };
        let (append, with_it) = self.packed(i, append);
        let result = self.appended(i, append);
        let process = &mut self.processes[i];
        process.answers.extend(with_it.into_iter().map(|number| Input::Produced(number, result.clone())));
        if result.is_err() && self.chance.index(2) == 0 {
            // What is queued behind it goes on meanwhile.
            let at = self.clock.now().plus(self.chance.span(1, 60));
            process.timeouts.push((at, Input::Produced(number, result)));
        } else {
            process.answers.push(Input::Produced(number, result));
        }
        self.has_sent(i);
    }

    /// In order to each partition; what goes to another one may go first.
    fn next_to_send(&mut self, i: usize) -> Option<(u64, Append)> {
        let queue = &mut self.processes[i].sending;
        if queue.len() > 1
            && let Some(mut chance) = self.dice.strike(Fault::Overtaken)
        {
            let to = |at: usize| queue.get(at).map(|(_, append)| (&append.topic, append.partition));
            let picked = chance.index(queue.len());
            let first = (0..queue.len()).find(|at| *at == picked || self.switches.order && to(*at) == to(picked)).unwrap_or(0);
            return queue.remove(first);
        }
        queue.pop_front()
    }

    /// Whether all that a frame carries came from partitions; what one proposed to itself nobody could repair.
    fn is_between_partitions(&self, append: &Append) -> bool {
        self.dice.may(Fault::FalselyAcknowledged)
            && Frame::decode(append.payload.clone()).is_ok_and(|frame| frame.sections.iter().all(|section| section.source.is_some()))
    }

    fn appended(&mut self, i: usize, append: Append) -> Result<Offset, AppendError> {
        if append.key.is_none() && self.is_between_partitions(&append) && self.dice.strike(Fault::FalselyAcknowledged).is_some() {
            let to = format!("{}/{}", append.topic, append.partition);
            self.story.tell(self.clock.now(), || format!("FAULT falsely-acknowledged: to {to}: {}", super::telling::told(&append)));
            return Ok(self.log.watermarks(&append.topic, append.partition).map_or(0, |(_, end)| end));
        }
        let failures = [Fault::AppendLost, Fault::AppendUnacknowledged, Fault::AppendLate];
        let failure = failures.into_iter().find(|fault| self.dice.strike(*fault).is_some());
        let who = if self.story.is_told() { self.processes[i].to_string() } else { String::new() };
        let Some(failure) = failure else {
            if append.key.is_none() && self.dice.strike(Fault::AppendTwice).is_some() {
                self.late.push(Late::Append(append.clone()));
            }
            return Ok(self.put(who, append));
        };
        let to = format!("{}/{}", append.topic, append.partition);
        self.story.tell(self.clock.now(), || format!("FAULT {}: of {who} to {to}", failure.name()));
        if failure == Fault::AppendUnacknowledged {
            self.put(who, append);
        } else if failure == Fault::AppendLate {
            self.late.push(Late::Append(append));
        }
        Err(AppendError::Failed("time-out".to_owned()))
    }

    /// Does one of the things that a process has asked for.
    pub(super) fn carry_out(&mut self, i: usize) {
        let Some(command) = self.chance.draw(&mut self.processes[i].asked) else { return };
        let role = self.processes[i].role;
        let at = |index| PartitionId { role, index };
        let of_the_store = matches!(command, Command::Claim(..) | Command::Release(..) | Command::Commit(..) | Command::Read(..));
        let lost = of_the_store && self.dice.strike(Fault::ReplyLost).is_some();
        if lost {
            self.story.tell(self.clock.now(), || format!("FAULT reply-lost: of the store, to {}", self.processes[i]));
        }
        let unknown = || StoreError::Unknown("time-out".to_owned());
        let store = self.processes[i].store.clone();
        let answer = match command {
            Command::Claim(p, token) => {
                let reply = store.claim(at(p), token, &super::install());
                if matches!(reply, Ok(ClaimReply::Ok(_))) {
                    self.tally.takeovers += 1;
                    self.story.tell(self.clock.now(), || format!("{role}/{p} is claimed by {}", self.processes[i]));
                }
                Input::Claimed(p, token, if lost { Err(unknown()) } else { reply })
            }
            Command::Release(p, token) => {
                let reply = store.release(at(p), token);
                Input::Released(p, token, if lost { Err(unknown()) } else { reply })
            }
            Command::Commit(p, commit) => {
                let token = commit.token;
                if self.dice.strike(Fault::CommitLate).is_some() {
                    self.story.tell(self.clock.now(), || format!("FAULT commit-late: {role}/{p} to @{}", commit.next));
                    self.late.push(Late::Commit(store, at(p), commit));
                    Input::Committed(p, token, Err(unknown()))
                } else {
                    let reply = store.commit(at(p), &commit);
                    self.story.tell(self.clock.now(), || {
                        let Commit { expected, next, .. } = *commit;
                        format!("  {role}/{p} commit @{expected} to @{next} by {}: {reply:?}", self.processes[i])
                    });
                    Input::Committed(p, token, if lost { Err(unknown()) } else { reply })
                }
            }
            Command::Read(p, number, read) => {
                let reply = store.read(at(p), &read);
                Input::Loaded(p, read.token, number, if lost { Err(unknown()) } else { reply })
            }
            Command::Audit(p, token, part) => {
                let reply = store.audit(at(p), part);
                Input::Audited(p, token, part, if lost { Err(unknown()) } else { reply })
            }
            Command::Deaths(p, token) => {
                let reply = self.store.deaths(at(p));
                Input::Deaths(p, token, if lost { Err(unknown()) } else { reply })
            }
            Command::NoteDeaths(p, token, deaths) => {
                let reply = self.store.note_deaths(at(p), deaths);
                Input::DeathsNoted(p, token, if lost { Err(unknown()) } else { reply })
            }
            Command::Job(p, job) => {
                let calls = self.processes[i].calls.clone();
                // The provider of a world answers at once.
                let done = Input::JobDone(p, calls.run(at(p), job).now_or_never().unwrap_or_default());
                if let Some(mut chance) = self.dice.strike(Fault::SlowCall) {
                    // Less than the longest call of any provider.
                    let until = self.clock.now().plus(chance.span(2_000, 25_000));
                    self.processes[i].timeouts.push((until, done));
                    return;
                }
                done
            }
            Command::Watermarks(p) => match self.log.watermarks(role.inbox().unwrap_or_default(), p) {
                Ok((start, end)) => Input::Watermarks(p, start, end),
                Err(error @ (LogError::OutOfRange | LogError::Unknown | LogError::Unavailable(_))) => Input::LogFailed(p, error),
            },
            Command::Seek(..)
            | Command::Produce(..)
            | Command::NewProducer(_)
            | Command::Answer(..)
            | Command::Gone(_)
            | Command::Halted(..)
            | Command::Rejoin(_)
            | Command::Alarm(..)
            | Command::Exit(_) => return,
        };
        self.processes[i].answers.push(answer);
    }

    /// Something lands that somebody began long ago.
    pub(super) fn late_step(&mut self) -> bool {
        let Some(late) = self.chance.draw(&mut self.late) else { return false };
        self.story.note(&[5]);
        match late {
            Late::Append(append) => {
                self.put("somebody, late", append);
            }
            // Nobody hears the answer.
            Late::Commit(store, partition, commit) => {
                let reply = store.commit(partition, &commit);
                self.story.tell(self.clock.now(), || format!("  {partition} commit to @{} lands late: {reply:?}", commit.next));
            }
            Late::Claim(store, partition, token) => {
                drop(store.claim(partition, token, &super::install()));
                self.story.tell(self.clock.now(), || format!("  a claim of {partition} lands late"));
            }
        }
        true
    }
}
