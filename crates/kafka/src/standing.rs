//! Whether a client has its place in a group, by its own account.
//!
//! When a broker is restarted, a client at times loses its session and never asks for its coordinator again. Rebalances
//! do not tell: a member without partitions is not called when it loses its session.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

use rdkafka::Statistics;
use tokio::sync::Notify;
use tracing::warn;

/// How often a client gives account, in milliseconds; librdkafka counts in whole seconds.
pub(crate) const ACCOUNT_EVERY: u32 = 4_000;
/// So many accounts in a row without a place, and the client is given up. Whoever has to drain first keeps the others waiting
/// for up to 35 s (PROTOCOL §6.2), which these outlast.
pub(crate) const ADRIFT: u32 = 12;

/// What a client's last accounts said.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Accounts in a row without a place.
    adrift: AtomicU32,
    /// Its assignment was lost, and no other has come yet, not even an empty one.
    lost: AtomicBool,
    heard: Notify,
}

/// Drops a client on a thread of its own: leaving takes as long as whatever it hangs at.
pub(crate) fn leave(topic: &str, client: impl Send + 'static) {
    if let Err(error) = thread::Builder::new().name(format!("leave {topic}")).spawn(move || drop(client)) {
        warn!(topic, %error, "no thread to leave the group on");
    }
}

// === impl Standing ===

impl Standing {
    /// Takes in an account.
    pub(crate) fn hear(&self, account: &Statistics) {
        if let Some(group) = &account.cgrp {
            self.note(group.state == "up" && group.join_state == "steady" && !self.lost.load(Ordering::Acquire));
        }
    }

    /// Its assignment is lost.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// It is given an assignment.
    pub(crate) fn assign(&self) {
        self.lost.store(false, Ordering::Release);
    }

    fn note(&self, has_place: bool) {
        let adrift = if has_place { 0 } else { self.accounts_adrift().saturating_add(1) };
        self.adrift.store(adrift, Ordering::Release);
        self.heard.notify_one();
    }

    /// How many accounts in a row said that it has no place.
    pub(crate) fn accounts_adrift(&self) -> u32 {
        self.adrift.load(Ordering::Acquire)
    }

    /// Counts from nothing again, where no new client was to be had.
    pub(crate) fn start_over(&self) {
        self.adrift.store(0, Ordering::Release);
    }

    /// Waits for the next account.
    pub(crate) async fn heard(&self) {
        self.heard.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{TcpListener, TcpStream},
    };

    use rdkafka::{ClientConfig, statistics::ConsumerGroup};
    use waypost_runtime::ports::Subscription as _;

    use super::*;
    use crate::{consumer::GroupConsumer, settings::Settings, subscription::GroupSubscription};

    /// A broker that takes connections and says nothing.
    struct Silent(TcpListener);

    impl Silent {
        fn open() -> (Self, Settings) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let settings = Settings::new(&listener.local_addr().unwrap().to_string(), Vec::new()).unwrap();
            (Self(listener), settings)
        }

        /// The numbers of the first requests on the next three connections; a client counts its own over all of them.
        fn first_requests(self) -> Vec<u32> {
            // kept open, else the same client would come again at once
            let connections: Vec<_> = self.0.incoming().take(3).map(Result::unwrap).collect();
            let number = |mut connection: TcpStream| {
                let mut head = [0; 12];
                connection.read_exact(&mut head).unwrap();
                u32::from_be_bytes([head[8], head[9], head[10], head[11]])
            };
            connections.into_iter().map(number).collect()
        }
    }

    fn impatient(mut settings: ClientConfig) -> ClientConfig {
        settings.set("statistics.interval.ms", "1000");
        settings
    }

    #[test]
    fn a_member_that_finds_no_place_is_replaced() {
        let (silent, settings) = Silent::open();
        let member = GroupConsumer::with(impatient(settings.member("group")), "topic", 1).unwrap();
        assert_eq!(silent.first_requests(), [1, 1, 1], "three clients");
        drop(member);
    }

    #[tokio::test]
    async fn a_subscriber_that_finds_no_place_is_replaced() {
        let (silent, settings) = Silent::open();
        let mut member = GroupSubscription::with(impatient(settings.subscription("group")), "topic", 1).unwrap();
        let first_requests = tokio::task::spawn_blocking(|| silent.first_requests());
        tokio::select! {
            _ = member.next() => unreachable!("nothing comes from there"),
            numbers = first_requests => assert_eq!(numbers.unwrap(), [1, 1, 1], "three clients"),
        }
    }

    #[test]
    fn only_accounts_in_a_row_count() {
        let standing = Standing::default();
        let account = |state: &str, join_state: &str| {
            let group = ConsumerGroup { state: state.to_owned(), join_state: join_state.to_owned(), ..ConsumerGroup::default() };
            standing.hear(&Statistics { cgrp: Some(group), ..Statistics::default() });
            // of a client without a group
            standing.hear(&Statistics::default());
            standing.accounts_adrift()
        };
        assert_eq!(account("query-coord", "init"), 1);
        assert_eq!(account("up", "wait-join"), 2);
        assert_eq!(account("wait-broker-transport", "steady"), 3);
        assert_eq!(account("up", "steady"), 0);
        assert_eq!(account("up", "init"), 1);
        assert_eq!(account("up", "steady"), 0);
        standing.lose();
        assert_eq!(account("up", "steady"), 1, "it says so, and has nothing");
        standing.assign();
        assert_eq!(account("up", "steady"), 0);
    }
}
