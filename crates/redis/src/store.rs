//! The port `Store`.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, Pipeline, Value};
use waypost_runtime::{
    digest::{Digest, Part},
    finding::Finding,
    ports::{
        Audit, AuditReply, ClaimReply, Commit, CommitReply, Deaths, Extent, InitReply, Install, Offset, Read, ReadReply, ReleaseReply,
        Store, StoreError, Token,
    },
};
use waypost_types::{EntityId, PartitionId, Timestamp};

use crate::{
    connection::refusal,
    doctor::{self, Accepts},
    exclusive::Exclusive,
    keys::Keys,
    reply::{self, Executed, MetaHead},
    scripts::{Script, Scripts},
    server::{Route, Server},
    shards::{Shard, Shards},
    slots::Slot,
};

/// How often a commit looks at a meta that is touched between its look and its writes, as a claim does once.
const LOOKS: usize = 3;

/// Per-partition state on one Redis server, or on the masters of a cluster.
#[derive(Debug)]
pub struct RedisStore {
    shards: Shards,
    keys: Keys,
    scripts: Scripts,
}

// === impl RedisStore ===

impl RedisStore {
    /// A store on `server`, whose connections live on the runtime that this is called on. None is made before the first call, and
    /// a lost one is made again; `suffixes` as in [`Keys::new`].
    ///
    /// # Errors
    /// If the server's settings do not go together, or outside of a runtime.
    pub fn connect(server: &Server, prefix: &str, suffixes: &[String]) -> Result<Self, StoreError> {
        let shards = Shards::new(Route::to(server)?)?;
        Ok(Self { shards, keys: Keys::new(prefix, suffixes), scripts: Scripts::new() })
    }

    /// What of the servers' settings would lose state, or is weaker than production wants (PROTOCOL §13.2).
    /// Keys of a sample of `partitions` are looked at.
    pub async fn doctor(&self, partitions: &[PartitionId], accepts: &Accepts) -> Result<Vec<Finding>, StoreError> {
        doctor::findings(&self.shards, &self.keys, partitions, accepts).await
    }

    /// Makes a call where the partition is.
    pub(crate) async fn at<T, F>(&self, partition: PartitionId, call: impl Fn(Arc<Shard>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.shards.at(Slot::of(&self.keys.meta(partition)), call).await
    }

    async fn script(&self, partition: PartitionId, script: &Script, keys: &[String], args: &[Vec<u8>]) -> Result<Vec<Value>, StoreError> {
        self.at(partition, |shard| async move { script.call(&shard.connection, keys, args).await }).await
    }

    async fn query(&self, partition: PartitionId, command: &Cmd) -> Result<Value, StoreError> {
        self.at(partition, |shard| async move { shard.connection.query(command).await?.map_err(|e| refusal(&e)) }).await
    }

    pub(crate) fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// Its names.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn init(&self, partition: PartitionId, install: &Install) -> Result<InitReply, StoreError> {
        let args = [install.id.clone(), install.layout.to_string(), install.format.to_string()].map(String::into_bytes);
        reply::init(&self.script(partition, &self.scripts.init, &self.keys.all(partition), &args).await?)
    }

    async fn claim(&self, partition: PartitionId, token: Token, install: &Install) -> Result<ClaimReply, StoreError> {
        let args = [reply::token_text(token), install.id.clone(), install.layout.to_string(), install.format.to_string()];
        reply::claim(&self.script(partition, &self.scripts.claim, &self.keys.all(partition), &args.map(String::into_bytes)).await?)
    }

    async fn release(&self, partition: PartitionId, token: Token) -> Result<ReleaseReply, StoreError> {
        let args = [reply::token_text(token).into_bytes()];
        reply::release(&self.script(partition, &self.scripts.release, &[self.keys.meta(partition)], &args).await?)
    }

    async fn commit(&self, partition: PartitionId, commit: &Commit) -> Result<CommitReply, StoreError> {
        let exchange = Arc::new(Exchange::new(&self.keys, partition, commit));
        self.at(partition, |shard| commit_at(shard, Arc::clone(&exchange))).await
    }

    async fn read(&self, partition: PartitionId, read: &Read) -> Result<ReadReply, StoreError> {
        let mut places: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for (index, entity) in read.entities.iter().enumerate() {
            places.entry(entity.bucket()).or_default().push(index);
        }
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        pipeline.cmd("HMGET").arg(self.keys.meta(partition)).arg("own").arg("off").arg("digest");
        for (bucket, indexes) in &places {
            pipeline.cmd("HMGET").arg(self.keys.bucket(partition, *bucket));
            for index in indexes {
                pipeline.arg(read.entities[*index].as_bytes().as_ref());
            }
            pipeline.cmd("HLEN").arg(self.keys.bucket(partition, *bucket));
        }
        pipeline.cmd("ZCARD").arg(self.keys.timers(partition));
        if !read.entities.is_empty() {
            pipeline.cmd("ZMSCORE").arg(self.keys.timers(partition));
            for entity in &read.entities {
                pipeline.arg(entity.as_bytes());
            }
        }
        if let Some((due, limit)) = read.timers {
            let range = pipeline.cmd("ZRANGE").arg(self.keys.timers(partition)).arg("-inf").arg(due.millis());
            range.arg("BYSCORE").arg("LIMIT").arg(0).arg(limit).arg("WITHSCORES");
        }
        let pipeline = &pipeline;
        let replies =
            self.at(partition, |shard| async move { shard.connection.transaction(pipeline).await?.map_err(|e| refusal(&e)) }).await?;
        read_reply(read, &places, replies)
    }

    async fn audit(&self, partition: PartitionId, part: Part) -> Result<AuditReply, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        pipeline.cmd("HMGET").arg(self.keys.meta(partition)).arg("own").arg("off").arg("digest");
        match part {
            Part::Bucket(bucket) => pipeline.cmd("HGETALL").arg(self.keys.bucket(partition, bucket)),
            Part::Timers => pipeline.cmd("ZRANGE").arg(self.keys.timers(partition)).arg(0).arg(-1).arg("WITHSCORES"),
            Part::Sequences => pipeline.cmd("HGETALL").arg(self.keys.sequences(partition)),
        };
        audit_reply(part, &self.ask(partition, &pipeline).await?)
    }

    async fn deaths(&self, partition: PartitionId) -> Result<Option<Deaths>, StoreError> {
        let answer = self.query(partition, redis::cmd("GET").arg(self.keys.deaths(partition))).await?;
        // What nobody can read is no reason to stop: it is a hint.
        Ok(reply::bytes(&answer).and_then(|text| reply::deaths(std::str::from_utf8(text).ok()?)))
    }

    async fn note_deaths(&self, partition: PartitionId, deaths: Option<Deaths>) -> Result<(), StoreError> {
        let key = self.keys.deaths(partition);
        let command = match deaths {
            Some(deaths) => redis::cmd("SET").arg(key).arg(reply::deaths_text(&deaths)).clone(),
            None => redis::cmd("DEL").arg(key).clone(),
        };
        self.query(partition, &command).await.map(drop)
    }
}

async fn commit_at(shard: Arc<Shard>, exchange: Arc<Exchange>) -> Result<CommitReply, StoreError> {
    let own = Arc::clone(&shard);
    // On the runtime of its connection, so that the writes follow the look at once, whatever the caller folds meanwhile.
    let made = shard.commits.runtime().spawn(async move { exchange.make(&own.commits).await }).await;
    let answer = made.unwrap_or_else(|_| Err(StoreError::Unknown("the call was broken off".into())));
    if answer != Ok(CommitReply::Ok) {
        shard.forget().await;
    }
    answer
}

/// A commit as it is made.
struct Exchange {
    /// What the partition's meta says, watched from then on.
    look: Pipeline,
    /// The writes, which apply if it still says so.
    writes: Pipeline,
    terms: Terms,
}

/// What a commit asks of the partition's meta, and of itself.
#[derive(Clone, Copy, Debug)]
struct Terms {
    token: Token,
    expected: Offset,
    next: Offset,
    /// See [`Commit::is_sound`].
    is_sound: bool,
}

// === impl Exchange ===

impl Exchange {
    fn new(names: &Keys, partition: PartitionId, commit: &Commit) -> Self {
        let meta = names.meta(partition);
        let mut look = redis::pipe();
        look.cmd("WATCH").arg(&meta);
        look.cmd("HMGET").arg(&meta).arg("own").arg("off");
        // Here, so that no write is sent to a server that refuses it.
        look.cmd("MULTI");
        Self { look, writes: commit_writes(names, partition, commit), terms: Terms::of(commit) }
    }

    /// Two round trips. Plain commands cost the server less than a script's arguments do, each of which becomes a string of its own there.
    async fn make(&self, commits: &Exclusive) -> Result<CommitReply, StoreError> {
        let mut lease = commits.lease().await?;
        for _ in 0..LOOKS {
            let head = reply::watched(&lease.ask(&self.look).await?)?;
            if let Some(refused) = self.terms.judge(&head) {
                return Ok(refused);
            }
            match reply::executed(&lease.ask(&self.writes).await?)? {
                Executed::Whole => {
                    commits.give_back(lease);
                    return Ok(CommitReply::Ok);
                }
                Executed::Torn => return Ok(CommitReply::Torn),
                Executed::Touched => {}
            }
        }
        Err(StoreError::Refused("somebody else writes to the partition's meta all the time".into()))
    }
}

// === impl Terms ===

impl Terms {
    fn of(commit: &Commit) -> Self {
        Self { token: commit.token, expected: commit.expected, next: commit.next, is_sound: commit.is_sound() }
    }

    /// What keeps a commit from being made; none: nothing does.
    fn judge(&self, head: &MetaHead) -> Option<CommitReply> {
        let Some(off) = head.off else { return Some(CommitReply::Uninit) };
        if head.own != Some(self.token) {
            return Some(CommitReply::Fenced);
        }
        if off != self.expected {
            return Some(if off == self.next { CommitReply::Already } else { CommitReply::Moved(off) });
        }
        (!self.is_sound).then_some(CommitReply::BadArg)
    }
}

/// Every write of a commit, and EXEC. MULTI came before.
fn commit_writes(names: &Keys, partition: PartitionId, commit: &Commit) -> Pipeline {
    let begin = |command: &str, key: String| redis::cmd(command).arg(key).take();
    let (mut fallen, mut due_at, mut sequences) = (None, None, None);
    for (entity, due) in &commit.timers {
        match due {
            Some(due) => {
                let set = due_at.get_or_insert_with(|| begin("ZADD", names.timers(partition)));
                set.arg(due.millis()).arg(entity.as_bytes().as_ref());
            }
            None => {
                fallen.get_or_insert_with(|| begin("ZREM", names.timers(partition))).arg(entity.as_bytes().as_ref());
            }
        }
    }
    for (field, value) in &commit.sequences {
        sequences.get_or_insert_with(|| begin("HSET", names.sequences(partition))).arg(field).arg(value);
    }
    // per bucket: fields and values to set, fields to delete
    let mut buckets = BTreeMap::<u8, [Option<Cmd>; 2]>::new();
    for (entity, value) in &commit.entities {
        let [set, deleted] = buckets.entry(entity.bucket()).or_default();
        let bucket = || names.bucket(partition, entity.bucket());
        match value {
            Some(bytes) => {
                let set = set.get_or_insert_with(|| begin("HSET", bucket()));
                set.arg(entity.as_bytes().as_ref()).arg(bytes.as_ref());
            }
            None => {
                deleted.get_or_insert_with(|| begin("HDEL", bucket())).arg(entity.as_bytes().as_ref());
            }
        }
    }
    let meta = &commit.meta;
    let mut head = begin("HSET", names.meta(partition));
    head.arg("off").arg(commit.next).arg("ochain").arg(meta.ochain).arg("clk").arg(meta.clk.millis()).arg("wm").arg(meta.wm.millis());
    head.arg("digest").arg(meta.digest.as_ref()).arg("eng").arg(meta.eng).arg("defv").arg(&meta.defv);
    head.arg("leader").arg(meta.leader).arg("lastrec").arg(&meta.lastrec);
    let mut pipeline = redis::pipe();
    for command in [fallen, due_at, sequences].into_iter().chain(buckets.into_values().flatten()).flatten() {
        pipeline.add_command(command);
    }
    pipeline.add_command(head).add_command(redis::cmd("EXEC"));
    pipeline
}

fn read_reply(read: &Read, places: &BTreeMap<u8, Vec<usize>>, replies: Vec<Value>) -> Result<ReadReply, StoreError> {
    let odd = || StoreError::Refused("unexpected reply to a checked read".into());
    let mut replies = replies.into_iter();
    let mut next = || replies.next().ok_or_else(odd);
    let array = |value| if let Value::Array(values) = value { Ok(values) } else { Err(odd()) };
    let count = |value| if let Value::Int(count) = value { u64::try_from(count).map_err(|_| odd()) } else { Err(odd()) };
    let head = array(next()?)?;
    let owner = head.first().and_then(reply::bytes).and_then(reply::token);
    let offset = head.get(1).and_then(reply::bytes).and_then(|b| std::str::from_utf8(b).ok()?.parse().ok());
    let Some(off) = offset.filter(|off| owner == Some(read.token) && read.expected.contains(off)) else { return Ok(ReadReply::Moved) };
    let digest = head.get(2).and_then(reply::bytes).map(Bytes::copy_from_slice).unwrap_or_default();
    let mut counts = Vec::with_capacity(places.len() + 1);
    let mut entities = vec![None; read.entities.len()];
    for (bucket, indexes) in places {
        let values = array(next()?)?;
        for (index, value) in indexes.iter().zip(values) {
            if let Value::BulkString(bytes) = value {
                entities[*index] = Some(Bytes::from(bytes));
            }
        }
        counts.push((Part::Bucket(*bucket), count(next()?)?));
    }
    counts.push((Part::Timers, count(next()?)?));
    let wakeups = if read.entities.is_empty() { Vec::new() } else { array(next()?)?.iter().map(due).collect() };
    let mut timers = Vec::new();
    if read.timers.is_some() {
        let values = array(next()?)?;
        for pair in values.chunks(2) {
            let [member, score] = pair else { return Err(odd()) };
            timers.push((due(score).ok_or_else(odd)?, entity(member).ok_or_else(odd)?));
        }
    }
    Ok(ReadReply::Ok { entities, wakeups, timers, extent: Extent { off, digest, counts } })
}

fn audit_reply(part: Part, replies: &[Value]) -> Result<AuditReply, StoreError> {
    let odd = || StoreError::Refused("unexpected reply to an audit".into());
    let [Value::Array(head), Value::Array(fields)] = replies else { return Err(odd()) };
    let bytes = |index: usize| head.get(index).and_then(reply::bytes);
    let Some(off) = bytes(1) else { return Ok(AuditReply::Uninit) };
    let off = std::str::from_utf8(off).ok().and_then(|text| text.parse().ok()).ok_or_else(odd)?;
    let digest = bytes(2).map(Bytes::copy_from_slice).unwrap_or_default();
    let mut sums = Digest::default();
    for pair in fields.chunks(2) {
        let [field, value] = pair else { return Err(odd()) };
        match part {
            Part::Bucket(_) => {
                let value = reply::bytes(value).map(Bytes::copy_from_slice).ok_or_else(odd)?;
                sums.entity(&entity(field).ok_or_else(odd)?, None, Some(&value));
            }
            Part::Timers => sums.timer(&entity(field).ok_or_else(odd)?, None, Some(due(value).ok_or_else(odd)?)),
            Part::Sequences => {
                let field = reply::bytes(field).and_then(|b| std::str::from_utf8(b).ok()).ok_or_else(odd)?;
                sums.sequence(field, None, reply::bytes(value).and_then(|b| b.try_into().ok()).ok_or_else(odd)?);
            }
        }
    }
    Ok(AuditReply::Ok(Audit { own: bytes(0).and_then(reply::token), off, digest, sum: sums.sum(part) }))
}

fn entity(field: &Value) -> Option<EntityId> {
    reply::bytes(field).map(EntityId::from_bytes)
}

/// A score is a double; below 10^15 it is a whole number, printed as one.
fn due(score: &Value) -> Option<Timestamp> {
    let text = std::str::from_utf8(reply::bytes(score)?).ok()?;
    text.parse().ok().map(Timestamp::from_millis)
}
