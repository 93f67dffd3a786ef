//! A store on Redis that the contract's suite may meddle with, on one server or on a cluster.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Value, aio::ConnectionLike};
use waypost_memory::contract::{Meddle, StoreFixture};
use waypost_redis::{Keys, RedisStore, Server};
use waypost_runtime::{
    digest::Part,
    ports::{ClaimReply, Commit, CommitReply, Install, Meta, Read, ReadReply, Store, Token},
    upkeep::Upkeep,
};
use waypost_types::{EntityId, PartitionId, Role, WorkspaceId};

/// What `DUMP` says of each key; none: no such key.
pub type Saved = Vec<(String, Option<Vec<u8>>)>;

/// A store on Redis, and a connection past it.
pub struct OnRedis<C> {
    /// As serving processes reach it.
    pub store: Arc<RedisStore>,
    /// As administration does.
    pub upkeep: Arc<RedisStore>,
    /// Its names.
    pub keys: Keys,
    connection: C,
    saved: Mutex<Saved>,
}

impl<C: ConnectionLike + Clone> OnRedis<C> {
    /// Servers as serving processes and as administration see them, and who may do everything there.
    pub fn new(servers: [Server; 2], prefix: &str, connection: C) -> Self {
        let [store, upkeep] = servers.map(|server| Arc::new(RedisStore::connect(&server, prefix, &[]).unwrap()));
        Self { store, upkeep, keys: Keys::new(prefix, &[]), connection, saved: Mutex::default() }
    }

    /// Runs a command past the store.
    pub async fn run(&self, command: &str, args: &[&str]) -> Value {
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
impl<C: ConnectionLike + Clone + Send + Sync> StoreFixture for OnRedis<C> {
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

/// Each owner commits while the next one claims: what is answered is what the store holds.
pub async fn commits_race_with_claims<C>(fixture: &OnRedis<C>) {
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
