//! The port `Upkeep`: a partition whole, in one MULTI; freezing, thawing, putting another state in its place.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Pipeline, Value};
use waypost_runtime::{
    ports::{Install, Meta, StoreError},
    upkeep::{Head, Snapshot, Upkeep, UpkeepReply},
};
use waypost_types::{EntityId, PartitionId, Timestamp};

use crate::{Keys, connection::refusal, reply, scripts::Script, store::RedisStore};

/// Fields, members and values written at once: none holds the server for more than some ms.
const CHUNK: usize = 500;
/// Bytes of values written at once, roughly.
const CHUNK_BYTES: usize = 256 << 10;

/// Fields and values, or members and scores.
type Pairs = Vec<(Bytes, Bytes)>;

#[async_trait]
impl Upkeep for RedisStore {
    async fn head(&self, partition: PartitionId) -> Result<Option<Head>, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        pipeline.cmd("HGETALL").arg(self.keys().meta(partition));
        pipeline.cmd("HGETALL").arg(self.keys().sequences(partition));
        let mut replies = self.ask(partition, &pipeline).await?.into_iter();
        let (meta, sequences) = (pairs(replies.next())?, pairs(replies.next())?);
        head(&meta, sequences)
    }

    async fn snapshot(&self, partition: PartitionId) -> Result<Option<Snapshot>, StoreError> {
        let keys = self.keys();
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        pipeline.cmd("HGETALL").arg(keys.meta(partition));
        pipeline.cmd("HGETALL").arg(keys.sequences(partition));
        pipeline.cmd("ZRANGE").arg(keys.timers(partition)).arg(0).arg(-1).arg("WITHSCORES");
        for bucket in 0..16 {
            pipeline.cmd("HGETALL").arg(keys.bucket(partition, bucket));
        }
        let mut replies = self.ask(partition, &pipeline).await?.into_iter();
        let (meta, sequences) = (pairs(replies.next())?, pairs(replies.next())?);
        let Some(Head { install, off, meta, sequences, .. }) = head(&meta, sequences)? else { return Ok(None) };
        let mut timers = BTreeMap::new();
        for (member, score) in pairs(replies.next())? {
            let due = std::str::from_utf8(&score).ok().and_then(|text| text.parse().ok()).ok_or_else(|| odd("a due"))?;
            timers.insert(EntityId::from_bytes(&member), Timestamp::from_millis(due));
        }
        let mut entities = BTreeMap::new();
        for bucket in replies {
            entities.extend(pairs(Some(bucket))?.into_iter().map(|(id, blob)| (EntityId::from_bytes(&id), blob)));
        }
        Ok(Some(Snapshot { install, off, meta, sequences, timers, entities }))
    }

    async fn freeze(&self, partition: PartitionId, operation: &str) -> Result<UpkeepReply, StoreError> {
        held(&self.hold(partition, &self.scripts().freeze, &[frozen(operation)]).await?)
    }

    async fn thaw(&self, partition: PartitionId, operation: &str) -> Result<UpkeepReply, StoreError> {
        held(&self.hold(partition, &self.scripts().thaw, &[frozen(operation)]).await?)
    }

    async fn replace(&self, partition: PartitionId, operation: &str, snapshot: &Snapshot) -> Result<UpkeepReply, StoreError> {
        // Nobody but an operation touches a frozen partition, so that it is frozen now holds until the thaw below.
        let here = self.freeze(partition, operation).await?;
        if here != UpkeepReply::Ok {
            return Ok(here);
        }
        let keys = self.keys();
        let mut clear = redis::pipe();
        clear.cmd("UNLINK").arg(&keys.all(partition)[1..]);
        self.ask(partition, &clear).await?;
        for (command, key, pairs) in contents(keys, partition, snapshot) {
            self.fill(partition, command, &key, pairs).await?;
        }
        let mut args = vec![frozen(operation)];
        for (name, value) in meta_fields(snapshot) {
            args.extend([name.as_bytes().to_vec(), value]);
        }
        held(&self.hold(partition, &self.scripts().thaw, &args).await?)
    }
}

// === impl RedisStore ===

impl RedisStore {
    /// As administration does: workers' calls never wait behind one of its.
    pub(crate) async fn ask(&self, partition: PartitionId, pipeline: &Pipeline) -> Result<Vec<Value>, StoreError> {
        self.at(partition, |shard| async move { shard.patient.transaction(pipeline).await?.map_err(|e| refusal(&e)) }).await
    }

    /// Freezes the partition or thaws it.
    async fn hold(&self, partition: PartitionId, script: &Script, args: &[Vec<u8>]) -> Result<Vec<Value>, StoreError> {
        let keys = &[self.keys().meta(partition)];
        self.at(partition, |shard| async move { script.call(&shard.patient, keys, args).await }).await
    }

    /// Writes pairs to a key, some at a time.
    async fn fill(&self, partition: PartitionId, command: &str, key: &str, pairs: Pairs) -> Result<(), StoreError> {
        let (mut call, mut count, mut size) = (redis::cmd(command), 0, 0);
        call.arg(key);
        let mut pairs = pairs.into_iter().peekable();
        while let Some((one, other)) = pairs.next() {
            call.arg(&one[..]).arg(&other[..]);
            (count, size) = (count + 1, size + one.len() + other.len());
            if count == CHUNK || size >= CHUNK_BYTES || pairs.peek().is_none() {
                let whole = &call;
                self.at(partition, |shard| async move { shard.patient.query(whole).await?.map_err(|e| refusal(&e)) }).await?;
                (call, count, size) = (redis::cmd(command), 0, 0);
                call.arg(key);
            }
        }
        Ok(())
    }
}

/// Everything but the meta: which command writes which key's pairs.
fn contents(keys: &Keys, partition: PartitionId, snapshot: &Snapshot) -> Vec<(&'static str, String, Pairs)> {
    let bytes = |text: String| Bytes::from(text.into_bytes());
    let timers = snapshot.timers.iter().map(|(id, due)| (bytes(due.millis().to_string()), Bytes::copy_from_slice(id.as_bytes()))).collect();
    let sequences = snapshot.sequences.iter().map(|(field, value)| (bytes(field.clone()), Bytes::copy_from_slice(value))).collect();
    let mut all = vec![("ZADD", keys.timers(partition), timers), ("HSET", keys.sequences(partition), sequences)];
    all.extend((0..16).map(|bucket| {
        let entities = snapshot.entities.iter().filter(|(id, _)| id.bucket() == bucket);
        ("HSET", keys.bucket(partition, bucket), entities.map(|(id, blob)| (Bytes::copy_from_slice(id.as_bytes()), blob.clone())).collect())
    }));
    all
}

fn frozen(operation: &str) -> Vec<u8> {
    format!("frozen:{operation}").into_bytes()
}

fn held(values: &[Value]) -> Result<UpkeepReply, StoreError> {
    match (values.first().and_then(reply::bytes), values.get(1).and_then(reply::bytes)) {
        (Some(b"OK"), _) => Ok(UpkeepReply::Ok),
        (Some(b"HELD"), Some(own)) => Ok(UpkeepReply::Held(String::from_utf8_lossy(own).trim_start_matches("frozen:").to_owned())),
        _ => Err(odd("an answer")),
    }
}

fn odd(what: &str) -> StoreError {
    StoreError::Refused(format!("{what} of the store is not what this release writes"))
}

/// Names and values of a hash, or members and scores.
fn pairs(reply: Option<Value>) -> Result<Pairs, StoreError> {
    let Some(Value::Array(values)) = reply else { return Err(odd("an answer")) };
    let mut values =
        values.into_iter().map(|value| if let Value::BulkString(bytes) = value { Ok(Bytes::from(bytes)) } else { Err(odd("an answer")) });
    let mut all = Vec::with_capacity(values.len() / 2);
    while let (Some(one), Some(other)) = (values.next(), values.next()) {
        all.push((one?, other?));
    }
    Ok(all)
}

/// None where there is no state: no meta, or one that only says who has it frozen.
fn head(meta: &[(Bytes, Bytes)], sequences: Pairs) -> Result<Option<Head>, StoreError> {
    let field = |name: &str| meta.iter().find(|(n, _)| n == name.as_bytes()).map(|(_, value)| value);
    if field("off").is_none() {
        return Ok(None);
    }
    let text = |name: &str| Ok(String::from_utf8_lossy(field(name).ok_or_else(|| odd("a meta"))?).into_owned());
    let number = |name: &str| text(name)?.parse::<u64>().map_err(|_| odd("a meta"));
    let instant = |name: &str| text(name)?.parse().map(Timestamp::from_millis).map_err(|_| odd("a meta"));
    let small = |name: &str| u16::try_from(number(name)?).map_err(|_| odd("a meta"));
    let parsed = Meta {
        ochain: number("ochain")?,
        clk: instant("clk")?,
        wm: instant("wm")?,
        digest: field("digest").cloned().ok_or_else(|| odd("a meta"))?,
        eng: u32::try_from(number("eng")?).map_err(|_| odd("a meta"))?,
        defv: text("defv")?,
        leader: number("leader")?,
        lastrec: text("lastrec")?,
    };
    let mut all = BTreeMap::new();
    for (name, value) in sequences {
        let value = value.as_ref().try_into().map_err(|_| odd("a sequence"))?;
        all.insert(String::from_utf8_lossy(&name).into_owned(), value);
    }
    Ok(Some(Head {
        install: Install { id: text("inst")?, layout: small("lay")?, format: small("fmt")? },
        frozen: text("own")?.strip_prefix("frozen:").map(ToOwned::to_owned),
        off: number("off")?,
        meta: parsed,
        sequences: all,
    }))
}

/// A meta that nobody owns.
fn meta_fields(snapshot: &Snapshot) -> Vec<(&'static str, Vec<u8>)> {
    let Snapshot { install, off, meta, .. } = snapshot;
    let text = |value: &dyn ToString| value.to_string().into_bytes();
    vec![
        ("inst", text(&install.id)),
        ("lay", text(&install.layout)),
        ("fmt", text(&install.format)),
        ("off", text(off)),
        ("clk", text(&meta.clk.millis())),
        ("wm", text(&meta.wm.millis())),
        ("ochain", text(&meta.ochain)),
        ("digest", meta.digest.to_vec()),
        ("eng", text(&meta.eng)),
        ("defv", text(&meta.defv)),
        ("leader", text(&meta.leader)),
        ("lastrec", text(&meta.lastrec)),
        ("own", Vec::new()),
    ]
}
