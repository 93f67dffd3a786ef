//! Tokens of an issuer, by each algorithm that is believed.

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use rcgen::KeyPair;
use serde_json::{Value, json};
use tonic::Code;
use waypost_control::access::{Authority, AuthoritySettings, Gate, Issuer, Keys, KeysError};
use waypost_proto::control::{self as pb, access_service_client::AccessServiceClient};

use super::town::{Entity, NOW, Town, call, with};

const CLAIMS: &str = "[[claim]]\nvalue = \"waypost-admins\"\nroles = [\"admin\"]\nworkspaces = [\"*\"]\n";

struct Fixed(Value);

#[async_trait]
impl Keys for Fixed {
    async fn fetch(&self) -> Result<Vec<u8>, KeysError> {
        Ok(self.0.to_string().into_bytes())
    }
}

/// A key of the issuer: its name, what it signs with, and itself.
fn key(kid: &str, algorithm: Algorithm) -> (Value, EncodingKey) {
    let key = if algorithm == Algorithm::RS256 {
        let pair = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        // What jsonwebtoken takes lies behind the first 26 bytes of what rcgen gives.
        EncodingKey::from_rsa_der(&pair.serialize_der()[26..])
    } else if algorithm == Algorithm::ES256 {
        EncodingKey::from_ec_der(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_der())
    } else {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
        return (json!({"kid": kid, "kty": "OKP", "crv": "Ed25519", "x": x}), EncodingKey::from_ed_der(&pair.serialize_der()));
    };
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
    jwk["kid"] = kid.into();
    (jwk, key)
}

fn token(kid: &str, algorithm: Algorithm, key: &EncodingKey, changes: &Value) -> String {
    let mut claims =
        json!({"iss": "https://id.example", "aud": "waypost", "sub": "ana", "exp": NOW / 1000 + 600, "groups": ["waypost-admins"]});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    encode(&Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) }, &claims, key).unwrap()
}

async fn town(keys: Vec<Value>) -> (Town, tonic::transport::Channel) {
    let town = Town::new(Entity::Known).await;
    let issuer = Issuer {
        name: "https://id.example".to_owned(),
        audience: "waypost".to_owned(),
        claim: "groups".to_owned(),
        keys: Arc::new(Fixed(json!({"keys": keys}))),
        clock: Arc::new(town.clock.clone()),
    };
    let settings = AuthoritySettings { issuer: Some(issuer), ..town.access(&[("ci", "\"viewer\"", "\"*\"")], CLAIMS) };
    let channel = town.open(Gate::new(Authority::open(settings).unwrap())).await;
    (town, channel)
}

#[tokio::test]
async fn a_signed_token_is_believed_by_each_algorithm_and_a_static_one_beside_it() {
    let all = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    let pairs: Vec<_> = all.iter().map(|algorithm| key(&format!("{algorithm:?}"), *algorithm)).collect();
    let (_town, channel) = town(pairs.iter().map(|(jwk, _)| jwk.clone()).collect()).await;
    let mut client = AccessServiceClient::new(channel.clone());
    for (algorithm, (_, key)) in all.iter().zip(&pairs) {
        let token = token(&format!("{algorithm:?}"), *algorithm, key, &json!({}));
        let me = client.who_am_i(with(&token, pb::WhoAmIRequest {})).await.unwrap().into_inner();
        assert_eq!((me.name.as_str(), me.how.as_str()), ("ana", "oidc"));
        assert_eq!((me.grants[0].roles[0].as_str(), me.grants[0].workspaces[0].as_str()), ("admin", "*"));
    }
    let me = client.who_am_i(with("ci", pb::WhoAmIRequest {})).await.unwrap().into_inner();
    assert_eq!((me.name.as_str(), me.how.as_str()), ("ci", "token"));
}

#[tokio::test]
async fn whoever_the_issuer_knows_without_a_claim_of_ours_is_known_and_may_do_nothing() {
    let (jwk, key) = key("k", Algorithm::EdDSA);
    let (_town, channel) = town(vec![jwk]).await;
    let token = token("k", Algorithm::EdDSA, &key, &json!({"groups": ["others"]}));
    let me = AccessServiceClient::new(channel.clone()).who_am_i(with(&token, pb::WhoAmIRequest {})).await.unwrap().into_inner();
    assert!(me.name == "ana" && me.grants.is_empty());
    let list = call(&channel, "/waypost.control.v1.DefinitionService/ListDefinitions", with(&token, Bytes::new())).await;
    assert_eq!(list.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_forged_stale_or_foreign_token_is_not_believed() {
    let (jwk, good) = key("k", Algorithm::ES256);
    let (other_jwk, other) = key("k", Algorithm::ES256);
    drop(other_jwk);
    let (_town, channel) = town(vec![jwk]).await;
    let mut client = AccessServiceClient::new(channel);
    let good_one = token("k", Algorithm::ES256, &good, &json!({}));
    let (head, signature) = good_one.rsplit_once('.').unwrap();
    // The claims of one token under the signature of another.
    let moved = {
        let later = token("k", Algorithm::ES256, &good, &json!({"sub": "ben"}));
        format!("{}.{signature}", later.rsplit_once('.').unwrap().0)
    };
    let symmetric =
        encode(&Header { kid: Some("k".into()), ..Header::new(Algorithm::HS256) }, &json!({"sub": "ana"}), &EncodingKey::from_secret(b"k"));
    for (what, bad) in [
        ("another key", token("k", Algorithm::ES256, &other, &json!({}))),
        ("an unknown key", token("x", Algorithm::ES256, &good, &json!({}))),
        ("expired", token("k", Algorithm::ES256, &good, &json!({"exp": NOW / 1000 - 60}))),
        ("another audience", token("k", Algorithm::ES256, &good, &json!({"aud": "others"}))),
        ("another issuer", token("k", Algorithm::ES256, &good, &json!({"iss": "https://id.other"}))),
        ("no signature", format!("{head}.")),
        ("moved signature", moved),
        ("symmetric", symmetric.unwrap()),
    ] {
        let refused = client.who_am_i(with(&bad, pb::WhoAmIRequest {})).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{what}");
        assert!(!refused.message().contains(&bad), "{what}: a token is never repeated");
    }
    assert!(client.who_am_i(with(&good_one, pb::WhoAmIRequest {})).await.is_ok());
}
