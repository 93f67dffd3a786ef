//! Redis keeps the promises of a store; and its scripts refuse damaged arguments without a trace.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use redis::{Value, aio::MultiplexedConnection};
use waypost_memory::contract::{Meddle, StoreFixture, fresh_prefix, server, store_suite};
use waypost_redis::{Accepts, Keys, RedisStore};
use waypost_runtime::{
    digest::Part,
    ports::{ClaimReply, InitReply, Install, Store, Token},
    upkeep::Upkeep,
};
use waypost_types::{EntityId, PartitionId, Role};

/// Its keys will expire.
const MORTAL: PartitionId = PartitionId { role: Role::Sender, index: 77 };

/// What `DUMP` says of each key; none: no such key.
type Saved = Vec<(String, Option<Vec<u8>>)>;

struct OnRedis {
    store: Arc<RedisStore>,
    keys: Keys,
    connection: MultiplexedConnection,
    saved: Mutex<Saved>,
}

impl OnRedis {
    async fn new() -> Self {
        let (url, prefix) = (server("WAYPOST_TEST_REDIS"), fresh_prefix());
        let connection = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
        let store = Arc::new(RedisStore::connect(&url, &prefix, &[]).unwrap());
        Self { store, keys: Keys::new(prefix, &[]), connection, saved: Mutex::default() }
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
        Arc::clone(&self.store) as Arc<dyn Upkeep>
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
    raw_arguments_are_checked(&fixture).await;
    a_flushed_script_cache_is_loaded_again(&fixture).await;
}

async fn a_flushed_script_cache_is_loaded_again(fixture: &OnRedis) {
    let partition = PartitionId { role: Role::Identity, index: 9 };
    let install = Install { id: "00".repeat(16), layout: 1, format: 1 };
    assert_eq!(fixture.store.init(partition, &install).await, Ok(InitReply::Created));
    fixture.run("SCRIPT", &["FLUSH"]).await;
    assert!(matches!(fixture.store.claim(partition, Token([1; 16]), &install).await, Ok(ClaimReply::Ok(_))));
}

/// 20,000 calls of the commit script with random damage to its texts: counts, dues, arity, offsets.
async fn raw_arguments_are_checked(fixture: &OnRedis) {
    let partition = PartitionId { role: Role::Sender, index: 3 };
    let install = Install { id: "00".repeat(16), layout: 1, format: 1 };
    fixture.store.init(partition, &install).await.unwrap();
    fixture.store.claim(partition, Token([0x11; 16]), &install).await.unwrap();
    let keys: Vec<String> = [0, 1, 2, 3, 9].map(|i| fixture.keys.all(partition)[i].clone()).into();
    let script = redis::Script::new(include_str!("../src/scripts/commit.lua"));
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut chance = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % limit as u64).unwrap()
    };
    let token = "11".repeat(16);
    let (mut off, mut applied) = (0_u64, 0);
    let mut before = fixture.save(partition).await;
    for n in 0..20_000 {
        let mut args: Vec<String> = vec![token.clone(), off.to_string(), (off + 1).to_string()];
        args.extend(["7", "8", "9", "", "1", "d", "0", "", "2", "1", "1"].map(String::from));
        args.extend(["5", "e1", "6", "e2", "e3", "x:sender:1", "0123456789abcdef"].map(String::from));
        args.extend(["1", "1", "e1", "blob", "e2", "0", "1", "e3"].map(String::from));
        for _ in 0..=chance(2) {
            let place = chance(args.len());
            match chance(5) {
                0 => drop(args.remove(place)),
                1 => args.insert(place, "1".into()),
                _ => {
                    let bad = ["nan", "inf", "-1", "0x1", "1e3", " 1", "", "9999999999999999", "1.5", "00", "8000", "+1"];
                    args[place] = bad[chance(bad.len())].into();
                }
            }
        }
        let mut call = script.prepare_invoke();
        for key in &keys {
            call.key(key);
        }
        for arg in &args {
            call.arg(arg);
        }
        let reply: Vec<String> =
            call.invoke_async(&mut fixture.connection.clone()).await.unwrap_or_else(|e| panic!("call {n}: {e}: {args:?}"));
        let after = fixture.save(partition).await;
        if reply[0] == "OK" {
            applied += 1;
            off = args[2].parse().unwrap();
            before = after;
        } else {
            assert!(after == before, "call {n} answered {reply:?} and changed the store: {args:?}");
        }
    }
    assert!(applied > 100, "damage that never lets a call through tests nothing: {applied}");
}
