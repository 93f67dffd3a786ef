//! Who calls: what the key allows, whether a page may show it, and how often.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderValue, header, request::Parts},
};
use waypost_codec::write_key;

use super::{
    Ingest, Inner,
    address::{FORWARDED_FOR, Household},
    answer::Refusal,
};
use crate::{Reason, Rights};

/// Whoever forgets to name his balancer sees all clients as one.
const UNBELIEVED: &str = "X-Forwarded-For came from an address that ingest.trusted_proxies does not name, and is not believed: if that \
    is your load balancer, name it, or all its clients share the rate and the connections of one address";

/// Where a request comes from.
#[derive(Debug)]
pub(super) struct Client {
    /// None where nobody is connected: the router is called within the process.
    household: Option<Household>,
    /// Of the page whose script calls: browsers say it of every such call, and nobody else does.
    origin: Option<HeaderValue>,
}

/// Somebody who has not shown what he may yet. Who never does has used one of his address' requests when he goes, however
/// that is: answered, cut off or out of patience.
pub(super) struct Caller<'a> {
    door: &'a Inner,
    client: Client,
    is_stranger: bool,
}

// === impl Client ===

impl FromRequestParts<Ingest> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, ingest: &Ingest) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        let proxies = &ingest.inner.config.proxies;
        if peer.is_some_and(|peer| !proxies.contains(peer)) && parts.headers.contains_key(FORWARDED_FOR) {
            ingest.inner.unbelieved.call_once(|| tracing::warn!("{UNBELIEVED}"));
        }
        let household = peer.map(|peer| Household::of(proxies.client(peer, &parts.headers)));
        Ok(Self { household, origin: parts.headers.get(header::ORIGIN).cloned() })
    }
}

// === impl Caller ===

impl<'a> Caller<'a> {
    pub(super) fn new(door: &'a Inner, client: Client) -> Self {
        Self { door, client, is_stranger: true }
    }

    /// Refuses a stranger whose address has asked too often; asking is for nothing.
    pub(super) fn may_ask(&self) -> Result<(), Refusal> {
        let now = self.door.clock.now();
        let has = |household| self.door.address_rate.has(household, now);
        if self.client.household.is_none_or(has) { Ok(()) } else { Err(too_often("from this address")) }
    }

    /// What the key allows, here and now.
    pub(super) fn shows(&mut self, key: &str) -> Result<Arc<Rights>, Refusal> {
        let rights = match self.judge(key) {
            Ok(rights) => rights,
            Err(refusal) => {
                self.may_ask()?;
                return Err(refusal);
            }
        };
        if rights.is_browser() && !self.uses_one() {
            return Err(too_often("from this address"));
        }
        self.welcome();
        if self.door.key_rate.take(write_key::hash(key), self.door.clock.now()) {
            Ok(rights)
        } else {
            Err(too_often("with this write key"))
        }
    }

    /// Known otherwise than by a key.
    pub(super) fn welcome(&mut self) {
        self.is_stranger = false;
    }

    fn judge(&self, key: &str) -> Result<Arc<Rights>, Refusal> {
        let rights = self.door.keys.by_key(key, self.door.clock.now());
        let rights = rights.ok_or_else(|| Refusal::new(Reason::BadKey, "unknown write key"))?;
        let forbidden = |message| Err(Refusal::new(Reason::SourceForbidden, message));
        if rights.kind == "kafka" {
            return forbidden("this key's source writes to Kafka");
        }
        match &self.client.origin {
            // Anybody can read a page, and the key in it.
            Some(_) if !rights.is_browser() => {
                forbidden("this key is a server's, and a page showed it: rotate it, and give the page the key of a browser source")
            }
            Some(origin) if !self.door.config.origins.allows(origin) => forbidden("pages of this origin may not call"),
            Some(_) | None => Ok(rights),
        }
    }

    /// Uses one of the address' requests; whether one was left.
    fn uses_one(&self) -> bool {
        let now = self.door.clock.now();
        self.client.household.is_none_or(|household| self.door.address_rate.take(household, now))
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        if self.is_stranger {
            self.uses_one();
        }
    }
}

fn too_often(what: &str) -> Refusal {
    Refusal::new(Reason::Throttled, format!("too many requests a second {what}"))
}
