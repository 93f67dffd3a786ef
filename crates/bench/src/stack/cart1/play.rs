//! Events on their way to whoever is measured: as fast as they are taken, or each at its time.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use waypost_types::Timestamp;

use super::contender::{Parcel, Topic};
use crate::generator::Appender;

/// How long an event may take to be built.
const BUILD_EACH: Duration = Duration::from_micros(20);
const BUILD_LEAST: Duration = Duration::from_secs(2);
/// Events of a backlog that are of one instant.
const CHUNK: u64 = 10_000;
/// How often it is looked whether everybody is alive.
const EVERY: Duration = Duration::from_millis(250);

/// What goes out at one instant.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Since the beginning.
    pub(crate) at: Duration,
    pub(crate) parcels: Vec<Parcel>,
}

/// When so many events that are still to be built begin, on both clocks: timers are due by what the events say of their time.
pub(crate) fn appointment(count: f64, now: Timestamp) -> (Instant, Timestamp) {
    let ahead = BUILD_LEAST + BUILD_EACH.mul_f64(count);
    (Instant::now() + ahead, Timestamp::from_millis(now.millis() + i64::try_from(ahead.as_millis()).unwrap_or(0)))
}

/// Sends each moment at its time, which is not moved by whatever happened before; how late it was at most.
pub(crate) fn play(
    topic: &Topic,
    moments: &[Moment],
    begin: Instant,
    mut check: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Duration> {
    let mut into = Appender::new(&topic.brokers, &topic.name, 0)?;
    std::thread::scope(|scope| {
        let playing = scope.spawn(move || {
            let mut latest = Duration::ZERO;
            for moment in moments {
                let (due, now) = (begin + moment.at, Instant::now());
                match due.checked_duration_since(now) {
                    Some(early) => std::thread::sleep(early),
                    None => latest = latest.max(now.duration_since(due)),
                }
                for parcel in &moment.parcels {
                    into.append_keyed(parcel.partition, parcel.key.as_deref(), &parcel.bytes)?;
                }
            }
            into.finish()?;
            anyhow::Ok(latest)
        });
        while !playing.is_finished() {
            std::thread::sleep(EVERY);
            check()?;
        }
        playing.join().map_err(|_| anyhow!("the generator ended early"))?
    })
}

/// Appends a backlog of so many events.
pub(crate) fn prefill(topic: &Topic, count: u64, mut build: impl FnMut(u64) -> anyhow::Result<Vec<Parcel>>) -> anyhow::Result<()> {
    let mut into = Appender::new(&topic.brokers, &topic.name, 20)?;
    let mut left = count;
    while left > 0 {
        let some = left.min(CHUNK);
        left -= some;
        for parcel in build(some)? {
            into.append_keyed(parcel.partition, parcel.key.as_deref(), &parcel.bytes)?;
        }
    }
    into.finish()
}
