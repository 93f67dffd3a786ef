//! All roles over TLS and as users: SCRAM at Kafka, at Redis the rights that `waypost redis-acl` prints.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::{
    redis::Held,
    shop::{ROLES, Shop, said},
    stack,
};

const NAME: &str = "secure";
const USER: &str = "it-waypost";

/// A user of Redis, as an operator makes one.
fn make_user(prefix: &str, password: &str) {
    let mut acl = Command::new(stack::variable("WAYPOST_BIN"));
    let output = acl.args(["redis-acl", "--user", USER]).env("WAYPOST_INSTALL_PREFIX", prefix).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let line = String::from_utf8(output.stdout).unwrap();
    let host = Held::under(prefix);
    host.ask(&line.split_whitespace().collect::<Vec<_>>());
    host.ask(&["ACL", "SETUSER", USER, &format!(">{password}")]);
}

fn settings(tls: &Path, redis: &str, password_file: &Path) -> Vec<(String, String)> {
    let file = |name: &str| tls.join(name).display().to_string();
    let redis_password = password_file.display().to_string();
    let settings = [
        ("KAFKA_BROKERS", stack::variable("WAYPOST_TEST_KAFKA_SASL_SSL")),
        ("KAFKA_SECURITY", "sasl_ssl".to_owned()),
        ("KAFKA_CA_FILE", file("ca.pem")),
        ("KAFKA_SASL", "scram-sha-512".to_owned()),
        ("KAFKA_USERNAME", "waypost".to_owned()),
        ("KAFKA_PASSWORD_FILE", file("password")),
        ("REDIS_URL", redis.to_owned()),
        ("REDIS_USERNAME", USER.to_owned()),
        ("REDIS_PASSWORD_FILE", redis_password),
        ("REDIS_CA_FILE", file("ca.pem")),
        ("REDIS_CERT_FILE", file("client.pem")),
        ("REDIS_KEY_FILE", file("client.key")),
    ];
    settings.map(|(name, value)| (format!("WAYPOST_{name}"), value)).to_vec()
}

#[test]
fn an_event_becomes_a_message_over_secured_connections() {
    let (tls, redis) = (stack::variable("WAYPOST_TEST_TLS"), stack::variable("WAYPOST_TEST_REDIS_TLS"));
    if tls.is_empty() || redis.is_empty() {
        println!("skipped: the servers of this run have no TLS");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (password, password_file) = ("canary-4711", folder.path().join("password"));
    fs::write(&password_file, format!("{password}\n")).unwrap();
    make_user(&Shop::prefix_of(NAME), password);
    let tls = PathBuf::from(tls);
    let beside = stack::beside(NAME, settings(&tls, &redis, &password_file));
    let shop = &beside.shop;
    let address = shop.person("behind-doors");
    shop.touch(&json!({"userId": "behind-doors"}), "k-behind-doors");
    shop.mail(&address, "remind k-behind-doors");
    shop.order(&json!({"userId": "behind-doors"}), "o-behind-doors");
    shop.ended("cart-recovery", "k-behind-doors");

    let kafkas = fs::read_to_string(tls.join("password")).unwrap();
    for role in ROLES {
        let log = shop.log(role);
        assert!(!log.contains(password) && !log.contains(kafkas.trim()), "{role} logged a password");
    }

    // what an operator sees who got a password wrong
    fs::write(&password_file, "canary-4712\n").unwrap();
    let doctor = shop.run(&["doctor"]);
    let words = said(&doctor);
    assert!(!doctor.status.success() && words.contains("redis.password_file") && !words.contains("canary-4712"), "{words}");
    Held::under(shop.prefix()).ask(&["ACL", "DELUSER", USER]);
}
