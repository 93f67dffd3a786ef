//! TLS, users and sentinels, on a real Redis: who is let in, who is not, and what is said of it.

#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]
#![expect(
    clippy::disallowed_methods,
    reason = "where the test server is stands in the environment; how long a refusal takes is seen from outside"
)]

#[path = "user/guest.rs"]
#[allow(unreachable_pub, dead_code, reason = "shared with other tests")]
mod guest;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use guest::Guest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use waypost_memory::contract::{fresh_prefix, server};
use waypost_redis::{Accepts, RedisStore, Rights, Sentinels, Server, set_user};
use waypost_runtime::{
    ports::{InitReply, Install, Store, StoreError},
    upkeep::Upkeep as _,
};
use waypost_types::{PartitionId, Role};

const PARTITION: PartitionId = PartitionId { role: Role::Identity, index: 0 };

/// Where Redis speaks TLS, and the folder of certificates; none, and a line that says so, where it does not.
fn tls() -> Option<(String, PathBuf)> {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make test`"));
    let url = variable("WAYPOST_TEST_REDIS_TLS");
    if url.is_empty() {
        println!("skipped: the Redis of this run speaks no TLS");
        return None;
    }
    Some((url, variable("WAYPOST_TEST_TLS").into()))
}

fn install() -> Install {
    Install { id: "00".repeat(16), layout: 1, format: 1 }
}

/// The first call of a new store.
async fn call(server: &Server, prefix: &str) -> Result<InitReply, StoreError> {
    RedisStore::connect(server, prefix, &[])?.init(PARTITION, &install()).await
}

/// What a refused call says, which takes no longer than a failover may.
async fn refusal(server: &Server, prefix: &str) -> String {
    let began = Instant::now();
    let error = call(server, prefix).await.unwrap_err().to_string();
    assert!(began.elapsed() < Duration::from_secs(4), "{error} after {:?}", began.elapsed());
    assert!(!error.contains("before") && !error.contains("canary"), "{error}");
    error
}

/// The same server by TLS, as somebody it trusts.
fn over_tls(guest: &Guest, url: &str, folder: &std::path::Path) -> Server {
    let certificate = Some((folder.join("client.pem"), folder.join("client.key")));
    Server { url: url.to_owned(), ca_file: Some(folder.join("ca.pem")), certificate, ..guest.server() }
}

#[tokio::test]
async fn a_user_comes_in_over_tls() {
    let Some((url, folder)) = tls() else { return };
    let prefix = fresh_prefix();
    let guest = Guest::invite(&server("WAYPOST_TEST_REDIS"), &prefix, Rights::Services).await;
    assert_eq!(call(&over_tls(&guest, &url, &folder), &prefix).await, Ok(InitReply::Created));
    guest.see_off().await;
}

#[tokio::test]
async fn who_is_not_to_be_trusted_is_told_by_the_setting_at_fault() {
    let Some((url, folder)) = tls() else { return };
    let prefix = fresh_prefix();
    let guest = Guest::invite(&server("WAYPOST_TEST_REDIS"), &prefix, Rights::Services).await;
    let good = over_tls(&guest, &url, &folder);
    let stranger = Server { ca_file: Some(folder.join("other-ca.pem")), ..good.clone() };
    let public = Server { ca_file: None, ..good.clone() };
    let elsewhere = Server { url: url.replace("127.0.0.1", "localhost"), ..good.clone() };
    let nameless = Server { certificate: None, ..good.clone() };
    let garbled = Server { ca_file: Some(folder.join("password")), ..good.clone() };
    for (server, says) in [
        (stranger, "no authority of redis.ca_file"),
        (public, "no authority of redis.ca_file"),
        (elsewhere, "another name than the one in redis.url"),
        (nameless, "redis.cert_file"),
        (garbled, "redis.ca_file"),
    ] {
        let refusal = refusal(&server, &prefix).await;
        assert!(refusal.contains(says), "{says}: {refusal}");
    }
    assert_eq!(call(&good, &prefix).await, Ok(InitReply::Created));
    guest.see_off().await;
}

#[tokio::test]
async fn a_password_that_was_changed_is_read_again() {
    let prefix = fresh_prefix();
    let guest = Guest::invite(&server("WAYPOST_TEST_REDIS"), &prefix, Rights::Services).await;
    let store = RedisStore::connect(&guest.server(), &prefix, &[]).unwrap();
    assert_eq!(store.init(PARTITION, &install()).await, Ok(InitReply::Created));
    guest.give_password("after").await;
    assert_eq!(store.init(PARTITION, &install()).await, Ok(InitReply::Exists), "who is in stays in");
    guest.run(&format!("CLIENT KILL USER {}", guest.name)).await;
    // the connection that ended says so once
    drop(store.init(PARTITION, &install()).await);
    let refused = store.init(PARTITION, &install()).await.unwrap_err().to_string();
    assert!(refused.contains("redis.username") && refused.contains("redis.password_file"), "{refused}");
    assert!(!refused.contains("before"), "{refused}");
    guest.write_down("after");
    assert_eq!(store.init(PARTITION, &install()).await, Ok(InitReply::Exists));
    guest.see_off().await;
}

#[tokio::test]
async fn a_user_may_do_nothing_else() {
    let (url, prefix) = (server("WAYPOST_TEST_REDIS"), fresh_prefix());
    let guests = [Guest::invite(&url, &prefix, Rights::Services).await, Guest::invite(&url, &prefix, Rights::Administration).await];
    for guest in &guests {
        let (host, database) = url.strip_prefix("redis://").unwrap().split_once('/').unwrap();
        let to_him = format!("redis://{}:before@{host}/{database}", guest.name);
        let mut connection = redis::Client::open(to_him).unwrap().get_multiplexed_async_connection().await.unwrap();
        let own = format!("{{{prefix}wp1:identity:0}}:0:m");
        for line in [
            "FLUSHALL",
            "FLUSHDB",
            "KEYS *",
            "SCAN 0",
            "CONFIG SET maxmemory 0",
            "CONFIG REWRITE",
            "EVAL return 0",
            "SCRIPT FLUSH",
            "ACL LIST",
            "CLIENT LIST",
            "SHUTDOWN",
            "REPLICAOF NO ONE",
            "SUBSCRIBE news",
            "GET other",
            "HSET {wp1:identity:0}:0:m off 1",
            "DEL {other.wp1:identity:0}:0:m",
            &format!("RENAME {own} other"),
            &format!("EXPIRE {own} 1"),
        ] {
            let mut words = line.split(' ');
            let mut command = redis::cmd(words.next().unwrap());
            for word in words {
                command.arg(word);
            }
            if line.starts_with("EVAL") {
                command = redis::cmd("EVAL");
                command.arg("return 0").arg(0);
            }
            let error = command.query_async::<redis::Value>(&mut connection).await.unwrap_err();
            assert_eq!(error.code(), Some("NOPERM"), "{line}: {error}");
        }
        let removed = redis::cmd("UNLINK").arg(&own).query_async::<u32>(&mut connection).await;
        assert_eq!(removed.is_ok(), guest.name == guests[1].name, "only administration replaces state");
    }
    for guest in guests {
        guest.see_off().await;
    }
}

#[tokio::test]
async fn the_doctor_names_each_right_that_is_missing() {
    let (url, prefix) = (server("WAYPOST_TEST_REDIS"), fresh_prefix());
    let guest = Guest::invite(&url, &prefix, Rights::Services).await;
    let line = set_user(&guest.name, &prefix, Rights::Services, true).unwrap();
    let findings = || async {
        let store = RedisStore::connect(&guest.server(), &prefix, &[]).unwrap();
        store.doctor(&[PARTITION], &Accepts::default()).await.unwrap()
    };
    assert_eq!(findings().await, []);
    let rights: Vec<&str> = line.split(" +").skip(1).collect();
    assert!(rights.len() > 20, "{line}");
    for right in rights {
        // without it nobody comes into this database at all; without the second the settings are asserted by somebody; the third is for
        // clusters alone
        if ["select", "config|get", "cluster|slots"].contains(&right) {
            continue;
        }
        let less: Vec<&str> = line.split(' ').filter(|word| word.strip_prefix('+') != Some(right)).collect();
        guest.run(&less.join(" ")).await;
        let found = findings().await;
        assert_eq!(found.len(), 1, "{right}: {found:?}");
        let named = right.to_ascii_uppercase().replace('|', " ");
        assert!(
            found[0].refuses() && found[0].found.split(", ").any(|name| name.trim_start_matches("it may not ") == named),
            "{right}: {found:?}"
        );
    }
    guest.run(&line).await;
    guest.run(&format!("ACL SETUSER {} resetkeys ~other:*", guest.name)).await;
    let found = findings().await;
    assert!(found[0].found.contains("HSET") && found[0].change.contains("waypost redis-acl"), "{found:?}");
    guest.run(&line).await;
    assert_eq!(findings().await, []);
    // nothing that was looked at was done
    let store = RedisStore::connect(&guest.server(), &prefix, &[]).unwrap();
    assert_eq!(store.head(PARTITION).await, Ok(None));
    assert_eq!(store.deaths(PARTITION).await, Ok(None));
    guest.see_off().await;
}

/// Something that answers some words of Redis' protocol, on a port of its own.
#[derive(Clone)]
struct Pretender {
    port: u16,
    /// What it answers to SENTINEL and to ROLE; none: nothing, ever.
    answer: Arc<Mutex<Option<String>>>,
}

impl Pretender {
    async fn open(answer: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pretender = Self { port: listener.local_addr().unwrap().port(), answer: Arc::new(Mutex::new(answer)) };
        let served = pretender.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let served = served.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        let said = String::from_utf8_lossy(&buffer[..count]).into_owned();
                        // it knows no users
                        let user = said.contains("AUTH").then(|| "-WRONGPASS invalid username-password pair\r\n".to_owned());
                        let Some(answer) = user.or_else(|| served.answer.lock().unwrap().clone()) else { continue };
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        pretender
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// As a sentinel says where the master is.
fn at(port: &str) -> String {
    format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len())
}

#[tokio::test]
async fn sentinels_are_asked_in_turn_who_is_the_master() {
    let (url, prefix) = (server("WAYPOST_TEST_REDIS"), fresh_prefix());
    let guest = Guest::invite(&url, &prefix, Rights::Services).await;
    let port = url.rsplit_once(':').unwrap().1.split_once('/').unwrap().0.to_owned();
    let silent = Pretender::open(None).await;
    let ignorant = Pretender::open(Some("*-1\r\n".to_owned())).await;
    let knowing = Pretender::open(Some(at(&port))).await;
    let addresses = ["127.0.0.1:1".to_owned(), silent.address(), ignorant.address(), knowing.address()].to_vec();
    let sentinels = |addresses| Some(Sentinels { addresses, master: "shop".to_owned() });
    let database = url.rsplit_once('/').unwrap().1;
    let server =
        Server { sentinels: sentinels(addresses), ..Server { url: format!("redis://nowhere.invalid/{database}"), ..guest.server() } };
    assert_eq!(call(&server, &prefix).await, Ok(InitReply::Created));
    let lost = Server { sentinels: sentinels(vec![ignorant.address()]), ..server.clone() };
    let refused = refusal(&lost, &prefix).await;
    assert!(refused.contains("redis.sentinels") && refused.contains("`shop` (redis.master)"), "{refused}");
    guest.see_off().await;
}

#[tokio::test]
async fn a_master_that_was_demoted_is_not_written_to() {
    let (url, prefix) = (server("WAYPOST_TEST_REDIS"), fresh_prefix());
    let port = url.rsplit_once(':').unwrap().1.split_once('/').unwrap().0.to_owned();
    let demoted = Pretender::open(Some("*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:1\r\n$9\r\nconnected\r\n:0\r\n".to_owned())).await;
    let sentinel = Pretender::open(Some(at(&demoted.port.to_string()))).await;
    let sentinels = Some(Sentinels { addresses: vec![sentinel.address()], master: "shop".to_owned() });
    let store = RedisStore::connect(&Server { sentinels, ..Server::at("redis://nowhere.invalid/0") }, &prefix, &[]).unwrap();
    let refused = store.init(PARTITION, &install()).await.unwrap_err().to_string();
    assert!(refused.contains("says that it is none"), "{refused}");
    *sentinel.answer.lock().unwrap() = Some(at(&port));
    assert_eq!(store.init(PARTITION, &install()).await, Ok(InitReply::Created), "the next connection leads to the new one");
}
