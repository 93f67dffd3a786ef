//! Redis keeps the promises of a store, to users who may do what Waypost needs and nothing else.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "user/guest.rs"]
#[allow(unreachable_pub, dead_code, reason = "shared with other tests")]
mod guest;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use guest::Guest;
use redis::{Value, aio::MultiplexedConnection};
use waypost_memory::contract::{Meddle, StoreFixture, fresh_prefix, server, store_suite};
use waypost_redis::{Accepts, Keys, RedisStore, Rights};
use waypost_runtime::{
    digest::Part,
    ports::{ClaimReply, Commit, CommitReply, InitReply, Install, Meta, Read, ReadReply, Store, Token},
    upkeep::Upkeep,
};
use waypost_types::{EntityId, PartitionId, Role, WorkspaceId};

/// Its keys will expire.
const MORTAL: PartitionId = PartitionId { role: Role::Sender, index: 77 };

/// What `DUMP` says of each key; none: no such key.
type Saved = Vec<(String, Option<Vec<u8>>)>;

struct OnRedis {
    /// As serving processes reach it.
    store: Arc<RedisStore>,
    /// As administration does.
    upkeep: Arc<RedisStore>,
    guests: [Guest; 2],
    keys: Keys,
    connection: MultiplexedConnection,
    saved: Mutex<Saved>,
}

impl OnRedis {
    async fn new() -> Self {
        let (url, prefix) = (server("WAYPOST_TEST_REDIS"), fresh_prefix());
        let connection = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
        let services = Guest::invite(&url, &prefix, Rights::Services).await;
        let administration = Guest::invite(&url, &prefix, Rights::Administration).await;
        let [store, upkeep] =
            [&services, &administration].map(|guest| Arc::new(RedisStore::connect(&guest.server(), &prefix, &[]).unwrap()));
        Self { store, upkeep, guests: [services, administration], keys: Keys::new(prefix, &[]), connection, saved: Mutex::default() }
    }

    async fn run(&self, command: &str, args: &[&str]) -> Value {
        redis::cmd(command).arg(args).query_async(&mut self.connection.clone()).await.unwrap()
    }

    async fn save(&self, partition: PartitionId) -> Saved {
        let keys = self.keys.all(partition);
        let mut pipeline = redis::pipe();
        for key in &keys {
            pipeline.cmd("DUMP").arg(key);
        }
        let dumps: Vec<Option<Vec<u8>>> = pipeline.query_async(&mut self.connection.clone()).await.unwrap();
        keys.into_iter().zip(dumps).collect()
    }

    async fn restore(&self, saved: Saved) {
        for (key, dump) in saved {
            self.run("DEL", &[&key]).await;
            if let Some(dump) = dump {
                let mut restore = redis::cmd("RESTORE");
                restore.arg(key).arg(0).arg(dump);
                restore.query_async::<Value>(&mut self.connection.clone()).await.unwrap();
            }
        }
    }
}

#[async_trait]
impl StoreFixture for OnRedis {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    fn upkeep(&self) -> Arc<dyn Upkeep> {
        Arc::clone(&self.upkeep) as Arc<dyn Upkeep>
    }

    async fn dump(&self, partition: PartitionId) -> Vec<u8> {
        format!("{:?}", self.save(partition).await).into_bytes()
    }

    async fn lose(&self, partition: PartitionId, part: Part, entity: &EntityId, sequence: &str) {
        let command = match part {
            Part::Bucket(bucket) => redis::Cmd::hdel(self.keys.bucket(partition, bucket), entity.as_bytes()),
            Part::Timers => redis::Cmd::zrem(self.keys.timers(partition), entity.as_bytes()),
            Part::Sequences => redis::Cmd::hdel(self.keys.sequences(partition), sequence),
        };
        let lost: u32 = command.query_async(&mut self.connection.clone()).await.unwrap();
        assert_eq!(lost, 1, "nothing to lose");
    }

    async fn meddle(&self, partition: PartitionId, meddle: Meddle) {
        let meta = self.keys.meta(partition);
        match meddle {
            Meddle::Freeze(operation) => {
                self.run("HSET", &[&meta, "own", &format!("frozen:{operation}")]).await;
            }
            Meddle::Thaw => {
                self.run("HSET", &[&meta, "own", ""]).await;
            }
            Meddle::Corrupt => {
                self.run("SET", &[&self.keys.timers(partition), "a string"]).await;
            }
            Meddle::Save => {
                let saved = self.save(partition).await;
                *self.saved.lock().unwrap() = saved;
            }
            Meddle::Restore => {
                let saved = std::mem::take(&mut *self.saved.lock().unwrap());
                self.restore(saved).await;
            }
            Meddle::Full => {
                self.run("CONFIG", &["SET", "maxmemory", "1"]).await;
            }
            Meddle::Free => {
                self.run("CONFIG", &["SET", "maxmemory", "2gb"]).await;
            }
        }
    }
}

#[tokio::test]
async fn the_store_keeps_its_promises_and_its_server_is_fit() {
    // one test, because the suite fills the server up for a moment
    let fixture = OnRedis::new().await;
    let refused = || async {
        let findings = fixture.store.doctor(&[MORTAL], &Accepts::default()).await.unwrap();
        findings.into_iter().filter(waypost_runtime::finding::Finding::refuses).map(|f| f.check).collect::<Vec<_>>()
    };
    assert_eq!(refused().await, Vec::<String>::new());
    let meta = fixture.keys.meta(MORTAL);
    fixture.run("HSET", &[&meta, "off", "0"]).await;
    assert_eq!(refused().await, Vec::<String>::new());
    fixture.run("EXPIRE", &[&meta, "1000"]).await;
    assert_eq!(refused().await, ["redis keys with a time to live"]);
    store_suite(&fixture, 3_000).await;
    commits_race_with_claims(&fixture).await;
    a_key_of_another_kind_is_found_out(&fixture).await;
    a_flushed_script_cache_is_loaded_again(&fixture).await;
    for guest in &fixture.guests {
        guest.see_off().await;
    }
}

async fn a_flushed_script_cache_is_loaded_again(fixture: &OnRedis) {
    let partition = PartitionId { role: Role::Identity, index: 9 };
    let install = Install { id: "00".repeat(16), layout: 1, format: 1 };
    assert_eq!(fixture.store.init(partition, &install).await, Ok(InitReply::Created));
    fixture.run("SCRIPT", &["FLUSH"]).await;
    assert!(matches!(fixture.store.claim(partition, Token([1; 16]), &install).await, Ok(ClaimReply::Ok(_))));
}

/// Each owner commits while the next one claims: what is answered is what the store holds.
async fn commits_race_with_claims(fixture: &OnRedis) {
    let partition = PartitionId { role: Role::Segmenter, index: 5 };
    let (store, install) = (&fixture.store, Install { id: "00".repeat(16), layout: 1, format: 1 });
    store.init(partition, &install).await.unwrap();
    let entity = EntityId::new(WorkspaceId::new(7), b'p', b"somebody");
    let (mut off, mut stored) = (0, Vec::new());
    for n in 0..500_u16 {
        let token = |who| Token([n.to_be_bytes()[0], n.to_be_bytes()[1], who, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(matches!(store.claim(partition, token(1), &install).await, Ok(ClaimReply::Ok(_))));
        let value = n.to_string().into_bytes();
        let entities = vec![(entity.clone(), Some(Bytes::from(value.clone())))];
        let (timers, sequences) = Default::default();
        let commit = Commit { token: token(1), expected: off, next: off + 1, meta: Meta::default(), entities, timers, sequences };
        let (committed, claimed) = tokio::join!(store.commit(partition, &commit), store.claim(partition, token(2), &install));
        match committed {
            Ok(CommitReply::Ok) => (off, stored) = (off + 1, value),
            Ok(CommitReply::Fenced) => {}
            other => panic!("{other:?}"),
        }
        let Ok(ClaimReply::Ok(claimed)) = claimed else { panic!("{claimed:?}") };
        assert_eq!(claimed.off, off, "whoever claims sees all that is ever committed by the one before");
        let read = Read { token: token(2), expected: vec![off], entities: vec![entity.clone()], timers: None };
        let Ok(ReadReply::Ok { entities, .. }) = store.read(partition, &read).await else { panic!("owner {n}") };
        assert_eq!(entities[0].as_deref().unwrap_or_default(), stored);
    }
}

/// Nobody but a person with other tools does that. What was written stays, the offset too, so it must be told from everything else.
async fn a_key_of_another_kind_is_found_out(fixture: &OnRedis) {
    let partition = PartitionId { role: Role::Sender, index: 3 };
    let install = Install { id: "00".repeat(16), layout: 1, format: 1 };
    let token = Token([0x11; 16]);
    fixture.store.init(partition, &install).await.unwrap();
    assert!(matches!(fixture.store.claim(partition, token, &install).await, Ok(ClaimReply::Ok(_))));
    let entity = EntityId::new(WorkspaceId::new(7), b'p', b"somebody");
    fixture.run("SET", &[&fixture.keys.bucket(partition, entity.bucket()), "text"]).await;
    let entities = vec![(entity, Some(Bytes::from_static(b"state")))];
    let (timers, sequences) = Default::default();
    let commit = Commit { token, expected: 0, next: 1, meta: Meta::default(), entities, timers, sequences };
    assert_eq!(fixture.store.commit(partition, &commit).await, Ok(CommitReply::Torn));
    assert!(matches!(fixture.store.claim(partition, token, &install).await, Ok(ClaimReply::Corrupt(_))));
}
