//! Where a caller is: the connection's address, or what proxies of ours say of it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::http::HeaderMap;
use ipnet::IpNet;

pub(super) const FORWARDED_FOR: &str = "x-forwarded-for";

/// Networks of proxies whose `X-Forwarded-For` is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

/// Why a list of networks is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network of proxies: expected one as 10.0.0.0/8 or fd00::/8, or an address")]
pub struct NotANetwork(String);

/// What counts as one caller: an address of IPv4, or the /64 that a household has of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Household(u128);

// === impl TrustedProxies ===

impl TrustedProxies {
    /// Networks with a comma between two; empty: nobody is believed.
    ///
    /// # Errors
    /// What is no network, or everybody's.
    pub fn parse(text: &str) -> Result<Self, NotANetwork> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(network).collect::<Result<Vec<_>, _>>().map(|networks| Self(networks.into()))
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The nearest address that is no proxy of ours: who stands farther off could have written what he likes.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        let mut nearest = peer.to_canonical();
        while self.contains(nearest) {
            // What cannot be read was not written by a proxy of ours.
            let Some(farther) = hops.next().and_then(address) else { break };
            nearest = farther;
        }
        nearest
    }
}

// === impl Household ===

impl Household {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
        })
    }
}

fn network(entry: &str) -> Result<IpNet, NotANetwork> {
    let network = entry.parse().or_else(|_| entry.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical())));
    // A proxy that is everybody lets everybody say who he is.
    network.ok().filter(|network: &IpNet| network.prefix_len() > 0).ok_or_else(|| NotANetwork(entry.to_owned()))
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let found = bare.parse::<IpAddr>().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    found.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn client(proxies: &str, peer: &str, lines: &[&'static str]) -> IpAddr {
        let headers = lines.iter().map(|line| (FORWARDED_FOR.parse().unwrap(), HeaderValue::from_static(line))).collect();
        TrustedProxies::parse(proxies).unwrap().client(ip(peer), &headers)
    }

    #[test]
    fn the_nearest_address_that_is_no_proxy_of_ours_is_the_callers() {
        let ours = "10.0.0.0/8, fd00::/8, 192.0.2.7";
        for (proxies, peer, lines, expected) in [
            ("", "10.1.1.1", &["203.0.113.9"][..], "10.1.1.1"),
            (ours, "198.51.100.1", &["203.0.113.9"], "198.51.100.1"),
            (ours, "10.1.1.1", &[], "10.1.1.1"),
            (ours, "10.1.1.1", &["203.0.113.9"], "203.0.113.9"),
            (ours, "::ffff:10.1.1.1", &["203.0.113.9"], "203.0.113.9"),
            (ours, "10.1.1.1", &["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            (ours, "10.1.1.1", &["1.1.1.1, 203.0.113.9 , 10.2.2.2,192.0.2.7"], "203.0.113.9"),
            (ours, "10.1.1.1", &["1.1.1.1", "203.0.113.9", "10.2.2.2"], "203.0.113.9"),
            (ours, "fd00::1", &["[2001:db8::5]:4711"], "2001:db8::5"),
            (ours, "fd00::1", &["[2001:db8::5]"], "2001:db8::5"),
            (ours, "10.1.1.1", &["203.0.113.9:80"], "203.0.113.9"),
            (ours, "10.1.1.1", &["203.0.113.9, unknown"], "10.1.1.1"),
            (ours, "10.1.1.1", &["203.0.113.9, nonsense, 10.3.3.3"], "10.3.3.3"),
            (ours, "10.1.1.1", &["10.9.9.9, 10.8.8.8"], "10.9.9.9"),
            (ours, "10.1.1.1", &[""], "10.1.1.1"),
        ] {
            assert_eq!(client(proxies, peer, lines), ip(expected), "{peer} {lines:?}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_its_text() {
        for bad in ["10.0.0.0/33", "proxy.example", "10.0.0.0/8 fd00::/8", "0.0.0.0/0", "::/0", "10.0.0.0/"] {
            let error = TrustedProxies::parse(&format!("10.0.0.0/8, {bad}")).unwrap_err().to_string();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
        assert!(TrustedProxies::parse(" , ").is_ok_and(|none| !none.contains(ip("10.0.0.1"))));
    }

    #[test]
    fn a_household_is_one_address_or_one_network_of_ipv6() {
        let same = |a: &str, b: &str| Household::of(ip(a)) == Household::of(ip(b));
        assert!(same("203.0.113.9", "::ffff:203.0.113.9") && same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("203.0.113.9", "203.0.113.8") && !same("2001:db8::1", "2001:db8:0:1::1"));
    }
}
