//! The clock's promises.

use std::sync::{Arc, Mutex, PoisonError};

use waypost_runtime::ports::Clock;
use waypost_types::{Span, Timestamp};

use crate::VirtualClock;

/// Monotone; virtual time wakes sleepers in order.
pub async fn clock_suite(clock: VirtualClock) {
    let start = clock.now();
    let woken: Arc<Mutex<Vec<i64>>> = Arc::default();
    let mut sleepers = Vec::new();
    for ms in [30, 10, 20] {
        let (clock, woken) = (clock.clone(), Arc::clone(&woken));
        sleepers.push(tokio::spawn(async move {
            clock.sleep_until(start.plus(Span::from_millis(ms))).await;
            woken.lock().unwrap_or_else(PoisonError::into_inner).push(ms);
        }));
    }
    let seen = || woken.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (ms, expected) in [(5, vec![]), (15, vec![10]), (25, vec![10, 20]), (35, vec![10, 20, 30])] {
        clock.advance_to(start.plus(Span::from_millis(ms)));
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        assert_eq!(seen(), expected, "at {ms} ms");
    }
    clock.advance_to(start);
    assert!(clock.now() > start, "a clock never goes back");
    clock.sleep_until(Timestamp::ZERO).await;
    for sleeper in sleepers {
        sleeper.await.expect("a sleeper does not panic");
    }
}
