//! Whether a client has its place, by its own account: brokers to ask, and a place in its group.
//!
//! A broker that has just come back may answer that the cluster has no brokers. From 2.10 on a client of librdkafka then
//! forgets all of them, and at times never asks anybody again (<https://github.com/confluentinc/librdkafka/issues/5301>).
//! Rebalances do not tell: a member without partitions is not called when it loses its session.

use std::{
    error::Error,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

use rdkafka::{
    ClientContext, Statistics,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::sync::Notify;
use tracing::warn;

use crate::{connection::Identity, convert::Quiet, tokens::token_for};

/// How often a client gives account, in milliseconds; librdkafka counts in whole seconds.
pub(crate) const ACCOUNT_EVERY: u32 = 4_000;
/// So many accounts in a row without a place, and the client is given up. Whoever has to drain first keeps the others waiting
/// for up to 35 s (PROTOCOL §6.2), which these outlast.
pub(crate) const ADRIFT: u32 = 12;

/// So many accounts in a row that know no broker; a client that starts to look for brokers again knows none for a moment.
const ALONE: u32 = 2;

/// What a client's last accounts said.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Accounts in a row that knew no broker.
    alone: AtomicU32,
    /// Accounts in a row without a place in the group.
    adrift: AtomicU32,
    /// Its assignment was lost, and no other has come yet, not even an empty one.
    lost: AtomicBool,
    /// Its last account had a place in the group.
    placed: AtomicBool,
    /// Some broker did not let it in, or was not whom it said. librdkafka tells the same error once in 30 s, so it is not taken back.
    refused: AtomicBool,
    heard: Notify,
}

/// The context of a client whose account is all that is asked of it.
#[derive(Debug)]
pub(crate) struct Accountable {
    pub(crate) standing: Standing,
    identity: Identity,
}

/// Whether an error is about who somebody is. A broker that wants a certificate ends the connection with an alert.
pub(crate) fn is_refusal(error: &KafkaError, reason: &str) -> bool {
    let codes = [RDKafkaErrorCode::Authentication, RDKafkaErrorCode::SaslAuthenticationFailed, RDKafkaErrorCode::SSL];
    error.rdkafka_error_code().is_some_and(|code| codes.contains(&code)) || (reason.contains("SSL") && reason.contains("alert"))
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
        let knows_one = account.brokers.values().any(|broker| ["learned", "configured"].contains(&broker.source.as_str()));
        count(&self.alone, !knows_one);
        if let Some(group) = &account.cgrp {
            let placed = group.state == "up" && group.join_state == "steady" && !self.lost.load(Ordering::Acquire);
            count(&self.adrift, !placed);
            self.placed.store(placed, Ordering::Release);
        }
        self.heard.notify_one();
    }

    /// Its last account had a place in the group.
    pub(crate) fn has_place(&self) -> bool {
        self.placed.load(Ordering::Acquire)
    }

    /// Takes in an error that no call was given.
    pub(crate) fn hear_error(&self, error: &KafkaError, reason: &str) {
        if is_refusal(error, reason) {
            self.refused.store(true, Ordering::Release);
        }
    }

    /// Some broker has refused it, or it some broker.
    pub(crate) fn was_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    /// Its assignment is lost.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// It is given an assignment.
    pub(crate) fn assign(&self) {
        self.lost.store(false, Ordering::Release);
    }

    /// It knows no broker, or has had no place in its group for so many accounts.
    pub(crate) fn is_adrift(&self, limit: u32) -> bool {
        self.is_alone() || self.adrift.load(Ordering::Acquire) >= limit
    }

    /// It knows no broker.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire) >= ALONE
    }

    /// Counts from nothing again, where no new client was to be had.
    pub(crate) fn start_over(&self) {
        self.alone.store(0, Ordering::Release);
        self.adrift.store(0, Ordering::Release);
    }

    /// Waits for the next account.
    pub(crate) async fn heard(&self) {
        self.heard.notified().await;
    }
}

fn count(in_a_row: &AtomicU32, once_more: bool) {
    let count = if once_more { in_a_row.load(Ordering::Acquire).saturating_add(1) } else { 0 };
    in_a_row.store(count, Ordering::Release);
}

// === impl Accountable ===

impl Accountable {
    pub(crate) fn new(identity: Identity) -> Self {
        Self { standing: Standing::default(), identity }
    }

    /// Brokers have refused it, and by what it proves who it is was renewed since.
    pub(crate) fn is_locked_out(&self) -> bool {
        self.standing.was_refused() && self.identity.is_outdated()
    }
}

impl ClientContext for Accountable {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        token_for(&self.identity)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.standing.hear_error(&error, reason);
        Quiet.error(error, reason);
    }

    fn stats(&self, account: Statistics) {
        self.standing.hear(&account);
    }
}

impl ConsumerContext for Accountable {}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{TcpListener, TcpStream},
    };

    use rdkafka::statistics::{Broker, ConsumerGroup};
    use waypost_runtime::ports::{Subscription as _, Tail as _};

    use super::*;
    use crate::{
        connection::Connection,
        consumer::GroupConsumer,
        settings::{Recipe, Settings},
        subscription::GroupSubscription,
        tail::PartitionTail,
    };

    /// A broker that takes connections and says nothing.
    struct Silent(TcpListener);

    impl Silent {
        fn open() -> (Self, Settings) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let settings = Settings::new(&Connection::new(listener.local_addr().unwrap().to_string()));
            (Self(listener), settings)
        }

        /// The numbers of the first requests on the next connections; a client counts its own over all of them.
        fn first_requests(self, connections: usize) -> Vec<u32> {
            // kept open, else the same client would come again at once
            let connections: Vec<_> = self.0.incoming().take(connections).map(Result::unwrap).collect();
            let number = |mut connection: TcpStream| {
                let mut head = [0; 12];
                connection.read_exact(&mut head).unwrap();
                u32::from_be_bytes([head[8], head[9], head[10], head[11]])
            };
            connections.into_iter().map(number).collect()
        }
    }

    /// The account of a client that knows one broker, from there.
    fn knowing(source: &str) -> Statistics {
        let broker = Broker { source: source.to_owned(), ..Broker::default() };
        Statistics { brokers: [("broker".to_owned(), broker)].into(), ..Statistics::default() }
    }

    fn impatient(mut recipe: Recipe) -> Recipe {
        recipe.config.set("statistics.interval.ms", "1000");
        recipe
    }

    #[test]
    fn a_member_that_finds_no_place_is_replaced() {
        let (silent, settings) = Silent::open();
        let member = GroupConsumer::with(impatient(settings.member("group")), "topic", 1).unwrap();
        assert_eq!(silent.first_requests(3), [1, 1, 1], "three clients");
        drop(member);
    }

    #[tokio::test]
    async fn a_subscriber_that_finds_no_place_is_replaced() {
        let (silent, settings) = Silent::open();
        let mut member = GroupSubscription::with(impatient(settings.subscription("group")), "topic", 1).unwrap();
        let first_requests = tokio::task::spawn_blocking(|| silent.first_requests(3));
        tokio::select! {
            _ = member.next() => unreachable!("nothing comes from there"),
            numbers = first_requests => assert_eq!(numbers.unwrap(), [1, 1, 1], "three clients"),
        }
    }

    #[tokio::test]
    async fn a_tail_that_knows_no_broker_is_replaced() {
        let (silent, settings) = Silent::open();
        let mut forgetful = impatient(settings.tail());
        forgetful.config.remove("bootstrap.servers");
        let mut tail = PartitionTail::with(forgetful, "topic", 0, 7).unwrap();
        tail.recipe = impatient(settings.tail());
        let first_request = tokio::task::spawn_blocking(|| silent.first_requests(1));
        tokio::select! {
            _ = tail.next() => unreachable!("nothing comes from there"),
            numbers = first_request => assert_eq!(numbers.unwrap(), [1]),
        }
    }

    #[test]
    fn only_accounts_in_a_row_count() {
        let standing = Standing::default();
        let account = |state: &str, join_state: &str| {
            let group = ConsumerGroup { state: state.to_owned(), join_state: join_state.to_owned(), ..ConsumerGroup::default() };
            standing.hear(&Statistics { cgrp: Some(group), ..knowing("learned") });
            // of a client without a group
            standing.hear(&knowing("learned"));
            standing.adrift.load(Ordering::Acquire)
        };
        assert_eq!(account("query-coord", "init"), 1);
        assert_eq!(account("up", "wait-join"), 2);
        assert!(standing.is_adrift(2) && !standing.is_adrift(3));
        assert_eq!(account("wait-broker-transport", "steady"), 3);
        assert_eq!(account("up", "steady"), 0);
        assert_eq!(account("up", "init"), 1);
        assert_eq!(account("up", "steady"), 0);
        standing.lose();
        assert_eq!(account("up", "steady"), 1, "it says so, and has nothing");
        assert!(!standing.has_place());
        standing.assign();
        assert_eq!(account("up", "steady"), 0);
        assert!(standing.has_place());
    }

    #[test]
    fn a_client_without_brokers_is_soon_given_up() {
        let standing = Standing::default();
        let is_alone = |source: &str| {
            standing.hear(&knowing(source));
            standing.is_alone()
        };
        assert!(!is_alone("logical"), "one that looks for brokers again knows none for a moment");
        assert!(!is_alone("configured"));
        assert!(!is_alone("logical"));
        assert!(is_alone("internal"));
        assert!(standing.is_adrift(ADRIFT));
        assert!(!is_alone("learned"));
    }
}
