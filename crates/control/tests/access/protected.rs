//! TLS, client certificates, and certificates that are renewed without a restart.

use std::{path::PathBuf, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};
use waypost_control::{
    access::{Authority, Gate},
    tls::Tls,
};
use waypost_proto::control::{self as pb, access_service_client::AccessServiceClient};

use super::town::{Entity, Town, with};

const NAME: &str = "spiffe://cluster/ns/shop/sa/marketing";

/// An authority.
struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate with these names, and its key.
    fn signs(&self, names: &[SanType]) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names.to_vec();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn server(&self) -> (String, String) {
        self.signs(&[SanType::IpAddress("127.0.0.1".parse().unwrap())])
    }

    fn client(&self, uris: &[&str]) -> Identity {
        let names: Vec<_> = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        let (certificate, key) = self.signs(&names);
        Identity::from_pem(certificate, key)
    }
}

fn files(town: &Town, ca: &Ca) -> (PathBuf, PathBuf) {
    let (certificate, key) = ca.server();
    (town.file("server.pem", certificate), town.file("server.key", key))
}

fn gate(town: &Town) -> Gate {
    let more = format!("[[certificate]]\nsan = \"{NAME}\"\nroles = [\"editor\"]\nworkspaces = [\"shop\"]\n");
    Gate::new(Authority::open(town.access(&[("ci", "\"viewer\"", "\"*\"")], &more)).unwrap())
}

/// Who the server takes a client for: name and how, or why not.
async fn whoami(address: &str, ca: &str, identity: Option<Identity>, token: &str) -> Result<(String, String), Code> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
    let tls = match identity {
        Some(identity) => tls.identity(identity),
        None => tls,
    };
    let endpoint = Channel::from_shared(address.to_owned()).unwrap().tls_config(tls).unwrap();
    let channel = endpoint.connect().await.map_err(|_| Code::Unavailable)?;
    let me = AccessServiceClient::new(channel).who_am_i(with(token, pb::WhoAmIRequest {})).await;
    me.map(|me| {
        let me = me.into_inner();
        (me.name, me.how)
    })
    .map_err(|status| status.code())
}

#[tokio::test]
async fn a_client_certificate_says_who_calls_and_a_token_may() {
    let town = Town::new(Entity::Known).await;
    let (servers, clients, strangers) = (Ca::new(), Ca::new(), Ca::new());
    let (certificate, key) = files(&town, &servers);
    let tls = Tls::open("control.tls_cert_file", certificate, key, Some(town.file("clients.pem", &clients.pem))).unwrap();
    let address = town.serve(gate(&town), Some(tls)).await;
    let ask = |identity, token: &'static str| whoami(&address, &servers.pem, identity, token);
    let known = |name: &str, how: &str| Ok((name.to_owned(), how.to_owned()));

    assert_eq!(ask(Some(clients.client(&[NAME])), "").await, known(NAME, "certificate"));
    assert_eq!(ask(Some(clients.client(&["spiffe://cluster/other"])), "").await, known("spiffe://cluster/other", "certificate"));
    assert_eq!(ask(Some(clients.client(&[NAME, "spiffe://cluster/other"])), "").await, Err(Code::Unauthenticated), "whose is it?");
    assert_eq!(ask(Some(clients.client(&[])), "").await, Err(Code::Unauthenticated), "it names nobody");
    assert_eq!(ask(None, "").await, Err(Code::Unauthenticated));
    assert_eq!(ask(None, "ci").await, known("ci", "token"));
    assert_eq!(ask(Some(clients.client(&[NAME])), "wrong").await, Err(Code::Unauthenticated), "a bad token is not made good");
    let stranger = ask(Some(strangers.client(&[NAME])), "ci").await;
    assert!(stranger.is_err(), "of an authority that nobody named: {stranger:?}");
    let dns = clients.signs(&[SanType::DnsName("marketing.shop".try_into().unwrap())]);
    assert_eq!(ask(Some(Identity::from_pem(dns.0, dns.1)), "").await, known("marketing.shop", "certificate"));
    assert!(whoami(&address, &strangers.pem, None, "ci").await.is_err(), "nor does a client believe any server");
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let town = Town::new(Entity::Known).await;
    let (before, after) = (Ca::new(), Ca::new());
    let (certificate, key) = files(&town, &before);
    let tls = Tls::open("control.tls_cert_file", certificate.clone(), key, None).unwrap();
    let address = town.serve(gate(&town), Some(tls)).await;
    assert!(whoami(&address, &before.pem, None, "ci").await.is_ok());
    std::fs::write(&certificate, "no certificate").unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(whoami(&address, &before.pem, None, "ci").await.is_ok());
    files(&town, &after);
    for _ in 0..100 {
        if whoami(&address, &after.pem, None, "ci").await.is_ok() {
            assert!(whoami(&address, &before.pem, None, "ci").await.is_err());
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the renewed certificate was not used");
}

#[test]
fn files_that_are_of_no_use_are_refused_at_once_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ca = Ca::new();
    let ((certificate, key), other) = (ca.server(), ca.server().1);
    let (certificate, key, other) = (put("c", &certificate), put("k", &key), put("o", &other));
    let garbage = put("g", "5ec7e7");
    let open = |certificate: &PathBuf, key: &PathBuf, authorities: Option<&PathBuf>| {
        Tls::open("t", certificate.clone(), key.clone(), authorities.cloned()).map(drop)
    };
    assert_eq!(open(&certificate, &key, None), Ok(()));
    for (wrong, says) in [
        (open(&garbage, &key, None), "no certificate"),
        (open(&certificate, &garbage, None), "private key"),
        (open(&certificate, &other, None), "certificate and key"),
        (open(&certificate, &key, Some(&garbage)), "no certificate"),
        (open(&folder.path().join("none"), &key, None), "none"),
    ] {
        let error = wrong.unwrap_err();
        assert!(error.contains(says) && !error.contains("5ec7e7"), "{error}");
    }
}
