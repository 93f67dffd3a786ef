//! What machines ask for: carried out later than asked, in another order, sometimes without an answer.

use futures::FutureExt as _;
use waypost_runtime::{
    Command, Input,
    append::to_append,
    ports::{AppendError, ClaimReply, LogError, StoreError},
};
use waypost_types::PartitionId;

use super::{Late, World};

// === impl World ===

impl World {
    /// One input, and what the machine wants done upon it.
    pub(crate) fn handle(&mut self, i: usize, input: Input) {
        let mut commands = Vec::new();
        let process = &mut self.processes[i];
        let (role, now) = (process.role, process.clock(&self.clock));
        process.machine.handle(now, input, &mut commands);
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
                Command::Halted(p, why) => {
                    self.wrong.get_or_insert_with(|| format!("{role}/{p} halts: {why}"));
                }
                Command::Rejoin(why) => rejoins = Some(why),
                Command::Exit(why) => {
                    self.wrong.get_or_insert_with(|| format!("a process of {role} gives up: {why}"));
                }
                Command::Answer(..) => {}
                asked @ (Command::Claim(..)
                | Command::Release(..)
                | Command::Commit(..)
                | Command::Read(..)
                | Command::Audit(..)
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

    /// A process leaves its group and joins it again; its partitions go to whoever is there.
    fn rejoin(&mut self, i: usize, why: &str) {
        let process = &mut self.processes[i];
        let (role, assigned) = (process.role, std::mem::take(&mut process.assigned));
        process.positions.clear();
        let (number, is_zombie) = (process.number, process.is_zombie());
        self.story.tell(self.clock.now(), || format!("{role} process {number} leaves its group: {why}"));
        self.tally.fault("rejoined");
        self.handle(i, Input::Lost(assigned.iter().copied().collect()));
        for p in assigned.into_iter().filter(|_| !is_zombie) {
            self.assign_anew(role, p);
        }
    }

    /// What the old one has queued is purged; some of it was on its way already.
    fn new_producer(&mut self, i: usize, life: u64) {
        let on_its_way = self.faults.append_late > 0 && self.chance.index(3) == 0;
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
        let more = self.log.watermarks(topic, partition).is_ok_and(|(_, end)| at + 1 < end);
        if more && self.chance.hits(self.faults.skip) {
            self.tally.fault("skipped");
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
        let Some((number, append)) = self.processes[i].sending.pop_front() else { return };
        let failed = || Err(AppendError::Failed("time-out".to_owned()));
        let result = if self.chance.hits(self.faults.append_lost) {
            self.tally.fault("append lost");
            failed()
        } else if self.chance.hits(self.faults.append_unacknowledged) {
            self.tally.fault("append unacknowledged");
            self.put(append);
            failed()
        } else if self.chance.hits(self.faults.append_late) {
            self.tally.fault("append late");
            self.late.push(Late::Append(append));
            failed()
        } else {
            if append.key.is_none() && self.chance.hits(self.faults.append_twice) {
                self.tally.fault("append twice");
                self.late.push(Late::Append(append.clone()));
            }
            Ok(self.put(append))
        };
        let process = &mut self.processes[i];
        if result.is_err() && self.chance.index(2) == 0 {
            // What is queued behind it goes on meanwhile.
            let at = self.clock.now().plus(self.chance.span(1, 60));
            process.timeouts.push((at, Input::Produced(number, result)));
        } else {
            process.answers.push(Input::Produced(number, result));
        }
    }

    /// Does one of the things that a process has asked for.
    pub(super) fn carry_out(&mut self, i: usize) {
        let Some(command) = self.chance.draw(&mut self.processes[i].asked) else { return };
        let role = self.processes[i].role;
        let at = |index| PartitionId { role, index };
        let lost = self.chance.hits(self.faults.reply_lost);
        let unknown = || StoreError::Unknown("time-out".to_owned());
        if lost && !matches!(command, Command::Job(..) | Command::Watermarks(_)) {
            self.tally.fault("reply lost");
        }
        let answer = match command {
            Command::Claim(p, token) => {
                let reply = self.store.claim(at(p), token, &super::install());
                if matches!(reply, Ok(ClaimReply::Ok(_))) {
                    self.tally.takeovers += 1;
                    let number = self.processes[i].number;
                    self.story.tell(self.clock.now(), || format!("{role}/{p} is claimed by process {number}"));
                }
                Input::Claimed(p, token, if lost { Err(unknown()) } else { reply })
            }
            Command::Release(p, token) => {
                let reply = self.store.release(at(p), token);
                Input::Released(p, token, if lost { Err(unknown()) } else { reply })
            }
            Command::Commit(p, commit) => {
                let token = commit.token;
                if self.chance.hits(self.faults.commit_late) {
                    self.tally.fault("commit late");
                    self.late.push(Late::Commit(at(p), commit));
                    Input::Committed(p, token, Err(unknown()))
                } else {
                    let reply = self.store.commit(at(p), &commit);
                    Input::Committed(p, token, if lost { Err(unknown()) } else { reply })
                }
            }
            Command::Read(p, number, read) => {
                let reply = self.store.read(at(p), &read);
                Input::Loaded(p, read.token, number, if lost { Err(unknown()) } else { reply })
            }
            Command::Audit(p, token, part) => {
                let reply = self.store.audit(at(p), part);
                Input::Audited(p, token, part, if lost { Err(unknown()) } else { reply })
            }
            Command::Job(p, job) => {
                let calls = self.processes[i].calls.clone();
                // The provider of a world answers at once.
                Input::JobDone(p, calls.run(at(p), job).now_or_never().unwrap_or_default())
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
                self.put(append);
            }
            // Nobody hears the answer.
            Late::Commit(partition, commit) => drop(self.store.commit(partition, &commit)),
            Late::Claim(partition, token) => drop(self.store.claim(partition, token, &super::install())),
        }
        true
    }
}
