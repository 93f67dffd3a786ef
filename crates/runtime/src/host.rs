//! The host's clock, stopwatch and entropy. The only place that reads either.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use waypost_types::Timestamp;

use crate::ports::{Clock, Entropy};

/// Wall time.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// The operating system's random bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

/// How long something takes, for operators; no decision rests on it.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

// === impl SystemClock ===

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    async fn sleep_until(&self, instant: Timestamp) {
        let wait = u64::try_from(instant.since(self.now()).millis()).unwrap_or(0);
        // a day at most, because wall time may be set while we sleep, and callers look again anyway
        tokio::time::sleep(Duration::from_millis(wait.min(86_400_000))).await;
    }
}

// === impl Stopwatch ===

impl Stopwatch {
    /// From now on.
    #[expect(clippy::disallowed_methods, reason = "wall time is too coarse, and may be set meanwhile")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since.
    pub fn micros(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Seconds since.
    pub fn seconds(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

// === impl OsEntropy ===

impl Entropy for OsEntropy {
    fn next(&mut self) -> u64 {
        // Without entropy there are no fresh tokens, and a token used twice would defeat the fence.
        getrandom::u64().expect("the operating system gives random bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_instant_gone_by_is_not_waited_for() {
        let clock = SystemClock;
        let before = clock.now();
        clock.sleep_until(Timestamp::ZERO).await;
        clock.sleep_until(before).await;
        assert!(clock.now() >= before);
        assert_ne!(OsEntropy.next(), OsEntropy.next());
    }
}
