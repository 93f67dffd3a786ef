//! Redis keeps the promises of a store, to users who may do what Waypost needs and nothing else.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "user/guest.rs"]
#[allow(unreachable_pub, dead_code, reason = "shared with other tests")]
mod guest;

#[path = "user/fixture.rs"]
#[allow(unreachable_pub, dead_code, reason = "shared with other tests")]
mod fixture;

use bytes::Bytes;
use fixture::{OnRedis, commits_race_with_claims};
use guest::Guest;
use redis::aio::MultiplexedConnection;
use waypost_memory::contract::{fresh_prefix, server, store_suite};
use waypost_redis::{Accepts, Rights};
use waypost_runtime::ports::{ClaimReply, Commit, CommitReply, InitReply, Install, Meta, Store as _, Token};
use waypost_types::{EntityId, PartitionId, Role, WorkspaceId};

/// Its keys will expire.
const MORTAL: PartitionId = PartitionId { role: Role::Sender, index: 77 };

#[tokio::test]
async fn the_store_keeps_its_promises_and_its_server_is_fit() {
    // one test, because the suite fills the server up for a moment
    let (url, prefix) = (server("WAYPOST_TEST_REDIS"), fresh_prefix());
    let connection = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let services = Guest::invite(&url, &prefix, Rights::Services).await;
    let administration = Guest::invite(&url, &prefix, Rights::Administration).await;
    let fixture = OnRedis::new([services.server(), administration.server()], &prefix, connection);
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
    for guest in [services, administration] {
        guest.see_off().await;
    }
}

async fn a_flushed_script_cache_is_loaded_again(fixture: &OnRedis<MultiplexedConnection>) {
    let partition = PartitionId { role: Role::Identity, index: 9 };
    let install = Install { id: "00".repeat(16), layout: 1, format: 1 };
    assert_eq!(fixture.store.init(partition, &install).await, Ok(InitReply::Created));
    fixture.run("SCRIPT", &["FLUSH"]).await;
    assert!(matches!(fixture.store.claim(partition, Token([1; 16]), &install).await, Ok(ClaimReply::Ok(_))));
}

/// Nobody but a person with other tools does that. What was written stays, the offset too, so it must be told from everything else.
async fn a_key_of_another_kind_is_found_out(fixture: &OnRedis<MultiplexedConnection>) {
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
