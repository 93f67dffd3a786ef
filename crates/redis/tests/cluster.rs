//! A Redis Cluster keeps the promises of a store, also while slots move and masters come and go.

#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "where certificates lie stands in the environment")]

#[path = "user/fixture.rs"]
#[allow(unreachable_pub, dead_code, reason = "shared with other tests")]
mod fixture;

#[path = "user/nodes.rs"]
#[allow(unreachable_pub, dead_code, reason = "shared with other tests")]
mod nodes;

use std::{env, path::PathBuf, sync::Arc};

use bytes::Bytes;
use fixture::{OnRedis, commits_race_with_claims};
use nodes::{OwnCluster, until};
use redis::cluster_async::ClusterConnection;
use waypost_memory::contract::{StoreFixture as _, fresh_prefix, server, store_suite};
use waypost_redis::{Accepts, Keys, RedisStore, Rights, Server};
use waypost_runtime::{
    finding::Finding,
    ports::{ClaimReply, Commit, CommitReply, InitReply, Install, Meta, Read, ReadReply, Store, StoreError, Token},
    upkeep::Upkeep as _,
};
use waypost_types::{EntityId, PartitionId, Role, WorkspaceId};

const PARTITION: PartitionId = PartitionId { role: Role::Segmenter, index: 4 };
const TOKEN: Token = Token([7; 16]);

async fn cluster() -> OwnCluster {
    OwnCluster::start(&server("WAYPOST_TEST_REDIS_SERVER")).await
}

fn install() -> Install {
    Install { id: "00".repeat(16), layout: 1, format: 1 }
}

fn entity(n: u32) -> EntityId {
    EntityId::new(WorkspaceId::new(7), b'p', &n.to_be_bytes())
}

/// A commit behind `expected` that writes these entities.
fn commit(expected: u64, entities: &[u32]) -> Commit {
    let value = Bytes::from(format!("as of {expected}"));
    let entities = entities.iter().map(|n| (entity(*n), Some(value.clone()))).collect();
    let (timers, sequences) = Default::default();
    let meta = Meta { lastrec: format!("{expected}:1:2"), ..Meta::default() };
    Commit { token: TOKEN, expected, next: expected + 1, meta, entities, timers, sequences }
}

async fn claimed(store: &RedisStore, partition: PartitionId) {
    assert_eq!(store.init(partition, &install()).await, Ok(InitReply::Created));
    assert!(matches!(store.claim(partition, TOKEN, &install()).await, Ok(ClaimReply::Ok(_))));
}

/// A store of its own prefix that owns [`PARTITION`], whose first commit has gone through.
async fn begun(nodes: &OwnCluster) -> OnRedis<ClusterConnection> {
    let fixture = OnRedis::new([nodes.server(), nodes.server()], &fresh_prefix(), nodes.connection().await);
    claimed(&fixture.store, PARTITION).await;
    assert_eq!(fixture.store.commit(PARTITION, &commit(0, &[1, 2, 3, 4])).await, Ok(CommitReply::Ok));
    fixture
}

fn is_refused<T>(answer: &Result<T, StoreError>, says: &[&str]) -> bool {
    matches!(answer, Err(StoreError::Refused(why)) if says.iter().any(|word| why.contains(word)))
}

async fn slot(nodes: &OwnCluster, keys: &Keys) -> u16 {
    redis::from_redis_value(nodes.nodes[0].ask(&format!("CLUSTER KEYSLOT {}", keys.meta(PARTITION))).await).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_the_promises_of_a_store() {
    let (nodes, prefix) = (cluster().await, fresh_prefix());
    let services = nodes.guest("services", &prefix, Rights::Services).await;
    let administration = nodes.guest("administration", &prefix, Rights::Administration).await;
    let fixture = OnRedis::new([services, administration], &prefix, nodes.connection().await);
    store_suite(&fixture, 300).await;
    commits_race_with_claims(&fixture).await;
    for node in &nodes.nodes {
        node.ask("FLUSHALL").await;
        node.ask("SCRIPT FLUSH").await;
    }
    for role in Role::KEYED {
        for index in (0..64).step_by(4) {
            claimed(&fixture.store, PartitionId { role, index }).await;
        }
    }
    for node in &nodes.nodes {
        let held: u64 = redis::from_redis_value(node.ask("DBSIZE").await).unwrap();
        assert!(held > 0, "no partition lies at {}", node.address());
    }
    each_node_is_looked_at(&nodes, &fixture).await;
}

/// What the doctor finds, and where.
async fn each_node_is_looked_at(nodes: &OwnCluster, fixture: &OnRedis<ClusterConnection>) {
    let partitions: Vec<_> = (0..64).map(|index| PartitionId { role: Role::Orchestrator, index }).collect();
    let found = async || {
        let findings = fixture.store.doctor(&partitions, &Accepts::default()).await.unwrap();
        findings.into_iter().filter(Finding::refuses).map(|finding| (finding.check, finding.found)).collect::<Vec<_>>()
    };
    assert_eq!(found().await, []);
    let (second, third) = (&nodes.nodes[1], &nodes.nodes[2]);
    second.ask("CONFIG SET maxmemory-policy allkeys-lru").await;
    third.ask("ACL SETUSER services -hset").await;
    let at = |check: &str, node: &nodes::Node| format!("{check} at {}", node.address());
    let mut wanted = vec![
        (at("redis maxmemory-policy", second), "allkeys-lru".to_owned()),
        (at("redis rights of the user", third), "it may not HSET".to_owned()),
    ];
    let mut all = found().await;
    all.sort();
    wanted.sort();
    assert_eq!(all, wanted);
    second.ask("CONFIG SET maxmemory-policy noeviction").await;
    third.ask("ACL SETUSER services +hset -cluster|slots").await;
    assert_eq!(found().await, [(at("redis rights of the user", third), "it may not CLUSTER SLOTS".to_owned())]);
    third.ask("ACL SETUSER services +cluster|slots").await;
    // a key that expires is seen wherever it lies
    for partition in [0, 4, 8, 12, 16, 20].map(|index| PartitionId { role: Role::Orchestrator, index }) {
        let meta = fixture.keys.meta(partition);
        fixture.run("HSET", &[&meta, "f", "v"]).await;
        fixture.run("EXPIRE", &[&meta, "1000"]).await;
        let all = found().await;
        assert!(all.len() == 1 && all[0].0.starts_with("redis keys with a time to live at "), "{partition}: {all:?}");
        fixture.run("DEL", &[&meta]).await;
    }
    assert_eq!(found().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_on_its_way_refuses_whole_and_is_followed() {
    let nodes = cluster().await;
    let fixture = begun(&nodes).await;
    let (store, slot) = (&fixture.store, slot(&nodes, &fixture.keys).await);
    let from = nodes.master_of(slot).await;
    let (source, target) = (&nodes.nodes[from], &nodes.nodes[(from + 1) % 3]);
    let (source_id, target_id) = (source.id().await, target.id().await);
    let read = Read { token: TOKEN, expected: vec![2], entities: [1, 2, 3, 4, 5].map(entity).to_vec(), timers: None };
    let on_its_way = ["ASK ", "TRYAGAIN "];

    assert_eq!(store.commit(PARTITION, &commit(1, &[1, 2, 3, 4])).await, Ok(CommitReply::Ok));
    let stored = fixture.dump(PARTITION).await;
    target.ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {source_id}")).await;
    source.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {target_id}")).await;
    let keys: Vec<String> = redis::from_redis_value(source.ask(&format!("CLUSTER GETKEYSINSLOT {slot} 100")).await).unwrap();
    assert!(keys.len() >= 3 && keys.contains(&fixture.keys.meta(PARTITION)), "{keys:?}");
    let (last, others) = keys.split_last().unwrap();
    let ask_for = |key: &str| format!("MIGRATE 127.0.0.1 {} {key} 0 5000", target.port);
    let mut was_refused = 0;
    for key in others {
        source.ask(&ask_for(key)).await;
        // whatever of it has gone: refused, and nothing is written on either side
        let answer = store.commit(PARTITION, &commit(2, &[1, 2, 3, 4])).await;
        assert!(is_refused(&answer, &on_its_way), "{answer:?}");
        let answer = store.read(PARTITION, &read).await;
        assert!(is_refused(&answer, &on_its_way), "{answer:?}");
        was_refused += 1;
    }
    source.ask(&ask_for(last)).await;
    let answer = store.commit(PARTITION, &commit(2, &[1, 2, 3, 4])).await;
    assert!(was_refused > 1 && is_refused(&answer, &on_its_way), "{answer:?}");
    for node in [target, source] {
        node.ask(&format!("CLUSTER SETSLOT {slot} NODE {target_id}")).await;
    }
    assert_eq!(nodes.master_of(slot).await, (from + 1) % 3);
    let Ok(ReadReply::Ok { entities, .. }) = store.read(PARTITION, &read).await else { panic!("not read") };
    assert_eq!(entities.iter().flatten().count(), 4);
    assert!(entities.iter().flatten().all(|value| value == "as of 1"), "{entities:?}");
    assert_eq!(fixture.dump(PARTITION).await, stored, "it came whole");
    // and the other way round, with nothing in between
    assert_eq!(store.commit(PARTITION, &commit(2, &[1, 5])).await, Ok(CommitReply::Ok));
    let keys: Vec<String> = redis::from_redis_value(target.ask(&format!("CLUSTER GETKEYSINSLOT {slot} 100")).await).unwrap();
    source.ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {target_id}")).await;
    target.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {source_id}")).await;
    for key in keys {
        target.ask(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", source.port)).await;
    }
    for node in [source, target] {
        node.ask(&format!("CLUSTER SETSLOT {slot} NODE {source_id}")).await;
    }
    assert_eq!(store.commit(PARTITION, &commit(3, &[6])).await, Ok(CommitReply::Ok), "the first call is made at the new master");
    let snapshot = fixture.upkeep.snapshot(PARTITION).await.unwrap().unwrap();
    assert_eq!((snapshot.off, snapshot.entities.len()), (4, 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_away_holds_up_its_own_partitions() {
    let mut nodes = cluster().await;
    for node in &nodes.nodes {
        node.ask("CONFIG SET cluster-require-full-coverage no").await;
        node.ask("CONFIG SET appendfsync always").await;
    }
    let fixture = begun(&nodes).await;
    let (store, slot) = (&fixture.store, slot(&nodes, &fixture.keys).await);
    let master = nodes.master_of(slot).await;
    let mut elsewhere = PARTITION;
    loop {
        elsewhere.index += 4;
        let other = nodes.nodes[0].ask(&format!("CLUSTER KEYSLOT {}", fixture.keys.meta(elsewhere))).await;
        if nodes.master_of(redis::from_redis_value(other).unwrap()).await != master {
            break;
        }
    }
    claimed(store, elsewhere).await;
    nodes.nodes[master].kill();
    let answer = store.commit(PARTITION, &commit(1, &[1])).await;
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(store.commit(elsewhere, &commit(0, &[1])).await, Ok(CommitReply::Ok));
    let answer = store.commit(PARTITION, &commit(1, &[1])).await;
    assert!(is_refused(&answer, &["cannot connect"]), "{answer:?}");
    nodes.restart(master).await;
    until("the same bytes go through", async || store.commit(PARTITION, &commit(1, &[1])).await == Ok(CommitReply::Ok)).await;
    assert_eq!(store.commit(PARTITION, &commit(1, &[1])).await, Ok(CommitReply::Already));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lost_the_tail_is_found_out() {
    let mut nodes = cluster().await;
    nodes.add_replica().await;
    let prefix = loop {
        let prefix = fresh_prefix();
        if nodes.master_of(slot(&nodes, &Keys::new(prefix.as_str(), &[])).await).await == 0 {
            break prefix;
        }
    };
    let store = Arc::new(RedisStore::connect(&nodes.server(), &prefix, &[]).unwrap());
    claimed(&store, PARTITION).await;
    assert_eq!(store.commit(PARTITION, &commit(0, &[1])).await, Ok(CommitReply::Ok));
    let found = store.doctor(&[PARTITION], &Accepts::default()).await.unwrap();
    let refused: Vec<_> = found.iter().map(|finding| finding.check.as_str()).collect();
    assert_eq!(refused, [format!("redis min-replicas-to-write at {}", nodes.nodes[0].address())]);
    nodes.nodes[0].ask("WAIT 1 5000").await;
    // the replica comes in no more, and what is committed from now on it does not have
    nodes.nodes[3].ask("CONFIG SET masterauth nobody").await;
    nodes.nodes[0].ask("CLIENT KILL TYPE replica").await;
    until("it is cut off", async || nodes.nodes[3].text("INFO replication").await.contains("master_link_status:down")).await;
    assert_eq!(store.commit(PARTITION, &commit(1, &[1, 2])).await, Ok(CommitReply::Ok));
    nodes.nodes[0].kill();
    let answered = async || store.commit(PARTITION, &commit(2, &[3])).await.ok();
    until("a new master answers", async || answered().await.is_some()).await;
    assert_eq!(answered().await, Some(CommitReply::Moved(1)), "the store went back, and says so");
    let Ok(ClaimReply::Ok(claimed)) = store.claim(PARTITION, Token([8; 16]), &install()).await else { panic!("no claim") };
    assert_eq!((claimed.off, claimed.meta.lastrec.as_str()), (1, "0:1:2"));
    assert_eq!(store.commit(PARTITION, &commit(1, &[1, 2])).await, Ok(CommitReply::Fenced), "who owned it before is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_reached_over_tls() {
    if env::var("WAYPOST_TEST_REDIS_TLS").is_ok_and(|url| url.is_empty()) {
        println!("skipped: the Redis of this run speaks no TLS");
        return;
    }
    let (certificates, prefix) = (PathBuf::from(server("WAYPOST_TEST_TLS")), fresh_prefix());
    let at = |name: &str| env::current_dir().unwrap().join("../..").join(&certificates).join(name);
    let nodes = OwnCluster::start_over(Some(at("")), &server("WAYPOST_TEST_REDIS_SERVER")).await;
    let guest = nodes.guest("guest", &prefix, Rights::Services).await;
    let good = Server {
        url: "rediss://nowhere.invalid".to_owned(),
        cluster: nodes.addresses_over_tls(),
        ca_file: Some(at("ca.pem")),
        certificate: Some((at("client.pem"), at("client.key"))),
        ..guest
    };
    let store = RedisStore::connect(&good, &prefix, &[]).unwrap();
    for index in (0..64).step_by(4) {
        claimed(&store, PartitionId { role: Role::Segmenter, index }).await;
    }
    let stranger = Server { ca_file: Some(at("other-ca.pem")), ..good };
    let answer = RedisStore::connect(&stranger, &prefix, &[]).unwrap().head(PARTITION).await;
    assert!(is_refused(&answer, &["no authority of redis.ca_file"]), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_do_not_fit_the_server_are_told() {
    let (nodes, prefix) = (cluster().await, fresh_prefix());
    // a node that is taken for a server of its own
    let alone = Server::at(format!("redis://{}", nodes.nodes[0].address()));
    let store = RedisStore::connect(&alone, &prefix, &[]).unwrap();
    let mut refused = 0;
    for index in 0..64 {
        let answer = store.init(PartitionId { role: Role::Sender, index }, &install()).await;
        if answer != Ok(InitReply::Created) {
            assert!(is_refused(&answer, &["a node of a Redis Cluster"]) && is_refused(&answer, &["redis.cluster"]), "{answer:?}");
            refused += 1;
        }
    }
    assert!(refused > 0);
    let found = store.doctor(&[PARTITION], &Accepts::default()).await.unwrap();
    assert!(found.len() == 1 && found[0].check == "redis cluster" && found[0].refuses(), "{found:?}");
    // a server of its own that is taken for a node
    let url = server("WAYPOST_TEST_REDIS");
    let address = url.strip_prefix("redis://").unwrap().split_once('/').unwrap().0.to_owned();
    let store = RedisStore::connect(&Server { cluster: vec![address.clone()], ..Server::at("redis://r") }, &prefix, &[]).unwrap();
    let answer = store.head(PARTITION).await;
    assert!(is_refused(&answer, &["no node of redis.cluster"]) && is_refused(&answer, &["cluster support disabled"]), "{answer:?}");
    // one that answers is enough
    let some = vec!["127.0.0.1:1".to_owned(), address, nodes.nodes[1].address()];
    let store = RedisStore::connect(&Server { cluster: some, ..Server::at("redis://r") }, &prefix, &[]).unwrap();
    assert_eq!(store.head(PARTITION).await, Ok(None));
}
