//! How late something was read: what is behind anyway may take larger steps, which cost less each.

use waypost_types::{Span, Timestamp};

/// Up to here the clocks may differ, the host's and the broker's; above it PROTOCOL §8.2 has an alarm.
const CLOCKS: Span = Span::from_secs(1);

/// By how much more than clocks differ something was late that was `appended` then, by the broker's clock; 0: it was in time.
pub(crate) fn lateness(now: Timestamp, appended: Timestamp) -> Span {
    Span::from_millis((now.since(appended).millis() - CLOCKS.millis()).max(0))
}

/// Whether it was late at all.
pub(crate) fn is_late(now: Timestamp, appended: Timestamp) -> bool {
    lateness(now, appended) > Span::ZERO
}
