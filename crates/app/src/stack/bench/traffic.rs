//! Open-loop traffic through the door of the inboxes: each event at its intended time, which is not moved by whatever happened before.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{sync::watch, time::Instant};
use waypost_runtime::{
    door::{Door as _, LogDoor},
    host::SystemClock,
    ports::Clock as _,
};
use waypost_types::Role;

use super::{
    events,
    plan::{Plan, Run},
    tails::Heard,
};

/// What falls due within one goes out together.
const TICK: Duration = Duration::from_millis(5);

/// What is sent, and how.
pub(super) struct Traffic {
    pub(super) run: Run,
    pub(super) plan: Plan,
    /// Events a second.
    pub(super) rate: u32,
    pub(super) key: [u8; 32],
    pub(super) door: LogDoor,
    pub(super) heard: Heard,
}

/// How it went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Acknowledged.
    pub(super) events: u64,
    /// From the first intended time to the last acknowledgement.
    pub(super) took: Duration,
    /// How late the bench itself was, at most.
    pub(super) latest: Duration,
}

// === impl Traffic ===

impl Traffic {
    /// Sends all of it, or what falls due before the stop; answers when everything is acknowledged.
    pub(super) async fn play(self, begin: Instant, mut stop: watch::Receiver<u32>) -> anyhow::Result<Sent> {
        let mut sent = Sent { events: 0, took: Duration::ZERO, latest: Duration::ZERO };
        let (mut made, mut at, mut flying) = (0, Duration::ZERO, FuturesUnordered::new());
        let lost = |error| anyhow!("{error}; the events that it did not acknowledge are not measured").context("the log takes no events");
        while made < self.plan.events && *stop.borrow() == 0 {
            let due = begin + at;
            loop {
                tokio::select! {
                    biased;
                    Ok(()) = stop.changed() => break,
                    Some(answer) = flying.next(), if !flying.is_empty() => sent.events += Result::<u64, _>::map_err(answer, lost)?,
                    () = tokio::time::sleep_until(due) => break,
                }
            }
            sent.latest = sent.latest.max(due.elapsed());
            let end = self.due(at + TICK);
            let records: Vec<_> = (made..end).map(|number| (Role::Identity, self.event(number, due))).collect();
            if !records.is_empty() {
                let (count, door) = (end - made, self.door.clone());
                flying.push(async move { door.append(records).await.map(|()| count) });
            }
            (made, at) = (end, at + TICK);
        }
        while let Some(answer) = flying.next().await {
            sent.events += answer.map_err(lost)?;
        }
        sent.took = begin.elapsed();
        Ok(sent)
    }

    /// How many events are to be sent before a moment.
    fn due(&self, at: Duration) -> u64 {
        let due = at.as_nanos().saturating_mul(u128::from(self.rate)).div_ceil(1_000_000_000);
        u64::try_from(due).unwrap_or(u64::MAX).min(self.plan.events)
    }

    fn event(&self, number: u64, due: Instant) -> waypost_codec::frame::Record {
        let turn = self.plan.turn(number);
        self.heard.lock().ask(self.run.hash(&self.key, turn.person), turn.person, turn.name, due);
        events::of(&self.run, &self.key, number, turn, SystemClock.now())
    }
}

/// The run of `playing`, as it ended.
pub(super) fn joined(ended: Result<anyhow::Result<Sent>, tokio::task::JoinError>) -> anyhow::Result<Sent> {
    ended.context("the generator panicked")?
}
