//! The control services over a log in memory: all or nothing, one winner, errors with their place.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends with the place")]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;
use waypost_control::{Catalog, Changes, Control, Following};
use waypost_memory::{LogPort, MemoryLog, VirtualClock};
use waypost_proto::control::{
    self as pb, definition_service_server::DefinitionService as _, journey_service_server::JourneyService as _,
    profile_service_server::ProfileService as _, source_service_server::SourceService as _,
};
use waypost_runtime::ports::{Clock, Log, Offset, Owners, OwnersError};
use waypost_types::{EntityId, IdentifierClass, Layout, PartitionId, Role, Timestamp};

const LAYOUT: Layout = Layout { number: 1, partitions: 4 };

struct Nobody;

#[async_trait]
impl Owners for Nobody {
    async fn read(&self, _: PartitionId, _: EntityId) -> Result<(Option<Bytes>, Offset), OwnersError> {
        Ok((None, 0))
    }
}

fn log() -> (MemoryLog, Arc<dyn Log>, VirtualClock) {
    let clock = VirtualClock::new(Timestamp::from_millis(1_774_594_800_000));
    let log = MemoryLog::new(&clock);
    for role in Role::KEYED {
        log.create_plain(role.inbox().unwrap(), LAYOUT.partitions);
    }
    log.create_plain("wp1.control", 1);
    log.create_plain("wp1.definitions", 8);
    let port: Arc<dyn Log> = Arc::new(LogPort::new(log.clone()));
    (log, port, clock)
}

async fn control(port: &Arc<dyn Log>, clock: &VirtualClock) -> (Control, Following) {
    let (catalog, following) = Catalog::follow(port, "").await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let changes = Changes::new(port.clone(), clock.clone(), catalog.clone(), String::new(), LAYOUT);
    let normalise = |_: IdentifierClass, value: &str| (value != "guest").then(|| value.to_owned());
    (Control::new(changes, catalog, Arc::new(Nobody), clock, LAYOUT, [7; 32], normalise, Arc::new(|| [9; 24])), following)
}

fn file(path: &str, text: &str) -> pb::File {
    pb::File { path: path.to_owned(), text: text.to_owned() }
}

fn apply(manifests: Vec<pb::File>) -> Request<pb::ApplyDefinitionsRequest> {
    let parent = "workspaces/default".to_owned();
    Request::new(pb::ApplyDefinitionsRequest { parent, manifests, attachments: Vec::new(), validate_only: false, etag: String::new() })
}

const TOPIC: &str = "apiVersion: waypost.dev/v1\nkind: Topic\nmetadata: {name: news}\nspec: {title: News, class: marketing}\n";
const SOURCE: &str = "apiVersion: waypost.dev/v1\nkind: Source\nmetadata: {name: web}\nspec: {kind: browser}\n";

#[tokio::test]
async fn what_is_applied_is_activated_in_every_inbox_that_uses_it() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let answer = control.apply_definitions(apply(vec![file("a.yaml", TOPIC)])).await.unwrap().into_inner();
    assert_eq!(answer.set, 1);
    assert_eq!(answer.changes[0].what(), pb::change::What::Created);
    for (inbox, expected) in [("wp1.identity", 1), ("wp1.segment", 1), ("wp1.send", 1), ("wp1.journey", 0)] {
        for partition in 0..LAYOUT.partitions {
            assert_eq!(log.all(inbox, partition).len(), expected, "{inbox}");
        }
    }
    // The same again changes nothing; the activation is said again, in case it was cut short before.
    let again = control.apply_definitions(apply(vec![file("a.yaml", TOPIC)])).await.unwrap().into_inner();
    assert_eq!((again.set, again.changes[0].what()), (1, pb::change::What::Unchanged));
    assert_eq!(log.all("wp1.control", 0).len(), 1);
    assert_eq!(log.all("wp1.segment", 0).len(), 2);
}

#[tokio::test]
async fn one_bad_manifest_refuses_all_with_every_place() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let bad = TOPIC.replace("title: News", "titel: News");
    let status = control.apply_definitions(apply(vec![file("good.yaml", SOURCE), file("bad.yaml", &bad)])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    assert!(details.error_info().is_some());
    let violations = &details.bad_request().unwrap().field_violations;
    assert!(violations.iter().any(|v| v.field.starts_with("bad.yaml:4:") && v.description.contains("UNKNOWN_FIELD")), "{violations:?}");
    assert!(log.all("wp1.control", 0).is_empty(), "nothing was changed");
}

#[tokio::test]
async fn of_two_control_processes_that_change_at_once_one_wins() {
    let (_, port, clock) = log();
    let (first, _a) = control(&port, &clock).await;
    let (second, _b) = control(&port, &clock).await;
    let (one, other) = tokio::join!(
        first.apply_definitions(apply(vec![file("a.yaml", TOPIC)])),
        second.apply_definitions(apply(vec![file("b.yaml", SOURCE)]))
    );
    let outcomes = [one.map(drop), other.map(drop)];
    let lost = outcomes.iter().filter(|o| o.as_ref().is_err_and(|s| s.code() == Code::Aborted)).count();
    let won = outcomes.iter().filter(|o| o.is_ok()).count();
    // One after the other is as good; both at once on the same set is not.
    assert!(won >= 1 && won + lost == 2, "{outcomes:?}");
    let stored = |control: &Control| {
        let control = control.clone();
        async move {
            let parent = "workspaces/default".to_owned();
            let request = pb::ListDefinitionsRequest { parent, kind: String::new(), page_size: 0, page_token: String::new() };
            control.list_definitions(Request::new(request)).await.unwrap().into_inner().definitions.len()
        }
    };
    assert_eq!(stored(&first).await, won);
}

#[tokio::test]
async fn stale_etags_abort_and_unknown_names_are_not_found() {
    let (_, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let mut request = apply(vec![file("a.yaml", TOPIC)]);
    request.get_mut().etag = "\"stale\"".to_owned();
    assert_eq!(control.apply_definitions(request).await.unwrap_err().code(), Code::Aborted);
    let publish = |name: &str| Request::new(pb::PublishJourneyRequest { name: name.to_owned(), etag: String::new() });
    assert_eq!(control.publish_journey(publish("workspaces/default/journeys/none")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(control.publish_journey(publish("workspaces/elsewhere/journeys/none")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(control.publish_journey(publish("journeys/none")).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_write_key_needs_its_source_and_is_stored_as_a_hash() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let rotate = || Request::new(pb::RotateKeyRequest { name: "workspaces/default/sources/web".to_owned() });
    assert_eq!(control.rotate_key(rotate()).await.unwrap_err().code(), Code::NotFound);
    control.apply_definitions(apply(vec![file("s.yaml", SOURCE)])).await.unwrap();
    let key = control.rotate_key(rotate()).await.unwrap().into_inner().write_key;
    let stored: Vec<u8> = log.all("wp1.control", 0).into_iter().flat_map(|d| d.payload.to_vec()).collect();
    assert!(!String::from_utf8_lossy(&stored).contains(&key));
}

#[tokio::test]
async fn lookups_say_what_is_wrong_with_an_identifier() {
    let (_, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    for (identifier, code) in [
        ("user_id:u1", Code::NotFound),
        ("u1", Code::InvalidArgument),
        ("user_id:guest", Code::InvalidArgument),
        ("shoe:1", Code::InvalidArgument),
    ] {
        let request = pb::LookupProfileRequest { parent: "workspaces/default".to_owned(), identifier: identifier.to_owned() };
        assert_eq!(control.lookup_profile(Request::new(request)).await.unwrap_err().code(), code, "{identifier}");
    }
}
