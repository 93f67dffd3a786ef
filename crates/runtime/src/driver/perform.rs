//! From commands to calls of the ports.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tracing::{debug, error, warn};
use waypost_types::PartitionId;

use super::{Done, Driver};
use crate::{
    machine::{Alarm, Command, Input},
    ports::{Consumer, Log, LogError},
};

impl Driver {
    /// Performs what the machine wants done, until it wants nothing more.
    pub(super) fn perform(&mut self, consumer: &mut Box<dyn Consumer>) {
        while !self.commands.is_empty() {
            for command in std::mem::take(&mut self.commands) {
                self.perform_one(consumer, command);
            }
        }
    }

    fn partition(&self, index: u32) -> PartitionId {
        PartitionId { role: self.machine.role(), index }
    }

    fn start(&mut self, work: impl Future<Output = Input> + Send + 'static) {
        let work: BoxFuture<'static, Done> = Box::pin(async move { Done::Input(work.await) });
        self.running.push(work);
    }

    fn perform_one(&mut self, consumer: &mut Box<dyn Consumer>, command: Command) {
        let store = Arc::clone(&self.ports.store);
        match command {
            Command::Claim(index, token) => {
                let (partition, install) = (self.partition(index), self.settings.install.clone());
                self.start(async move { Input::Claimed(index, token, store.claim(partition, token, &install).await) });
            }
            Command::Release(index, token) => {
                let partition = self.partition(index);
                self.start(async move { Input::Released(index, token, store.release(partition, token).await) });
            }
            Command::Commit(index, commit) => {
                let partition = self.partition(index);
                self.uncommitted.begin(index, commit.next, self.ports.clock.now());
                self.start(async move {
                    let reply = store.commit(partition, &commit).await;
                    Input::Committed(index, commit.token, reply)
                });
            }
            Command::Read(index, number, read) => {
                let partition = self.partition(index);
                self.start(async move {
                    let reply = store.read(partition, &read).await;
                    Input::Loaded(index, read.token, number, reply)
                });
            }
            Command::Audit(index, token, part) => {
                let partition = self.partition(index);
                self.start(async move { Input::Audited(index, token, part, store.audit(partition, part).await) });
            }
            Command::Deaths(index, token) => {
                let partition = self.partition(index);
                self.start(async move { Input::Deaths(index, token, store.deaths(partition).await) });
            }
            Command::NoteDeaths(index, token, deaths) => {
                let partition = self.partition(index);
                self.start(async move { Input::DeathsNoted(index, token, store.note_deaths(partition, deaths).await) });
            }
            Command::Seek(index, offset) => {
                if !self.membership.start(index, Some(offset))
                    && let Err(error) = consumer.seek(index, offset)
                {
                    debug!(role = %self.machine.role(), partition = index, offset, %error, "seek of a partition that is gone");
                }
            }
            Command::Produce(number, destination, produced) => {
                self.outgoing.push(number, &destination, produced);
                self.retry();
            }
            Command::NewProducer(life) => self.new_producer(life),
            Command::Job(index, job) => {
                let (partition, jobs) = (self.partition(index), Arc::clone(&self.ports.jobs));
                self.start(async move { Input::JobDone(index, jobs.run(partition, job).await) });
            }
            Command::Watermarks(index) => {
                let (log, inbox) = (Arc::clone(&self.ports.log), self.inbox());
                self.start(watermarks(log, inbox, index));
            }
            Command::Answer(number, answer) => {
                if let Some(query) = self.queries.remove(&number) {
                    // who asked may have gone
                    drop(query.send(answer));
                }
            }
            Command::Gone(index) => {
                self.uncommitted.forget(index);
                self.membership.gone(index);
            }
            Command::Halted(index, reason) => {
                error!(role = %self.machine.role(), partition = index, %reason, "partition halted");
                self.membership.start(index, None);
            }
            Command::Rejoin(reason) => {
                warn!(role = %self.machine.role(), %reason, "leaving the group to join it anew");
                self.rejoin = true;
            }
            Command::Alarm(index, alarm @ Alarm::Diverged { .. }) => {
                error!(role = %self.machine.role(), partition = index, %alarm, "another history");
            }
            Command::Alarm(index, alarm @ Alarm::Gap { .. }) => {
                warn!(role = %self.machine.role(), partition = index, %alarm, "a gap stays");
            }
            Command::Exit(reason) => {
                error!(role = %self.machine.role(), %reason, "giving up");
                self.gave_up = Some(reason);
            }
        }
    }

    fn new_producer(&mut self, life: u64) {
        self.outgoing.end();
        match self.ports.log.producer() {
            Ok(producer) => {
                self.outgoing.begin(life, producer);
                self.feed(Input::ProducerReady(life));
            }
            Err(error) => {
                warn!(%error, "no producer to be had");
                self.gave_up = Some(format!("no producer: {error}"));
            }
        }
    }

    /// Sends what waits for a schema id or for room in the producer's queue, as far as it may now.
    pub(super) fn retry(&mut self) {
        let now = self.ports.clock.now();
        for (number, append) in self.outgoing.send(now) {
            let life = self.outgoing.life();
            self.running.push(Box::pin(async move { Done::Produced(life, Input::Produced(number, append.await)) }));
        }
        for (topic, version) in self.outgoing.wanted(now) {
            let schemas = Arc::clone(&self.ports.schemas);
            self.running.push(Box::pin(async move { Done::Prefix(topic, version, schemas.prefix(topic, version).await) }));
        }
    }
}

/// Asks until there is an answer: a partition waits for it.
async fn watermarks(log: Arc<dyn Log>, inbox: Result<String, LogError>, index: u32) -> Input {
    let inbox = match inbox {
        Ok(inbox) => inbox,
        Err(error) => return Input::LogFailed(index, error),
    };
    loop {
        match log.watermarks(&inbox, index).await {
            Ok((start, end)) => return Input::Watermarks(index, start, end),
            Err(LogError::Unavailable(why)) => debug!(partition = index, why, "watermarks"),
            Err(error @ (LogError::OutOfRange | LogError::Unknown)) => return Input::LogFailed(index, error),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
