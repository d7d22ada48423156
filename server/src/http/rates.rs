//! Who asks too much: by user where there is a valid token, by address where there is none.
//!
//! A request costs 1, and each change of a batch after the first 1 more: a batch is charged for when it
//! has been read and before the store sees it, all of it or nothing. An address is only charged for
//! what carries no valid token, so that many users behind one address do not pay for each other.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName};

use super::metrics::{By, Metrics};
use super::problem::Problem;
use crate::config::Config;
use crate::ids::UserId;
use crate::rate::Limiter;

/// The buckets of users and addresses.
pub(super) struct Rates {
    users: Option<Limiter>,
    peers: Option<Limiter>,
    proxy_header: Option<HeaderName>,
}

impl Rates {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            users: config.rates.user.map(Limiter::new),
            peers: config.rates.peer.map(Limiter::new),
            proxy_header: config.proxy_header.clone(),
        }
    }

    /// Charges a user for a request.
    pub(super) fn user(&self, user: &UserId, metrics: &Metrics) -> Result<(), Problem> {
        let charge = |users: &Limiter| users.charge(&user.as_str(), 1);
        let charged = self.users.as_ref().map_or(Ok(()), charge);
        charged.map_err(|wait| refused(wait, By::User, metrics))
    }

    /// Charges a user for what a request has more than others.
    pub(super) fn more(
        &self,
        user: &UserId,
        more: usize,
        metrics: &Metrics,
    ) -> Result<(), Problem> {
        let charge = |users: &Limiter| users.charge_more(&user.as_str(), more);
        let charged = self.users.as_ref().map_or(Ok(()), charge);
        charged.map_err(|wait| refused(wait, By::User, metrics))
    }

    /// Charges the address that a request came from.
    pub(super) fn peer(&self, parts: &Parts, metrics: &Metrics) -> Result<(), Problem> {
        let charged = match &self.peers {
            Some(peers) => peers.charge(&self.address(&parts.headers, &parts.extensions), 1),
            None => Ok(()),
        };
        charged.map_err(|wait| refused(wait, By::Peer, metrics))
    }

    /// Whether the request has the header of a proxy that is trusted, readable or not.
    pub(super) fn is_forwarded(&self, headers: &HeaderMap) -> bool {
        let name = self.proxy_header.as_ref();
        name.is_some_and(|name| headers.contains_key(name))
    }

    /// The address that the proxy's header tells, where one is trusted.
    pub(super) fn told(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let name = self.proxy_header.as_ref()?;
        let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
        value.rsplit(',').next()?.trim().parse().ok()
    }

    /// The address, or the part of it that one party has for itself: of IPv6 the first 64 bits. Behind a
    /// proxy it is the last one in the proxy's header; what stands before was written by others.
    fn address(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>();
        let address = self
            .told(headers)
            .or(peer.map(|ConnectInfo(peer)| peer.ip()))?;
        Some(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            address => address,
        })
    }
}

fn refused(wait: Duration, by: By, metrics: &Metrics) -> Problem {
    metrics.rate_limited(by);
    // Rounded up: who comes back a moment too early has come for nothing.
    Problem::asked_too_much(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn address(header: Option<&'static str>, values: &[&'static str], peer: &str) -> String {
        let rates = Rates {
            users: None,
            peers: None,
            proxy_header: header.map(HeaderName::from_static),
        };
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-forwarded-for", HeaderValue::from_static(value));
        }
        let mut extensions = Extensions::new();
        let peer: SocketAddr = peer.parse().unwrap();
        extensions.insert(ConnectInfo(peer));
        rates.address(&headers, &extensions).unwrap().to_string()
    }

    #[test]
    fn addresses_are_those_of_the_socket_unless_a_proxy_is_trusted() {
        let (peer, forged) = ("127.0.0.1:9", &["9.9.9.9"][..]);
        assert_eq!(address(None, forged, peer), "127.0.0.1");
        let header = Some("x-forwarded-for");
        assert_eq!(address(header, forged, peer), "9.9.9.9");
        let both = ["9.9.9.9, 1.1.1.1", "2.2.2.2,3.3.3.3"];
        assert_eq!(address(header, &both, peer), "3.3.3.3", "the proxy's own");
        assert_eq!(address(header, &["nonsense"], peer), "127.0.0.1");
        assert_eq!(address(None, &[], "[::ffff:10.0.0.1]:9"), "10.0.0.1");
        assert_eq!(
            address(None, &[], "[2001:db8:1:2:3:4:5:6]:9"),
            "2001:db8:1:2::"
        );
    }
}
