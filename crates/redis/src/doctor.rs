//! Settings of the server that would lose state (PROTOCOL §13.2).

use std::collections::BTreeMap;

use redis::Value;
use waypost_runtime::{
    finding::Finding,
    ports::{Install, StoreError},
};
use waypost_types::PartitionId;

use crate::{
    connection::{Connection, refusal},
    keys::Keys,
    reply,
};

/// What the server says of itself.
#[derive(Debug, Default)]
struct Server {
    info: BTreeMap<String, String>,
    config: BTreeMap<String, String>,
}

pub(crate) async fn findings(connection: &Connection) -> Result<Vec<Finding>, StoreError> {
    let mut server = Server { info: info(connection).await?, config: BTreeMap::new() };
    for name in [
        "maxmemory-policy",
        "maxmemory",
        "appendonly",
        "appendfsync",
        "min-replicas-to-write",
        "min-replicas-max-lag",
        "busy-reply-threshold",
    ] {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg(name);
        match connection.query(&get).await? {
            Ok(Value::Array(pair)) => {
                if let Some(value) = pair.get(1).and_then(reply::bytes) {
                    server.config.insert(name.to_owned(), String::from_utf8_lossy(value).into_owned());
                }
            }
            Ok(_) => {}
            Err(_) => {
                let change = "allow CONFIG GET for this user";
                return Ok(vec![Finding::refuse("redis CONFIG", "forbidden", "readable, to check what would lose state", change)]);
            }
        }
    }
    Ok(judge(&server))
}

/// Partitions whose stored installation is not `install`, or that have none.
pub(crate) async fn strangers(
    connection: &Connection,
    keys: &Keys,
    partitions: &[PartitionId],
    install: &Install,
) -> Result<Vec<Finding>, StoreError> {
    let mut findings = Vec::new();
    for partition in partitions {
        let mut get = redis::cmd("HMGET");
        get.arg(keys.meta(*partition)).arg("inst").arg("lay").arg("fmt");
        let reply = connection.query(&get).await?.map_err(|e| refusal(&e))?;
        let Value::Array(fields) = reply else { continue };
        let text = |i: usize| fields.get(i).and_then(reply::bytes).map(|b| String::from_utf8_lossy(b).into_owned());
        let found = match (text(0), text(1), text(2)) {
            (None, None, None) => "no state".to_owned(),
            (id, layout, format) => {
                let part = |t: Option<String>| t.unwrap_or_default();
                format!("installation {} layout {} format {}", part(id), part(layout), part(format))
            }
        };
        let wanted = format!("installation {} layout {} format {}", install.id, install.layout, install.format);
        if found != wanted {
            let change = "restore this shard from its backup, or point redis.url at the installation's own Redis";
            findings.push(Finding::refuse(format!("redis state of {partition}"), found, wanted, change));
        }
    }
    Ok(findings)
}

async fn info(connection: &Connection) -> Result<BTreeMap<String, String>, StoreError> {
    let reply = connection.query(&redis::cmd("INFO")).await?.map_err(|e| refusal(&e))?;
    let text = if let Value::VerbatimString { text, .. } = &reply {
        text.clone()
    } else {
        reply::bytes(&reply).map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default()
    };
    Ok(text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}

fn judge(server: &Server) -> Vec<Finding> {
    let config = |name: &str| server.config.get(name).map_or("", String::as_str);
    let info = |name: &str| server.info.get(name).map_or("", String::as_str);
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    let mut findings = Vec::new();
    let major = number(info("redis_version").split('.').next().unwrap_or_default());
    if major < 7 {
        findings.push(Finding::refuse(
            "redis version",
            info("redis_version"),
            "7.0 or later, or Valkey",
            "upgrade the server: scripts need `#!lua`",
        ));
    }
    if config("maxmemory-policy") != "noeviction" {
        let change = "CONFIG SET maxmemory-policy noeviction; any other deletes state in silence";
        findings.push(Finding::refuse("redis maxmemory-policy", config("maxmemory-policy"), "noeviction", change));
    }
    if config("appendonly") != "yes" {
        let change = "CONFIG SET appendonly yes; without it a restart replays from the last dump";
        findings.push(Finding::refuse("redis appendonly", config("appendonly"), "yes", change));
    } else if !matches!(config("appendfsync"), "everysec" | "always") {
        let change = "CONFIG SET appendfsync everysec";
        findings.push(Finding::refuse("redis appendfsync", config("appendfsync"), "everysec or always", change));
    }
    if number(config("maxmemory")) == 0 {
        let change = "CONFIG SET maxmemory to what the machine can spare; at the limit writes are refused, not lost";
        findings.push(Finding::refuse("redis maxmemory", "0 (none)", "a limit", change));
    }
    if info("role") != "master" {
        findings.push(Finding::refuse("redis role", info("role"), "master", "connect to the master, not to a replica"));
    }
    if number(info("connected_slaves")) > 0 {
        if number(config("min-replicas-to-write")) < 1 {
            let change = "CONFIG SET min-replicas-to-write 1; else a cut-off master goes on accepting";
            findings.push(Finding::refuse("redis min-replicas-to-write", config("min-replicas-to-write"), "1 or more", change));
        }
        if number(config("min-replicas-max-lag")) > 10 {
            let change = "CONFIG SET min-replicas-max-lag 10";
            findings.push(Finding::refuse("redis min-replicas-max-lag", config("min-replicas-max-lag"), "10 or less", change));
        }
    }
    if number(config("busy-reply-threshold")) < 1000 {
        let change = "CONFIG SET busy-reply-threshold 5000";
        findings.push(Finding::refuse("redis busy-reply-threshold", config("busy-reply-threshold"), "1000 or more", change));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Server {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Server {
            info: map(&[("redis_version", "7.0.15"), ("role", "master"), ("connected_slaves", "0")]),
            config: map(&[
                ("maxmemory-policy", "noeviction"),
                ("maxmemory", "2147483648"),
                ("appendonly", "yes"),
                ("appendfsync", "everysec"),
                ("min-replicas-to-write", "0"),
                ("min-replicas-max-lag", "10"),
                ("busy-reply-threshold", "5000"),
            ]),
        }
    }

    #[test]
    fn each_setting_that_loses_state_is_found() {
        assert_eq!(judge(&good()), []);
        for (name, bad) in [
            ("maxmemory-policy", "allkeys-lru"),
            ("maxmemory", "0"),
            ("appendonly", "no"),
            ("appendfsync", "no"),
            ("busy-reply-threshold", "5"),
        ] {
            let mut server = good();
            server.config.insert(name.into(), bad.into());
            let findings = judge(&server);
            assert_eq!(findings.len(), 1, "{name}");
            assert!(findings[0].refuses() && findings[0].check.ends_with(name), "{name}");
        }
        for (name, bad) in [("redis_version", "6.2.14"), ("role", "slave"), ("connected_slaves", "1")] {
            let mut server = good();
            server.info.insert(name.into(), bad.into());
            assert_eq!(judge(&server).len(), 1, "{name}");
        }
    }
}
