//! Settings and facts of the server that would lose state (PROTOCOL §13.2): read here, judged by a pure function.

use std::{collections::BTreeMap, sync::Arc};

use redis::{
    Cmd, Value,
    aio::{ConnectionLike as _, MultiplexedConnection},
};
use waypost_runtime::{finding::Finding, ports::StoreError};
use waypost_types::{PartitionId, Role};

use crate::{
    acl,
    connection::{Connection, refusal},
    keys::Keys,
    reply,
    shards::{Shard, Shards},
    slots::Slot,
};

/// What the operator says where the server cannot be asked, or accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepts {
    /// State is saved by RDB dumps alone: a crash replays what came after the last one.
    pub rdb_only: bool,
    /// Who vouches for the settings where CONFIG is forbidden; empty: nobody.
    pub settings_by: String,
}

/// What the server says of itself.
#[derive(Clone, Debug, Default)]
struct Server {
    info: BTreeMap<String, String>,
    /// None where CONFIG is forbidden.
    config: Option<BTreeMap<String, String>>,
    /// Of a cluster only.
    cluster: Option<Cluster>,
    /// Whether the settings name its nodes.
    is_named: bool,
    /// Keys of ours that will expire, of those looked at.
    mortal: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Cluster {
    state: String,
    /// Slots of this shard on their way to or from another.
    moving: usize,
}

const SETTINGS: [&str; 7] =
    ["maxmemory-policy", "maxmemory", "appendonly", "appendfsync", "min-replicas-to-write", "min-replicas-max-lag", "busy-reply-threshold"];
/// Partitions of which every key is looked at for a time to live.
const SAMPLE: usize = 16;
/// How many times its share of partitions a master may have before somebody is told.
const UNEVEN: usize = 2;
/// Partitions below which nobody is told: they share slots by fours.
const SPREAD: usize = 32;
/// Used memory, of a hundred, above which somebody is told.
const FULL: u64 = 80;

/// Of every server.
pub(crate) async fn findings(
    shards: &Shards,
    keys: &Keys,
    partitions: &[PartitionId],
    accepts: &Accepts,
) -> Result<Vec<Finding>, StoreError> {
    let (mut findings, mut held) = (Vec::new(), BTreeMap::new());
    for shard in shards.all().await? {
        let mut own = Vec::new();
        for partition in partitions {
            if Arc::ptr_eq(&shards.of(Slot::of(&keys.meta(*partition))).await?, &shard) {
                own.push(*partition);
            }
        }
        held.extend(shard.name().map(|name| (name, own.len())));
        for finding in of_one(&shard, keys, &own, accepts).await.map_err(|error| shard.named(error))? {
            let check = shard.name().map_or_else(|| finding.check.clone(), |name| format!("{} at {name}", finding.check));
            findings.push(Finding { check, ..finding });
        }
    }
    findings.extend(spread(&held));
    Ok(findings)
}

/// Where names fall is chance: a master of a cluster may get more partitions than is good for all.
fn spread(held: &BTreeMap<String, usize>) -> Option<Finding> {
    let (all, most) = (held.values().sum::<usize>(), held.values().max()?);
    let is_even = most * held.len() <= UNEVEN * all;
    (!is_even && all >= SPREAD).then(|| {
        let found: Vec<String> = held.iter().map(|(name, count)| format!("{name}: {count}")).collect();
        let change = "move slots of the first to the last (CLUSTER KEYSLOT of a partition's key names its slot), while nothing runs";
        Finding::refuse("redis partitions by master", found.join(", "), format!("at most {UNEVEN} times the mean"), change).warning()
    })
}

/// Of one server, which holds these partitions.
async fn of_one(shard: &Shard, keys: &Keys, partitions: &[PartitionId], accepts: &Accepts) -> Result<Vec<Finding>, StoreError> {
    let (connection, is_named) = (&shard.connection, shard.name().is_some());
    let forbidden = forbidden(connection, keys, is_named).await?;
    if !forbidden.is_empty() {
        // what else there is cannot all be asked
        return Ok(vec![Finding::refuse(
            "redis rights of the user",
            format!("it may not {}", forbidden.join(", ")),
            "the commands that Waypost sends, with the keys of this installation",
            "run what `waypost redis-acl --user NAME` prints on the server, as a user that may",
        )]);
    }
    let info = info(connection).await?;
    let cluster = if info.get("cluster_enabled").is_some_and(|on| on == "1") { Some(cluster(connection).await?) } else { None };
    // of a node that is taken for a server of its own, or that gives slots away, keys cannot all be asked
    let has_all = cluster.as_ref().is_none_or(|cluster| is_named && cluster.moving == 0);
    let mortal = if has_all { mortal(connection, keys, partitions).await? } else { Vec::new() };
    let server = Server { info, config: config(connection).await?, cluster, is_named, mortal };
    Ok(judge(&server, accepts))
}

async fn ask(connection: &Connection, command: &Cmd) -> Result<Value, StoreError> {
    connection.query(command).await?.map_err(|e| refusal(&e))
}

/// What the user may not do, of what it needs. The calls stand in a transaction that something wrong has spoilt: the server looks
/// at each of them, and makes none.
async fn forbidden(connection: &Connection, keys: &Keys, is_cluster: bool) -> Result<Vec<String>, StoreError> {
    let key = keys.meta(PartitionId { role: Role::Identity, index: 0 });
    let mut own = connection.fresh().await?;
    let (mut names, mut probes): (Vec<String>, Vec<Cmd>) = acl::probes(&key, is_cluster).into_iter().unzip();
    let (further, calls) = (names.split_off(2), probes.split_off(2));
    // GET without a key
    probes.push(redis::cmd("GET"));
    let answers = all_answers(&mut own, probes).await?;
    let is_spoilt = answers.get(1) == Some(&Value::Okay) && matches!(answers.get(2), Some(Value::ServerError(_)));
    let mut forbidden = named(names, &answers);
    // elsewhere they would be made
    if is_spoilt {
        forbidden.extend(named(further, &all_answers(&mut own, calls).await?));
    }
    Ok(forbidden)
}

/// Each answer, refusals among them.
async fn all_answers(connection: &mut MultiplexedConnection, calls: Vec<Cmd>) -> Result<Vec<Value>, StoreError> {
    let mut pipeline = redis::pipe();
    for call in calls {
        pipeline.add_command(call);
    }
    let answers = connection.req_packed_commands(&pipeline, 0, pipeline.len()).await;
    answers.map_err(|error| StoreError::Unknown(error.category().to_owned()))
}

/// The names of calls that are not allowed.
fn named(names: Vec<String>, answers: &[Value]) -> Vec<String> {
    names.into_iter().zip(answers).filter(|(_, answer)| is_forbidden(answer)).map(|(name, _)| name).collect()
}

/// The end of a transaction says so in its own words.
fn is_forbidden(answer: &Value) -> bool {
    let says = |error: &redis::ServerError| error.code() == "NOPERM" || error.details().is_some_and(|words| words.contains("NOPERM"));
    matches!(answer, Value::ServerError(error) if says(error))
}

fn text(value: &Value) -> String {
    if let Value::VerbatimString { text, .. } = value {
        return text.clone();
    }
    reply::bytes(value).map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default()
}

/// `name:value` lines.
fn lines(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

async fn info(connection: &Connection) -> Result<BTreeMap<String, String>, StoreError> {
    Ok(lines(&text(&ask(connection, &redis::cmd("INFO")).await?)))
}

async fn config(connection: &Connection) -> Result<Option<BTreeMap<String, String>>, StoreError> {
    let mut config = BTreeMap::new();
    for name in SETTINGS {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg(name);
        match connection.query(&get).await? {
            Ok(Value::Array(pair)) => {
                if let Some(value) = pair.get(1) {
                    config.insert(name.to_owned(), text(value));
                }
            }
            Ok(_) => {}
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(config))
}

async fn cluster(connection: &Connection) -> Result<Cluster, StoreError> {
    let sub = |what: &str| {
        let mut command = redis::cmd("CLUSTER");
        command.arg(what);
        command
    };
    let facts = lines(&text(&ask(connection, &sub("INFO")).await?));
    let nodes = text(&ask(connection, &sub("NODES")).await?);
    Ok(Cluster { state: facts.get("cluster_state").cloned().unwrap_or_default(), moving: moving(&nodes) })
}

/// Slots in `[slot->-node]` and `[slot-<-node]` of the line that says `myself`.
fn moving(nodes: &str) -> usize {
    let own = nodes.lines().find(|line| line.split(' ').nth(2).is_some_and(|flags| flags.split(',').any(|flag| flag == "myself")));
    own.map_or(0, |line| line.split(' ').filter(|word| word.starts_with('[')).count())
}

/// Keys with a time to live, of a sample of partitions spread over all.
async fn mortal(connection: &Connection, keys: &Keys, partitions: &[PartitionId]) -> Result<Vec<String>, StoreError> {
    let step = partitions.len().div_ceil(SAMPLE).max(1);
    let names: Vec<String> = partitions.iter().step_by(step).flat_map(|partition| keys.all(*partition)).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipeline = redis::pipe();
    for name in &names {
        pipeline.cmd("PTTL").arg(name);
    }
    let answers = connection.transaction(&pipeline).await?.map_err(|e| refusal(&e))?;
    let lives = answers.iter().map(|answer| if let Value::Int(ms) = answer { *ms } else { -1 });
    // -1: for ever, -2: no such key
    Ok(names.into_iter().zip(lives).filter(|(_, ms)| *ms >= 0).map(|(name, _)| name).collect())
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

fn judge(server: &Server, accepts: &Accepts) -> Vec<Finding> {
    let info = |name: &str| server.info.get(name).map_or("", String::as_str);
    let mut findings = Vec::new();
    let mut refuse = |check: &str, found: &str, wanted: &str, change: &str| findings.push(Finding::refuse(check, found, wanted, change));
    let valkey = info("server_name") == "valkey";
    if !valkey && number(info("redis_version").split('.').next().unwrap_or_default()) < 7 {
        refuse("redis version", info("redis_version"), "7.0 or later, or Valkey", "upgrade the server: scripts need `#!lua`");
    }
    if info("role") != "master" {
        refuse("redis role", info("role"), "master", "point redis.url at the master, not at a replica");
    }
    if let Some(cluster) = &server.cluster {
        if !server.is_named {
            let change = "name its nodes in redis.cluster (`host:port`, a comma between two), or use a server with cluster-enabled no";
            refuse("redis cluster", "a node of a Redis Cluster, taken for a server of its own", "redis.cluster set", change);
        }
        if cluster.state != "ok" {
            refuse("redis cluster_state", &cluster.state, "ok", "CLUSTER NODES shows which slots nobody serves; bring their shard back");
        }
        if cluster.moving > 0 {
            let change =
                "let the move end, or end it with CLUSTER SETSLOT <slot> STABLE: slots move only while their partitions are frozen";
            refuse("redis slots on their way", &cluster.moving.to_string(), "none", change);
        }
    }
    if let Some(key) = server.mortal.first() {
        let change = format!("PERSIST {key}, and find out who set it: EXPIRE on our keys deletes state in silence");
        refuse("redis keys with a time to live", &format!("{} of those looked at", server.mortal.len()), "none", &change);
    }
    let (used, limit) = (number(info("used_memory")), number(info("maxmemory")));
    if limit > 0 && used.saturating_mul(100) / limit >= FULL {
        let change = "give the server more memory, or raise maxmemory: at the limit commits are refused and everything is late";
        let found = format!("{} % of maxmemory", used.saturating_mul(100) / limit);
        findings.push(Finding::refuse("redis used memory", found, format!("below {FULL} %"), change).warning());
    }
    match &server.config {
        Some(config) => findings.extend(judge_config(config, &server.info, accepts)),
        None if accepts.settings_by.is_empty() => {
            let change =
                "allow CONFIG GET for this user, or check the settings by hand and say who did: redis.settings_asserted_by = \"name\"";
            findings.push(Finding::refuse("redis CONFIG", "forbidden", "readable, to check what would lose state", change));
        }
        None => {
            let wanted = "noeviction, appendonly, appendfsync, min-replicas and busy-reply-threshold as PROTOCOL §13.2 has them";
            let change = format!("{} vouches for them (redis.settings_asserted_by)", accepts.settings_by);
            findings.push(Finding::refuse("redis CONFIG", "forbidden", wanted, change).warning());
        }
    }
    findings
}

fn judge_config(config: &BTreeMap<String, String>, info: &BTreeMap<String, String>, accepts: &Accepts) -> Vec<Finding> {
    let of = |name: &str| config.get(name).map_or("", String::as_str);
    let mut findings = Vec::new();
    let mut refuse = |name: &str, found: &str, wanted: &str, change: &str| {
        findings.push(Finding::refuse(format!("redis {name}"), found, wanted, change));
    };
    if of("maxmemory-policy") != "noeviction" {
        let change = "CONFIG SET maxmemory-policy noeviction; any other deletes state in silence";
        refuse("maxmemory-policy", of("maxmemory-policy"), "noeviction", change);
    }
    if number(of("maxmemory")) == 0 {
        let change = "CONFIG SET maxmemory to what the machine can spare; at the limit writes are refused, not lost";
        refuse("maxmemory", "0 (none)", "a limit", change);
    }
    if !accepts.rdb_only && of("appendonly") != "yes" {
        let change =
            "CONFIG SET appendonly yes; or redis.rdb_only = true, where a restart that replays everything since the last dump is accepted";
        refuse("appendonly", of("appendonly"), "yes", change);
    }
    if !accepts.rdb_only && of("appendonly") == "yes" && !matches!(of("appendfsync"), "everysec" | "always") {
        refuse("appendfsync", of("appendfsync"), "everysec or always", "CONFIG SET appendfsync everysec");
    }
    if info.get("connected_slaves").is_some_and(|count| number(count) > 0) {
        if number(of("min-replicas-to-write")) < 1 {
            let change = "CONFIG SET min-replicas-to-write 1; else a cut-off master goes on accepting";
            refuse("min-replicas-to-write", of("min-replicas-to-write"), "1 or more", change);
        }
        if number(of("min-replicas-max-lag")) > 10 {
            refuse("min-replicas-max-lag", of("min-replicas-max-lag"), "10 or less", "CONFIG SET min-replicas-max-lag 10");
        }
    }
    if number(of("busy-reply-threshold")) < 1000 {
        refuse("busy-reply-threshold", of("busy-reply-threshold"), "1000 or more", "CONFIG SET busy-reply-threshold 5000");
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    fn good() -> Server {
        Server {
            info: map(&[
                ("redis_version", "7.0.15"),
                ("role", "master"),
                ("connected_slaves", "0"),
                ("used_memory", "799"),
                ("maxmemory", "1000"),
            ]),
            config: Some(map(&[
                ("maxmemory-policy", "noeviction"),
                ("maxmemory", "1000"),
                ("appendonly", "yes"),
                ("appendfsync", "everysec"),
                ("min-replicas-to-write", "0"),
                ("min-replicas-max-lag", "10"),
                ("busy-reply-threshold", "5000"),
            ])),
            cluster: None,
            is_named: true,
            mortal: Vec::new(),
        }
    }

    /// What is found where one thing is changed: (check, refuses).
    fn found(change: impl FnOnce(&mut Server), accepts: &Accepts) -> Vec<(String, bool)> {
        let mut server = good();
        change(&mut server);
        judge(&server, accepts).into_iter().map(|f| (f.check.clone(), f.refuses())).collect()
    }

    fn set(server: &mut Server, name: &str, value: &str) {
        let config = server.config.as_mut().unwrap();
        let into = if config.contains_key(name) { config } else { &mut server.info };
        into.insert(name.to_owned(), value.to_owned());
    }

    #[test]
    fn each_setting_that_loses_state_is_found_with_what_to_change() {
        let nothing = Accepts::default();
        assert_eq!(found(|_| {}, &nothing), []);
        for (name, bad, check) in [
            ("maxmemory-policy", "allkeys-lru", "redis maxmemory-policy"),
            ("appendonly", "no", "redis appendonly"),
            ("appendfsync", "no", "redis appendfsync"),
            ("busy-reply-threshold", "5", "redis busy-reply-threshold"),
            ("redis_version", "6.2.14", "redis version"),
            ("role", "slave", "redis role"),
            ("connected_slaves", "1", "redis min-replicas-to-write"),
        ] {
            assert_eq!(found(|s| set(s, name, bad), &nothing), [(check.to_owned(), true)], "{name}");
        }
        let unlimited = |s: &mut Server| set(s, "maxmemory", "0");
        assert_eq!(found(unlimited, &nothing), [("redis maxmemory".to_owned(), true)]);
        let lagging = |s: &mut Server| {
            set(s, "connected_slaves", "1");
            set(s, "min-replicas-to-write", "1");
            set(s, "min-replicas-max-lag", "60");
        };
        assert_eq!(found(lagging, &nothing), [("redis min-replicas-max-lag".to_owned(), true)]);
        let mortal = |s: &mut Server| s.mortal.push("{wp1:identity:0}:0:m".to_owned());
        assert_eq!(found(mortal, &nothing), [("redis keys with a time to live".to_owned(), true)]);
        let valkey = |s: &mut Server| {
            set(s, "server_name", "valkey");
            set(s, "redis_version", "");
        };
        assert_eq!(found(valkey, &nothing), []);
    }

    #[test]
    fn a_cluster_must_serve_all_slots_and_move_none() {
        let of = |state: &str, moving| {
            let cluster = Some(Cluster { state: state.to_owned(), moving });
            found(|s| s.cluster = cluster, &Accepts::default()).into_iter().map(|(check, _)| check).collect::<Vec<_>>()
        };
        assert!(of("ok", 0).is_empty());
        assert_eq!(of("fail", 0), ["redis cluster_state"]);
        assert_eq!(of("ok", 2), ["redis slots on their way"]);
        let unnamed = |s: &mut Server| {
            s.cluster = Some(Cluster { state: "ok".to_owned(), moving: 0 });
            s.is_named = false;
        };
        assert_eq!(found(unnamed, &Accepts::default()), [("redis cluster".to_owned(), true)]);
        let nodes = "a1 10.0.0.1:6379@1 myself,master - 0 0 1 connected 0-99 [93->-b2] [77-<-b2]\nb2 10.0.0.2:6379@1 master - 0 0 2 connected [1->-a1]\n";
        assert_eq!(moving(nodes), 2);
    }

    #[test]
    fn partitions_that_crowd_at_one_master_are_a_warning() {
        let spread = |counts: &[usize]| {
            let held = counts.iter().enumerate().map(|(n, count)| (format!("n{n}:1"), *count)).collect();
            spread(&held).map(|finding| (finding.refuses(), finding.found))
        };
        assert_eq!(spread(&[]), None, "one server of its own");
        assert_eq!(spread(&[64]), None);
        assert_eq!(spread(&[40, 12, 12]), None);
        assert_eq!(spread(&[44, 8, 12]), Some((false, "n0:1: 44, n1:1: 8, n2:1: 12".to_owned())));
        assert_eq!(spread(&[16, 0, 0]), None, "too few to be spread");
    }

    #[test]
    fn a_full_server_is_a_warning() {
        assert_eq!(found(|s| set(s, "used_memory", "800"), &Accepts::default()), [("redis used memory".to_owned(), false)]);
    }

    #[test]
    fn what_an_operator_accepts_or_asserts_is_not_refused() {
        let rdb = Accepts { rdb_only: true, ..Accepts::default() };
        assert_eq!(found(|s| set(s, "appendonly", "no"), &rdb), []);
        let forbidden = |s: &mut Server| s.config = None;
        assert_eq!(found(forbidden, &Accepts::default()), [("redis CONFIG".to_owned(), true)]);
        let asserted = Accepts { settings_by: "ana".to_owned(), ..Accepts::default() };
        assert_eq!(found(forbidden, &asserted), [("redis CONFIG".to_owned(), false)], "and it is said at every start");
    }
}
