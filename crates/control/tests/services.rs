//! The control services over a log in memory: all or nothing, one winner, errors with their place.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends with the place")]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message as _;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;
use waypost_codec::{
    frame::{Frame, Record},
    inbox, kind, state, stored,
};
use waypost_control::{Catalog, Changes, Control, Following, access::Caller};
use waypost_memory::{LogPort, MemoryLog, VirtualClock};
use waypost_proto::control::{
    self as pb, dead_letter_service_server::DeadLetterService as _, definition_service_server::DefinitionService as _,
    journey_service_server::JourneyService as _, profile_service_server::ProfileService as _,
    revision_service_server::RevisionService as _, source_service_server::SourceService as _,
    workspace_service_server::WorkspaceService as _,
};
use waypost_runtime::{
    door::LogDoor,
    ports::{Append, Clock, Consumer, Delivery, Log, LogError, Offset, Owners, OwnersError, Producer, Subscription, Tail, TopicSpec},
};
use waypost_types::{EntityId, IdentifierClass, Layout, PartitionId, Role, Timestamp, WorkspaceId};

const LAYOUT: Layout = Layout { number: 1, partitions: 4 };

/// Owners of partitions in which this is every entity.
struct All(Option<Bytes>);

#[async_trait]
impl Owners for All {
    async fn read(&self, _: PartitionId, _: EntityId) -> Result<(Option<Bytes>, Offset), OwnersError> {
        Ok((self.0.clone(), 0))
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
    log.create_plain("wp1.audit", 1);
    log.create_plain("wp1.dead", 8);
    log.create_plain("waypost.events.v1", 8);
    let port: Arc<dyn Log> = Arc::new(LogPort::new(log.clone()));
    (log, port, clock)
}

async fn control(port: &Arc<dyn Log>, clock: &VirtualClock) -> (Control, Following) {
    control_over(port, clock, None).await
}

async fn control_over(port: &Arc<dyn Log>, clock: &VirtualClock, entity: Option<Bytes>) -> (Control, Following) {
    let (catalog, following) = Catalog::follow(port, "").await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let changes = Changes::new(port.clone(), clock.clone(), catalog.clone(), String::new(), LAYOUT);
    let normalise = |_: IdentifierClass, value: &str| (value != "guest").then(|| value.to_owned());
    let (owners, door) = (Arc::new(All(entity)), Arc::new(LogDoor::new(port.clone(), String::new(), LAYOUT)));
    (Control::new(changes, catalog, owners, clock, LAYOUT, [7; 32], normalise, Arc::new(|| [9; 24]), door), following)
}

fn file(path: &str, text: &str) -> pb::File {
    pb::File { path: path.to_owned(), text: text.to_owned() }
}

fn apply(manifests: Vec<pb::File>) -> Request<pb::ApplyDefinitionsRequest> {
    let parent = "workspaces/default".to_owned();
    by("somebody", pb::ApplyDefinitionsRequest { parent, manifests, ..pb::ApplyDefinitionsRequest::default() })
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
            control.list_definitions(by("somebody", request)).await.unwrap().into_inner().definitions.len()
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
    let publish = |name: &str| by("somebody", pb::PublishJourneyRequest { name: name.to_owned(), etag: String::new() });
    assert_eq!(control.publish_journey(publish("workspaces/default/journeys/none")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(control.publish_journey(publish("workspaces/elsewhere/journeys/none")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(control.publish_journey(publish("journeys/none")).await.unwrap_err().code(), Code::InvalidArgument);
}

const JOURNEY: &str = "apiVersion: waypost.dev/v1
kind: Topic
metadata: {name: news}
spec: {title: News}
---
apiVersion: waypost.dev/v1
kind: Journey
metadata: {name: nap}
spec:
  title: Nap
  describe: Does nothing for an hour.
  owner: ops@shop.example
  topic: news
  entries: [{id: in, on_event: {name: Ping}}]
  steps: [{id: rest, delay: {for: 1h}}]
";

#[tokio::test]
async fn a_journey_is_paused_resumed_and_killed_and_what_makes_no_sense_is_refused() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let name = "workspaces/default/journeys/nap".to_owned();
    let pause = |etag: &str| by("ana", pb::PauseJourneyRequest { name: name.clone(), etag: etag.to_owned() });
    let resume = || by("ana", pb::ResumeJourneyRequest { name: name.clone(), etag: String::new() });
    let kill = || by("ana", pb::KillJourneyRequest { name: name.clone(), etag: String::new() });
    let archive = || by("ana", pb::ArchiveJourneyRequest { name: name.clone(), etag: String::new() });
    assert_eq!(control.pause_journey(pause("")).await.unwrap_err().code(), Code::NotFound);
    control.apply_definitions(apply(vec![file("j.yaml", JOURNEY)])).await.unwrap();
    let refused = control.pause_journey(pause("")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.get_error_details().error_info().map(|info| info.reason.clone()), Some("STATE_CONFLICT".to_owned()));
    assert!(refused.message().contains("publish it first"), "{}", refused.message());

    let publish = by("ana", pb::PublishJourneyRequest { name: name.clone(), etag: String::new() });
    let active = control.publish_journey(publish).await.unwrap().into_inner();
    assert_eq!(control.pause_journey(pause("stale")).await.unwrap_err().code(), Code::Aborted);
    let paused = control.pause_journey(pause(&active.etag)).await.unwrap().into_inner();
    assert_eq!((paused.state(), paused.version), (pb::DefinitionState::Paused, 1));
    assert_ne!(paused.etag, active.etag);
    let got = by("ana", pb::GetDefinitionRequest { name: "workspaces/default/definitions/Journey/nap".to_owned() });
    assert_eq!(control.get_definition(got).await.unwrap().into_inner(), paused);
    assert_eq!(control.archive_journey(archive()).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(control.resume_journey(resume()).await.unwrap().into_inner(), active, "as it was");
    let killed = control.kill_journey(kill()).await.unwrap().into_inner();
    assert_eq!((killed.state(), killed.version), (pb::DefinitionState::Killed, 1));
    assert_eq!(control.resume_journey(resume()).await.unwrap_err().code(), Code::FailedPrecondition);

    let lines = audit(&log);
    let acts: Vec<&str> =
        ["journey.pause", "journey.resume", "journey.kill"].into_iter().filter(|act| lines.iter().any(|l| l.contains(act))).collect();
    assert_eq!(acts.len(), 3, "{lines:?}");
    let paused: serde_json::Value = serde_json::from_str(lines.iter().find(|l| l.contains("journey.pause")).unwrap()).unwrap();
    assert!(paused["before"] != paused["after"] && paused["before"].is_string(), "{paused}");
}

fn quota(quota: pb::Quota, etag: &str) -> pb::UpdateWorkspaceRequest {
    let workspace = pb::Workspace { name: "workspaces/default".into(), quota: Some(quota), etag: etag.into(), ..pb::Workspace::default() };
    pb::UpdateWorkspaceRequest { workspace: Some(workspace), ..pb::UpdateWorkspaceRequest::default() }
}

#[tokio::test]
async fn a_quota_is_kept_by_the_journal_and_holds_what_grows() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    control.apply_definitions(apply(vec![file("a.yaml", TOPIC)])).await.unwrap();
    let bounded = pb::Quota { definitions: Some(1), live_journeys: Some(0), ..pb::Quota::default() };
    let mut checked = quota(bounded, "");
    checked.validate_only = true;
    let would_be = control.update_workspace(by("root", checked)).await.unwrap().into_inner();
    assert_eq!(log.all("wp1.control", 0).len(), 1, "only checked");
    let set = control.update_workspace(by("root", quota(bounded, ""))).await.unwrap().into_inner();
    assert_eq!((&set, set.usage.unwrap().definitions), (&would_be, 1));
    assert_eq!(control.update_workspace(by("root", quota(bounded, "stale"))).await.unwrap_err().code(), Code::Aborted);
    let above = pb::Quota { segments: Some(1_001), ..pb::Quota::default() };
    assert_eq!(control.update_workspace(by("root", quota(above, &set.etag))).await.unwrap_err().code(), Code::InvalidArgument);

    // what is there changes, what is new is too much, asked for or only checked
    control.apply_definitions(apply(title("All"))).await.unwrap();
    for validate_only in [true, false] {
        let mut more = apply(vec![file("s.yaml", SOURCE)]);
        more.get_mut().validate_only = validate_only;
        let refused = control.apply_definitions(more).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        let details = refused.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "QUOTA_EXCEEDED");
        let violation = &details.quota_failure().unwrap().violations[0];
        assert_eq!(
            (violation.subject.as_str(), violation.description.as_str()),
            ("workspaces/default", "2 definitions, of which it may have 1")
        );
    }
    let raised = pb::Quota { definitions: Some(10), ..pb::Quota::default() };
    control.update_workspace(by("root", quota(raised, &set.etag))).await.unwrap();
    control.apply_definitions(apply(vec![file("j.yaml", JOURNEY)])).await.unwrap();
    let publish = || by("ana", pb::PublishJourneyRequest { name: "workspaces/default/journeys/nap".into(), etag: String::new() });
    assert_eq!(control.publish_journey(publish()).await.unwrap_err().code(), Code::ResourceExhausted);

    // another process reads the same in the journal
    let (other, _following) = self::control(&port, &clock).await;
    let get = || by("ana", pb::GetWorkspaceRequest { name: "workspaces/default".into() });
    let kept = other.get_workspace(get()).await.unwrap().into_inner();
    let expected = pb::Quota { definitions: Some(10), live_journeys: Some(0), ..pb::Quota::default() };
    assert_eq!((kept.quota, kept.usage.unwrap().live_journeys), (Some(expected), 0));
    let all = other.list_workspaces(by("ana", pb::ListWorkspacesRequest::default())).await.unwrap().into_inner();
    assert_eq!((all.workspaces, all.next_page_token.as_str()), (vec![kept], ""));
    let mut free = quota(pb::Quota::default(), "");
    free.update_mask = Some(prost_types::FieldMask { paths: vec!["quota.live_journeys".into()] });
    other.update_workspace(by("root", free)).await.unwrap();
    other.publish_journey(publish()).await.unwrap();
    let lines = audit(&log);
    let updates: Vec<_> = lines.iter().filter(|line| line.contains(r#""act":"workspace.update""#)).collect();
    assert_eq!(updates.len(), 3, "{lines:?}");
    assert!(updates[0].contains("before") && updates[0].contains("live_journeys"), "{updates:?}");
}

#[tokio::test]
async fn a_write_key_needs_its_source_and_is_stored_as_a_hash() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let rotate = || by("somebody", pb::RotateKeyRequest { name: "workspaces/default/sources/web".to_owned() });
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
        ("custom:card:77", Code::NotFound),
        ("custom:card:guest", Code::InvalidArgument),
        ("custom:card", Code::InvalidArgument),
        ("custom::77", Code::InvalidArgument),
    ] {
        let request = pb::LookupProfileRequest { parent: "workspaces/default".to_owned(), identifier: identifier.to_owned() };
        assert_eq!(control.lookup_profile(by("somebody", request)).await.unwrap_err().code(), code, "{identifier}");
    }
}

fn title(title: &str) -> Vec<pb::File> {
    vec![file("a.yaml", &TOPIC.replace("title: News", &format!("title: {title}")))]
}

const NEWS: &str = "workspaces/default/definitions/topic/news";

#[tokio::test]
async fn a_definition_is_deleted_under_its_etag_with_a_line_of_before_and_after() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    control.apply_definitions(apply(vec![file("a.yaml", TOPIC)])).await.unwrap();
    let delete = |name: &str, etag: &str, validate_only| {
        by("ana", pb::DeleteDefinitionRequest { name: name.to_owned(), etag: etag.to_owned(), validate_only })
    };
    for (name, etag, code) in [(NEWS, "stale", Code::Aborted), ("workspaces/default/definitions/topic/none", "", Code::NotFound)] {
        assert_eq!(control.delete_definition(delete(name, etag, false)).await.unwrap_err().code(), code, "{name}");
    }
    let get = || by("ana", pb::GetDefinitionRequest { name: NEWS.to_owned() });
    let etag = control.get_definition(get()).await.unwrap().into_inner().etag;
    let checked = control.delete_definition(delete(NEWS, &etag, true)).await.unwrap().into_inner();
    assert_eq!(checked.change.unwrap().what(), pb::change::What::Deleted);
    assert!(control.get_definition(get()).await.is_ok(), "only checked");
    let done = control.delete_definition(delete(NEWS, &etag, false)).await.unwrap().into_inner();
    assert_eq!((done.set, done.etag), (2, checked.etag));
    assert_eq!(control.get_definition(get()).await.unwrap_err().code(), Code::NotFound);
    let lines = audit(&log);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let said = |word: &str| lines[1].contains(word);
    assert!(said(r#""by":"ana","act":"definitions.delete""#) && said("before") && said("after"), "{lines:?}");
}

#[tokio::test]
async fn what_is_still_read_is_no_wrong_argument_but_in_use() {
    let (_, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let policy = "apiVersion: waypost.dev/v1\nkind: Policy\nmetadata: {name: shop}\nspec: {custom_identifiers: [card]}\n";
    let source = SOURCE.replace("kind: browser", "kind: server, may_assert: ['custom:card']");
    control.apply_definitions(apply(vec![file("p.yaml", policy), file("s.yaml", &source)])).await.unwrap();
    let name = "workspaces/default/definitions/policy/shop".to_owned();
    let request = pb::DeleteDefinitionRequest { name, ..pb::DeleteDefinitionRequest::default() };
    let refused = control.delete_definition(by("ana", request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "IN_USE");
    assert!(refused.get_error_details().bad_request().unwrap().field_violations[0].description.contains("custom:card"));
}

#[tokio::test]
async fn pruning_is_one_change_and_says_so() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let spare = TOPIC.replace("name: news", "name: spare");
    control.apply_definitions(apply(vec![file("a.yaml", TOPIC), file("b.yaml", &spare), file("s.yaml", SOURCE)])).await.unwrap();
    let mut request = apply(title("All"));
    (request.get_mut().prune, request.get_mut().validate_only) = (true, true);
    let words = |answer: &pb::ApplyDefinitionsResponse| answer.changes.iter().map(|c| (c.name.clone(), c.what())).collect::<Vec<_>>();
    let plan = control.apply_definitions(request).await.unwrap().into_inner();
    let expected = [("news".to_owned(), pb::change::What::Changed), ("spare".to_owned(), pb::change::What::Deleted)];
    assert_eq!(words(&plan), expected);
    let mut request = apply(title("All"));
    request.get_mut().prune = true;
    let done = control.apply_definitions(request).await.unwrap().into_inner();
    assert_eq!((words(&done), done.set, done.etag), (expected.to_vec(), 2, plan.etag));
    let lines = audit(&log);
    assert_eq!(lines.len(), 2);
    assert!(lines[1].contains(r#""note":"pruned 1""#), "{lines:?}");
}

async fn revisions(control: &Control, parent: &str, page_size: i32, page_token: &str) -> pb::ListRevisionsResponse {
    let request = pb::ListRevisionsRequest { parent: parent.to_owned(), page_size, page_token: page_token.to_owned() };
    control.list_revisions(by("ana", request)).await.unwrap().into_inner()
}

#[tokio::test]
async fn revisions_say_who_changed_what_and_an_earlier_version_comes_back_as_a_new_one() {
    let (_, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    for manifests in [vec![file("a.yaml", TOPIC)], vec![file("s.yaml", SOURCE)], title("All"), title("All")] {
        control.apply_definitions(apply(manifests)).await.unwrap();
    }
    let back = |version, validate_only| {
        by("ben", pb::RollbackDefinitionRequest { name: NEWS.to_owned(), version, etag: String::new(), validate_only })
    };
    let checked = control.rollback_definition(back(1, true)).await.unwrap().into_inner();
    assert!(checked.change.unwrap().diff.contains("-  title: All\n+  title: News"));
    let done = control.rollback_definition(back(1, false)).await.unwrap().into_inner();
    assert_eq!((done.set, done.change.unwrap().version, done.etag), (4, 3, checked.etag));
    assert_eq!(control.rollback_definition(back(9, false)).await.unwrap_err().code(), Code::NotFound);
    // the whole workspace, a page at a time
    let first = revisions(&control, "workspaces/default", 3, "").await;
    let rest = revisions(&control, "workspaces/default", 3, &first.next_page_token).await;
    let all: Vec<_> = first.revisions.iter().chain(&rest.revisions).collect();
    let told: Vec<_> = all.iter().map(|r| (r.set, r.by.as_str(), r.act.as_str(), r.changes[0].name.as_str())).collect();
    let apply_of = |set, name| (set, "somebody", "definitions.apply", name);
    assert_eq!(told, [(4, "ben", "definitions.rollback", "news"), apply_of(3, "news"), apply_of(2, "web"), apply_of(1, "news")]);
    assert_eq!((all[0].changes[0].hash.as_str(), rest.next_page_token.as_str()), (all[3].changes[0].hash.as_str(), ""));
    assert_eq!((all[1].changes[0].version_before, all[1].changes[0].version), (1, 2));
    // one definition, and what differs between two sets
    let of_news = revisions(&control, NEWS, 0, "").await.revisions;
    assert_eq!(of_news.iter().map(|r| r.set).collect::<Vec<_>>(), [4, 3, 1]);
    let differ = |from, until| by("ana", pb::DiffRevisionsRequest { name: NEWS.to_owned(), from, until });
    assert!(control.diff_revisions(differ(1, 3)).await.unwrap().into_inner().diff.contains("+  title: All"));
    assert_eq!(control.diff_revisions(differ(1, 0)).await.unwrap().into_inner().diff, "", "it is back");
    assert_eq!(control.diff_revisions(differ(1, 9)).await.unwrap_err().code(), Code::NotFound);
    let other = pb::ListRevisionsRequest { parent: NEWS.to_owned(), page_size: 0, page_token: first.next_page_token };
    assert_eq!(control.list_revisions(by("ana", other)).await.unwrap_err().code(), Code::InvalidArgument, "another question's token");
}

#[tokio::test]
async fn letters_that_are_done_with_are_passed_over_and_stay() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let set_aside = |reason: &'static str| {
        let header = |name: &str, value: &'static str| (name.to_owned(), Bytes::from_static(value.as_bytes()));
        let headers = vec![header("reason", reason), header("door", "identity"), header("workspace", "1")];
        log.append(Append { topic: "wp1.dead".to_owned(), partition: 2, key: None, headers, payload: Bytes::new() }).unwrap();
    };
    for reason in ["DECODE_FAILED", "DECODE_FAILED", "BAD_KEY"] {
        set_aside(reason);
    }
    let discard = |expected, note: &str, validate_only| {
        let reason = "DECODE_FAILED".to_owned();
        let note = note.to_owned();
        by("ana", pb::DiscardDeadLettersRequest { reason, note, expected, validate_only, ..pb::DiscardDeadLettersRequest::default() })
    };
    let list = |discarded| by("ana", pb::ListDeadLettersRequest { discarded, ..pb::ListDeadLettersRequest::default() });
    let checked = control.discard_dead_letters(discard(0, "", true)).await.unwrap().into_inner().ids;
    assert_eq!(checked, ["2-0", "2-1"]);
    assert!(audit(&log).is_empty(), "only checked");
    assert_eq!(control.discard_dead_letters(discard(2, "", false)).await.unwrap_err().code(), Code::InvalidArgument, "no reason given");
    set_aside("DECODE_FAILED");
    assert_eq!(control.discard_dead_letters(discard(2, "test data", false)).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(control.list_dead_letters(list(false)).await.unwrap().into_inner().total, 4);
    let done = control.discard_dead_letters(discard(3, "test data", false)).await.unwrap().into_inner().ids;
    assert_eq!(done.len(), 3);
    let left = control.list_dead_letters(list(false)).await.unwrap().into_inner();
    assert_eq!((left.total, left.letters[0].reason.as_str()), (1, "BAD_KEY"));
    let all = control.list_dead_letters(list(true)).await.unwrap().into_inner();
    let mark = all.letters.iter().find(|letter| letter.id == "2-0").unwrap().discard.clone().unwrap();
    assert_eq!((all.total, mark.by.as_str(), mark.note.as_str()), (4, "ana", "test data"));
    assert_eq!(log.all("wp1.dead", 2).len(), 4, "nothing is taken out");
    let lines = audit(&log);
    assert!(lines.len() == 3 && lines[0].contains(r#""act":"deadletter.discard","subject":"deadletters/2-0""#), "{lines:?}");
    assert_eq!(control.discard_dead_letters(discard(0, "again", false)).await.unwrap().into_inner().ids, [""; 0]);
    let request = pb::RedriveDeadLettersRequest { id: "2-0".to_owned(), ..pb::RedriveDeadLettersRequest::default() };
    let refused = control.redrive_dead_letters(by("ana", request)).await.unwrap().into_inner().letters[0].refused.clone();
    assert!(refused.contains("discarded"), "{refused}");
}

/// A request of somebody who may do everything.
fn by<T>(who: &str, request: T) -> Request<T> {
    Caller::process(who).asks(request)
}

fn audit(log: &MemoryLog) -> Vec<String> {
    log.all("wp1.audit", 0).into_iter().map(|d| String::from_utf8(d.payload.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn changes_are_in_the_audit_topic_with_who_made_them() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let manifests = vec![file("a.yaml", SOURCE)];
    let parent = "workspaces/default".to_owned();
    let request = pb::ApplyDefinitionsRequest { parent, manifests, ..pb::ApplyDefinitionsRequest::default() };
    let dry = pb::ApplyDefinitionsRequest { validate_only: true, ..request.clone() };
    control.apply_definitions(by("ana", dry)).await.unwrap();
    control.apply_definitions(by("ana", request)).await.unwrap();
    control.rotate_key(by("ben", pb::RotateKeyRequest { name: "workspaces/default/sources/web".to_owned() })).await.unwrap();
    let lines = audit(&log);
    assert_eq!(lines.len(), 2, "a dry run is no change: {lines:?}");
    assert!(lines[0].contains(r#""by":"ana","act":"definitions.apply""#), "{lines:?}");
    assert!(lines[1].contains(r#""by":"ben","act":"source.rotate-key""#), "{lines:?}");
}

#[tokio::test]
async fn an_erase_is_a_record_at_the_identifier_and_a_line_that_names_nobody() {
    let (log, port, clock) = log();
    let erase = |who| by(who, pb::EraseProfileRequest { parent: "workspaces/default".to_owned(), identifier: "user_id:ana".to_owned() });
    let (empty, _following) = control(&port, &clock).await;
    assert_eq!(empty.erase_profile(erase("ben")).await.unwrap_err().code(), Code::NotFound, "nobody is called that");
    let forgotten = state::IdentifierState { generations: vec![state::Node { gone: true, ..Default::default() }], ..Default::default() };
    let (after, _following) = control_over(&port, &clock, Some(stored::seal(1, &forgotten.encode_to_vec()))).await;
    assert!(after.erase_profile(erase("ben")).await.unwrap_err().message().contains("forgotten already"));
    let vain = audit(&log);
    assert_eq!(vain.len(), 4, "who asks in vain stands there too");
    assert!(vain[1].contains(r#""outcome":"failed: NOT_FOUND""#) && vain[3].contains(r#""outcome":"failed: NOT_FOUND""#), "{vain:?}");
    let known = state::IdentifierState { generations: vec![state::Node::default()], ..state::IdentifierState::default() };
    let (control, _following) = control_over(&port, &clock, Some(stored::seal(1, &known.encode_to_vec()))).await;
    let profile = format!("prf_{}", "01".repeat(31));
    let wrong = pb::EraseProfileRequest { parent: "workspaces/default".to_owned(), identifier: profile };
    assert_eq!(control.erase_profile(by("somebody", wrong)).await.unwrap_err().code(), Code::InvalidArgument);

    let answer = control.erase_profile(erase("ben")).await.unwrap().into_inner().acknowledged.unwrap();
    let (parent, identifier) = ("workspaces/default".to_owned(), "user_id:ana".to_owned());
    control
        .detach_identifier(by("somebody", pb::DetachIdentifierRequest { parent: parent.clone(), identifier: identifier.clone() }))
        .await
        .unwrap();
    control.expire_profile(by("somebody", pb::ExpireProfileRequest { parent, identifier })).await.unwrap();
    let appended: Vec<_> =
        (0..LAYOUT.partitions).flat_map(|p| log.all("wp1.identity", p).into_iter().map(move |d| (p, d.payload))).collect();
    let records: Vec<(u32, Record)> = appended
        .iter()
        .flat_map(|(p, payload)| Frame::decode(payload.clone()).unwrap().sections.into_iter().flat_map(|s| s.records).map(|r| (*p, r)))
        .collect();
    assert_eq!(records.iter().map(|(_, r)| r.kind).collect::<Vec<_>>(), [kind::ERASE, kind::DETACH, kind::EXPIRE]);
    let (partition, record) = &records[0];
    assert_eq!(LAYOUT.partition(WorkspaceId::new(1), &record.key), *partition);
    assert_eq!(answer.identifier_hash, format!("ih_{}", hex::encode(&record.key)));
    assert_eq!(answer.record, hex::encode(record.id));
    let body = inbox::Erase::decode(record.body.clone()).unwrap();
    let node = body.node.unwrap();
    assert!(body.suppress && node.hash == record.key && node.class == IdentifierClass::UserId.number() && node.generation.is_empty());
    let lines = audit(&log).split_off(vain.len());
    assert_eq!(lines.len(), 3);
    assert!(
        lines[0].contains(&format!(r#""by":"ben","act":"profile.erase","subject":"identifiers/{}""#, answer.identifier_hash)),
        "{lines:?}"
    );
    let written: Vec<u8> = appended.iter().flat_map(|(_, payload)| payload.to_vec()).chain(lines.concat().into_bytes()).collect();
    assert!(!String::from_utf8_lossy(&written).contains("ana"), "no personal data");
}

/// Sets a record aside, as a role does.
fn set_aside(log: &MemoryLog, door: &str, reason: &str, record: &Record) {
    let header = |name: &str, value: &str| (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
    let headers =
        vec![header("reason", reason), header("door", door), header("detail", "why"), header("origin", &format!("{door}/3/9.0.0"))];
    let payload = record.to_proto().encode_to_vec().into();
    log.append(Append { topic: "wp1.dead".to_owned(), partition: 2, key: None, headers, payload }).unwrap();
}

/// A log that counts its producers, and the readers of each topic.
struct Counting {
    log: Arc<dyn Log>,
    producers: AtomicUsize,
    readers: Mutex<Vec<String>>,
}

#[async_trait]
impl Log for Counting {
    fn producer(&self) -> Result<Arc<dyn Producer>, LogError> {
        self.producers.fetch_add(1, Ordering::SeqCst);
        self.log.producer()
    }
    async fn consumer(&self, topic: &str, group: &str) -> Result<Box<dyn Consumer>, LogError> {
        self.log.consumer(topic, group).await
    }
    async fn tail(&self, topic: &str, partition: u32, from: Offset) -> Result<Box<dyn Tail>, LogError> {
        self.readers.lock().unwrap().push(format!("{topic}/{partition}@{from}"));
        self.log.tail(topic, partition, from).await
    }
    async fn subscribe(&self, topic: &str, group: &str) -> Result<Box<dyn Subscription>, LogError> {
        self.log.subscribe(topic, group).await
    }
    async fn watermarks(&self, topic: &str, partition: u32) -> Result<(Offset, Offset), LogError> {
        self.log.watermarks(topic, partition).await
    }
    async fn create(&self, topics: &[TopicSpec]) -> Result<Vec<String>, LogError> {
        self.log.create(topics).await
    }
    async fn describe(&self, topic: &str) -> Result<Option<TopicSpec>, LogError> {
        self.log.describe(topic).await
    }
}

#[tokio::test]
async fn letters_of_the_kafka_door_are_put_back_as_they_lay_there() {
    let (log, port, clock) = log();
    let header = |name: &str, value: &str| (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
    // Five events with keys and headers, each set aside with no more than the place where it lies.
    let events: Vec<Append> = (0..5_u32)
        .map(|n| Append {
            topic: "waypost.events.v1".to_owned(),
            partition: 2 + n % 2,
            key: (n < 4).then(|| Bytes::from(format!("key {n}"))),
            headers: vec![header("source", "theirs"), header("__value_schema_id", &n.to_string()), header("source", "twice")],
            payload: Bytes::from(format!("event {n}")),
        })
        .collect();
    let aside = |position: &str, more: &[(&str, &str)], payload: Bytes| {
        let facts = [("reason", "SCHEMA_UNKNOWN"), ("door", "kafka"), ("source", ""), ("position", position)];
        let headers = facts.iter().chain(more).map(|(name, value)| header(name, value)).collect();
        log.append(Append { topic: "wp1.dead".to_owned(), partition: 6, key: None, headers, payload }).unwrap();
    };
    for event in &events {
        let offset = log.append(event.clone()).unwrap();
        aside(&format!("{}/{offset}", event.partition), &[], event.payload.clone());
    }
    // One whose original has gone, another record there now; one that is cut; one that is both.
    aside("2/0", &[], Bytes::from_static(b"event of before"));
    aside("3/1", &[("truncated", "7")], Bytes::from_static(b"even"));
    aside("3/999", &[("truncated", "7")], Bytes::from_static(b"even"));

    let counting = Arc::new(Counting { log: port, producers: AtomicUsize::new(0), readers: Mutex::default() });
    let (control, _following) = control(&(Arc::clone(&counting) as Arc<dyn Log>), &clock).await;
    counting.readers.lock().unwrap().clear();
    let redrive = |validate_only| {
        let request = pb::RedriveDeadLettersRequest { reason: "SCHEMA_UNKNOWN".to_owned(), validate_only, ..Default::default() };
        control.redrive_dead_letters(by("somebody", request))
    };
    let checked = redrive(true).await.unwrap().into_inner().letters;
    assert_eq!((checked.len(), counting.producers.load(Ordering::SeqCst), audit(&log).len()), (8, 0, 0), "a dry run writes nothing");
    counting.readers.lock().unwrap().clear();
    let done = redrive(false).await.unwrap().into_inner().letters;
    assert_eq!(done, checked);
    let refused: Vec<_> = done.iter().filter(|letter| !letter.refused.is_empty()).collect();
    assert!(refused.len() == 1 && refused[0].id == "6-7" && refused[0].refused.contains("part of its 7 bytes"), "{refused:?}");

    let back = |partition: u32, written: usize| log.all("waypost.events.v1", partition).split_off(written);
    let (even, odd) = (back(2, 3), back(3, 2));
    let expected = |delivery: &Delivery, event: &Append| {
        assert_eq!((&delivery.key, &delivery.headers, &delivery.payload), (&event.key, &event.headers, &event.payload));
    };
    for (delivery, event) in
        even.iter().zip([&events[0], &events[2], &events[4]]).chain(odd.iter().zip([&events[1], &events[3], &events[3]]))
    {
        expected(delivery, event);
    }
    assert_eq!((even.len(), odd.len()), (4, 3));
    assert_eq!((&even[3].payload[..], &even[3].key, even[3].headers.len()), (&b"event of before"[..], &None, 0));
    // One producer for the events and one for the audit, which was read once to its end, and then what came behind it.
    assert_eq!(counting.producers.load(Ordering::SeqCst), 2);
    let mut readers = counting.readers.lock().unwrap().clone();
    readers.retain(|reader| !reader.starts_with("wp1.dead"));
    readers.sort();
    assert_eq!(
        readers,
        [
            "waypost.events.v1/2@0",
            "waypost.events.v1/2@0",
            "waypost.events.v1/3@0",
            "waypost.events.v1/3@1",
            "wp1.audit/0@0",
            "wp1.audit/0@0"
        ]
    );
    assert_eq!(audit(&log).len(), 7);
}

#[tokio::test]
async fn a_dead_letter_is_put_back_once_unless_asked_again() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let key = Bytes::from_static(b"ana@mail.example");
    let item = Record::new(kind::ITEM, WorkspaceId::new(1), [7; 16], key.clone(), clock.now(), Bytes::from_static(b"body"));
    set_aside(&log, "segmenter", "ENGINE_PANIC", &item);
    set_aside(&log, "segmenter", "ENGINE_PANIC", &Record { kind: kind::MERGE_STATE, ..item.clone() });
    set_aside(&log, "identity", "DECODE_FAILED", &item);
    let list = |reason: &str, source: &str| {
        let (control, reason, source) = (control.clone(), reason.to_owned(), source.to_owned());
        async move {
            let request = pb::ListDeadLettersRequest { reason, source, ..pb::ListDeadLettersRequest::default() };
            control.list_dead_letters(by("somebody", request)).await.unwrap().into_inner().letters
        }
    };
    assert_eq!(list("", "").await.len(), 3);
    assert_eq!(list("ENGINE_PANIC", "segmenter/3").await.len(), 2);
    assert_eq!(list("", "identity").await.len(), 1);
    let shown = control.get_dead_letter(by("somebody", pb::GetDeadLetterRequest { id: "2-0".to_owned() })).await.unwrap().into_inner();
    assert!(shown.content.contains("body of 4 bytes") && !shown.content.contains("ana@"), "{}", shown.content);

    let redrive = |id: &str, reason: &str, again| {
        let (control, id, reason) = (control.clone(), id.to_owned(), reason.to_owned());
        async move {
            let request = pb::RedriveDeadLettersRequest { id, reason, again, validate_only: false };
            control.redrive_dead_letters(by("ben", request)).await.unwrap().into_inner().letters
        }
    };
    let first = redrive("2-0", "", false).await;
    assert_eq!((first.len(), first[0].refused.as_str()), (1, ""));
    assert!(redrive("2-0", "", false).await[0].refused.contains("--again"));
    let again = redrive("2-0", "", true).await;
    assert!(again[0].refused.is_empty() && again[0].record != first[0].record);
    let all = redrive("", "ENGINE_PANIC", false).await;
    assert_eq!(all.iter().filter(|l| l.refused.is_empty()).count(), 0, "one was put back, the other cannot be: {all:?}");
    let partition = LAYOUT.partition(WorkspaceId::new(1), &key);
    let records: Vec<Record> = log
        .all("wp1.segment", partition)
        .into_iter()
        .flat_map(|d| Frame::decode(d.payload).unwrap().sections)
        .flat_map(|s| {
            assert!(s.source.is_none());
            s.records
        })
        .collect();
    assert_eq!(records.iter().map(|r| hex::encode(r.id)).collect::<Vec<_>>(), [first[0].record.clone(), again[0].record.clone()]);
    assert!(records.iter().all(|r| r.body == item.body && r.id != item.id));
    assert_eq!(list("", "").await.iter().map(|l| l.redrives.len()).sum::<usize>(), 2);
    assert!(audit(&log).iter().all(|line| line.contains(r#""by":"ben","act":"deadletter.redrive","subject":"deadletters/2-0""#)));
}

mod skipping {
    //! What is looked at before a record is skipped.

    use std::collections::BTreeMap;

    use waypost_codec::frame::{Section, Source};
    use waypost_control::{NoSkip, Search};
    use waypost_runtime::{
        ports::{Install, Meta},
        tip::Tip,
        upkeep::Head,
    };
    use waypost_types::Position;

    use super::*;

    const SOURCE: PartitionId = PartitionId { role: Role::Sender, index: 1 };

    fn head() -> Head {
        let sequences = BTreeMap::from([("x:identity:3".to_owned(), Tip { seq: 5, chain: 0 }.to_bytes())]);
        Head { install: Install { id: "00".repeat(16), layout: 1, format: 1 }, frozen: None, off: 1, meta: Meta::default(), sequences }
    }

    fn write(log: &MemoryLog, topic: &str, partition: u32, sections: Vec<Section>) {
        let payload = Frame { sections }.encode();
        log.append(Append { topic: topic.to_owned(), partition, key: None, headers: Vec::new(), payload }).unwrap();
    }

    fn record(kind: u32, body: Vec<u8>) -> Record {
        Record::new(kind, WorkspaceId::new(1), [1; 16], Bytes::from_static(b"k"), Timestamp::ZERO, body.into())
    }

    fn sent(first: u64) -> Vec<Section> {
        let source = Some(Source { role: SOURCE.role, partition: SOURCE.index, first, chain: 0 });
        vec![Section { source, records: vec![record(kind::RECEIPT, Vec::new())] }]
    }

    /// A log in which partition 1 of the sender stands at a frame of two records, the second a dispatch.
    fn standing() -> (MemoryLog, Arc<dyn Log>) {
        let (log, port, _) = log();
        log.create_plain("waypost.decisions.v1", 8);
        log.create_plain("waypost.messages.v1", 8);
        log.create_plain("waypost.segment-changes.v1", 8);
        let dispatch = inbox::Dispatch { dispatch: Bytes::from_static(b"d1"), ..inbox::Dispatch::default() }.encode_to_vec();
        let records = vec![record(kind::RECALL, Vec::new()), record(kind::DISPATCH, dispatch)];
        write(&log, "wp1.send", 1, vec![Section { source: None, records: vec![record(kind::TICK, Vec::new())] }]);
        write(&log, "wp1.send", 1, vec![Section { source: None, records }]);
        write(&log, "wp1.identity", 3, sent(5));
        (log, port)
    }

    async fn look(port: &Arc<dyn Log>, offset: u64, index: u32) -> Result<(), NoSkip> {
        let search = Search { log: &**port, prefix: "", layout: LAYOUT, public_partitions: 8 };
        search.nothing_of(SOURCE, &head(), Position { offset, index }).await
    }

    #[tokio::test]
    async fn only_a_record_of_the_frame_at_hand_that_nobody_has_folded() {
        let (_, port) = standing();
        assert_eq!(look(&port, 1, 1).await, Ok(()), "what it sent up to number 5 is committed");
        assert!(matches!(look(&port, 0, 0).await, Err(NoSkip::Elsewhere { off: 1, asked: 0, .. })));
        assert!(matches!(look(&port, 1, 2).await, Err(NoSkip::Absent(_))));
    }

    #[tokio::test]
    async fn outputs_above_the_committed_sequence_say_that_it_was_folded() {
        for (topic, partition, first) in [("wp1.identity", 3, 6), ("wp1.identity", 0, 1), ("wp1.send", 2, 1)] {
            let (log, port) = standing();
            write(&log, topic, partition, sent(first));
            assert!(matches!(look(&port, 1, 1).await, Err(NoSkip::Folded(_))), "{topic}/{partition}");
        }
        let public = |name: &'static str, number: &'static str| {
            let (log, port) = standing();
            let header = |name: &str, value: &'static str| (name.to_owned(), Bytes::from_static(value.as_bytes()));
            let headers = vec![header("ce_source", name), header("ce_sequence", number)];
            let topic = "waypost.messages.v1".to_owned();
            log.append(Append { topic, partition: 2, key: None, headers, payload: Bytes::new() }).unwrap();
            port
        };
        assert!(matches!(look(&public("/waypost/sender/1", "1"), 1, 1).await, Err(NoSkip::Folded(_))));
        assert_eq!(look(&public("/waypost/sender/2", "1"), 1, 1).await, Ok(()), "of another partition");
    }

    #[tokio::test]
    async fn an_attempt_for_its_dispatch_says_so_too() {
        let attempt = |name: &'static [u8]| {
            let body = inbox::Attempt { dispatch: Bytes::from_static(name), ..inbox::Attempt::default() }.encode_to_vec();
            vec![Section { source: None, records: vec![record(kind::ATTEMPT, body)] }]
        };
        let (log, port) = standing();
        write(&log, "wp1.send", 1, attempt(b"d2"));
        assert_eq!(look(&port, 1, 1).await, Ok(()), "for another dispatch");
        write(&log, "wp1.send", 1, attempt(b"d1"));
        assert!(matches!(look(&port, 1, 1).await, Err(NoSkip::Folded(_))));
        assert_eq!(look(&port, 1, 0).await, Ok(()), "and nothing of the other record");
    }
}
