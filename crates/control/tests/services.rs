//! The control services over a log in memory: all or nothing, one winner, errors with their place.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends with the place")]

mod common;

use common::{LAYOUT, audit, by, control, control_over, log};
use prost::Message as _;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;
use waypost_codec::{
    frame::{Frame, Record},
    inbox, kind, state, stored,
};
use waypost_control::Control;
use waypost_proto::control::{
    self as pb, definition_service_server::DefinitionService as _, journey_service_server::JourneyService as _,
    profile_service_server::ProfileService as _, revision_service_server::RevisionService as _, source_service_server::SourceService as _,
    workspace_service_server::WorkspaceService as _,
};
use waypost_types::{IdentifierClass, WorkspaceId};

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
            let request = pb::ListDefinitionsRequest { parent, ..pb::ListDefinitionsRequest::default() };
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
    let publish =
        |name: &str| by("somebody", pb::PublishJourneyRequest { name: name.to_owned(), etag: String::new(), validate_only: false });
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
    let pause = |etag: &str| by("ana", pb::PauseJourneyRequest { name: name.clone(), etag: etag.to_owned(), validate_only: false });
    let resume = || by("ana", pb::ResumeJourneyRequest { name: name.clone(), etag: String::new(), validate_only: false });
    let kill = || by("ana", pb::KillJourneyRequest { name: name.clone(), etag: String::new(), validate_only: false });
    let archive = || by("ana", pb::ArchiveJourneyRequest { name: name.clone(), etag: String::new(), validate_only: false });
    assert_eq!(control.pause_journey(pause("")).await.unwrap_err().code(), Code::NotFound);
    control.apply_definitions(apply(vec![file("j.yaml", JOURNEY)])).await.unwrap();
    let refused = control.pause_journey(pause("")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.get_error_details().error_info().map(|info| info.reason.clone()), Some("STATE_CONFLICT".to_owned()));
    assert!(refused.message().contains("publish it first"), "{}", refused.message());

    let publish = by("ana", pb::PublishJourneyRequest { name: name.clone(), etag: String::new(), validate_only: false });
    let active = control.publish_journey(publish).await.unwrap().into_inner();
    assert_eq!(control.pause_journey(pause("stale")).await.unwrap_err().code(), Code::Aborted);
    let told = log.all("wp1.audit", 0).len();
    let tried = by("ana", pb::PauseJourneyRequest { name: name.clone(), etag: String::new(), validate_only: true });
    let tried = control.pause_journey(tried).await.unwrap().into_inner();
    assert_eq!(tried.state(), pb::DefinitionState::Paused);
    let still = by("ana", pb::GetDefinitionRequest { name: "workspaces/default/definitions/Journey/nap".to_owned(), read_mask: None });
    assert_eq!(control.get_definition(still).await.unwrap().into_inner(), active, "only tried");
    assert_eq!(log.all("wp1.audit", 0).len(), told, "and no line says that it was done");
    let paused = control.pause_journey(pause(&active.etag)).await.unwrap().into_inner();
    assert_eq!(paused, tried);
    assert_eq!((paused.state(), paused.version), (pb::DefinitionState::Paused, 1));
    assert_ne!(paused.etag, active.etag);
    let got = by("ana", pb::GetDefinitionRequest { name: "workspaces/default/definitions/Journey/nap".to_owned(), read_mask: None });
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
    let publish = || {
        by("ana", pb::PublishJourneyRequest { name: "workspaces/default/journeys/nap".into(), etag: String::new(), validate_only: false })
    };
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
async fn a_workspace_is_made_once_and_is_in_force_everywhere() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let create = |name: &str, validate_only| {
        by("root", pb::CreateWorkspaceRequest { workspace_id: name.to_owned(), validate_only, ..pb::CreateWorkspaceRequest::default() })
    };
    let would_be = control.create_workspace(create("shop", true)).await.unwrap().into_inner();
    assert!(log.all("wp1.control", 0).is_empty() && audit(&log).is_empty(), "only checked");
    // before anything was ever applied
    let made = control.create_workspace(create("shop", false)).await.unwrap().into_inner();
    assert_eq!((&made, made.name.as_str(), made.number), (&would_be, "workspaces/shop", 2));
    for inbox in ["wp1.identity", "wp1.segment", "wp1.send"] {
        for partition in 0..LAYOUT.partitions {
            assert_eq!(log.all(inbox, partition).len(), 1, "{inbox}");
        }
    }
    for (name, code, reason) in [("shop", Code::AlreadyExists, "ALREADY_EXISTS"), ("My Shop", Code::InvalidArgument, "INVALID_NAME")] {
        for validate_only in [true, false] {
            let refused = control.create_workspace(create(name, validate_only)).await.unwrap_err();
            assert_eq!((refused.code(), refused.get_error_details().error_info().unwrap().reason.as_str()), (code, reason), "{refused}");
        }
    }
    let mut bounded = create("other", false);
    let quota = Some(pb::Quota::default());
    bounded.get_mut().workspace = Some(pb::Workspace { quota, ..pb::Workspace::default() });
    assert_eq!(control.create_workspace(bounded).await.unwrap_err().code(), Code::InvalidArgument, "a quota is set afterwards");

    // another process gives the next number, and each workspace has its own of one name
    let (other, _following) = self::control(&port, &clock).await;
    assert_eq!(other.create_workspace(create("test", false)).await.unwrap().into_inner().number, 3);
    let mut there = apply(vec![file("s.yaml", SOURCE)]);
    there.get_mut().parent = "workspaces/shop".to_owned();
    other.apply_definitions(there).await.unwrap();
    let rotate = |workspace: &str| {
        by("ana", pb::RotateKeyRequest { name: format!("workspaces/{workspace}/sources/web"), ..pb::RotateKeyRequest::default() })
    };
    assert!(other.rotate_key(rotate("shop")).await.is_ok());
    assert_eq!(other.rotate_key(rotate("test")).await.unwrap_err().code(), Code::NotFound);
    let all = other.list_workspaces(by("ana", pb::ListWorkspacesRequest::default())).await.unwrap().into_inner().workspaces;
    let all: Vec<_> = all.iter().map(|w| (w.name.as_str(), w.number, w.usage.unwrap().definitions)).collect();
    assert_eq!(all, [("workspaces/default", 1, 0), ("workspaces/shop", 2, 1), ("workspaces/test", 3, 0)]);
    let lines: Vec<serde_json::Value> = audit(&log).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let made: Vec<_> = lines.iter().filter(|line| line["act"] == "workspace.create").collect();
    assert_eq!(made.iter().map(|line| &line["subject"]).collect::<Vec<_>>(), ["workspaces/shop", "workspaces/test"]);
    assert!(made[0]["before"] != made[0]["after"] && made[0]["after"] == made[1]["before"], "{made:?}");
}

#[tokio::test]
async fn a_write_key_needs_its_source_and_is_stored_as_a_hash() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let rotate =
        || by("somebody", pb::RotateKeyRequest { name: "workspaces/default/sources/web".to_owned(), ..pb::RotateKeyRequest::default() });
    assert_eq!(control.rotate_key(rotate()).await.unwrap_err().code(), Code::NotFound);
    control.apply_definitions(apply(vec![file("s.yaml", SOURCE)])).await.unwrap();
    let key = control.rotate_key(rotate()).await.unwrap().into_inner().write_key;
    let stored: Vec<u8> = log.all("wp1.control", 0).into_iter().flat_map(|d| d.payload.to_vec()).collect();
    assert!(!String::from_utf8_lossy(&stored).contains(&key));
}

/// What they are called, and until when they are good.
async fn keys(control: &Control, parent: &str) -> Vec<(String, i64)> {
    let request = pb::ListKeysRequest { parent: parent.to_owned(), ..pb::ListKeysRequest::default() };
    let answer = control.list_keys(by("ana", request)).await.unwrap().into_inner();
    answer.keys.into_iter().map(|key| (key.name, key.until)).collect()
}

#[tokio::test]
async fn a_key_that_is_kept_stands_in_the_list_until_its_end_and_a_revoked_one_no_more() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let web = "workspaces/default/sources/web";
    let (now, day) = (clock.now().millis(), 86_400_000);
    let keep = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let rotate = |keep_old_for, validate_only| by("ana", pb::RotateKeyRequest { name: web.to_owned(), keep_old_for, validate_only });
    control.apply_definitions(apply(vec![file("s.yaml", SOURCE)])).await.unwrap();
    let first = control.rotate_key(rotate(None, false)).await.unwrap().into_inner();
    let made = first.key.clone().unwrap();
    assert_eq!((made.source.as_str(), made.made_at, made.made_by.as_str(), made.until), (web, now, "ana", 0));
    assert!(first.old.is_empty() && !made.name.contains(&first.write_key), "{made:?}");

    // What is only checked is written nowhere.
    let lines = (log.all("wp1.control", 0).len(), audit(&log).len());
    let dry = control.rotate_key(rotate(keep(86_400), true)).await.unwrap().into_inner();
    assert_eq!((dry.write_key.as_str(), dry.key.as_ref(), dry.old[0].until), ("", None, now + day));
    assert_eq!(control.rotate_key(rotate(None, true)).await.unwrap().into_inner().old[0].until, now, "at once");
    let revoke = |name: &str, validate_only| by("ben", pb::RevokeKeyRequest { name: name.to_owned(), validate_only });
    assert_eq!(control.revoke_key(revoke(&made.name, true)).await.unwrap().into_inner().until, now);
    for too_long in [keep(90 * 86_400 + 1), keep(-1)] {
        let refused = control.rotate_key(rotate(too_long, false)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    assert_eq!((log.all("wp1.control", 0).len(), audit(&log).len()), lines);

    let second = control.rotate_key(rotate(keep(86_400), false)).await.unwrap().into_inner();
    let (old, new) = (made.name.clone(), second.key.unwrap().name);
    for parent in ["workspaces/default", web] {
        let mut there = keys(&control, parent).await;
        there.sort_by_key(|(_, until)| *until == 0);
        assert_eq!(there, [(old.clone(), now + day), (new.clone(), 0)], "{parent}");
    }
    assert!(keys(&control, "workspaces/default/sources/app").await.is_empty());
    clock.advance(waypost_types::Span::from_days(1));
    assert_eq!(keys(&control, web).await, [(new.clone(), 0)], "its time is over");
    assert_eq!(control.revoke_key(revoke(&old, false)).await.unwrap_err().code(), Code::NotFound, "and it is no more");

    control.revoke_key(revoke(&new, false)).await.unwrap();
    assert!(keys(&control, web).await.is_empty());
    for (wrong, code) in [
        (new.as_str(), Code::NotFound),
        ("workspaces/default/keys/0", Code::NotFound),
        ("workspaces/elsewhere/keys/0", Code::NotFound),
        ("workspaces/default/sources/web", Code::InvalidArgument),
    ] {
        assert_eq!(control.revoke_key(revoke(wrong, false)).await.unwrap_err().code(), code, "{wrong}");
    }
    let lines: Vec<serde_json::Value> = audit(&log).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [made, rotated, revoked] = &lines[1..] else { panic!("{lines:?}") };
    assert_eq!((rotated["before"].as_str(), rotated["note"].as_str().is_some()), (made["after"].as_str(), true));
    assert_eq!(
        (revoked["act"].as_str(), revoked["subject"].as_str(), revoked["by"].as_str()),
        (Some("source.revoke-key"), Some(web), Some("ben"))
    );
    assert_eq!((&revoked["before"], revoked.get("after")), (&rotated["after"], None));
    // Whoever reads the journal anew knows the same.
    let (other, _following) = common::control(&port, &clock).await;
    assert!(keys(&other, web).await.is_empty());
}

#[tokio::test]
async fn keys_are_listed_page_by_page_and_ten_of_a_source_at_most() {
    let (_, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let app = SOURCE.replace("name: web", "name: app");
    control.apply_definitions(apply(vec![file("s.yaml", SOURCE), file("a.yaml", &app)])).await.unwrap();
    let keep_old_for = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    let rotate = |source: &str| {
        clock.advance(waypost_types::Span::from_secs(1));
        let name = format!("workspaces/default/sources/{source}");
        control.rotate_key(by("ana", pb::RotateKeyRequest { name, keep_old_for, validate_only: false }))
    };
    let mut made = Vec::new();
    for source in ["web"; 10].into_iter().chain(["app"]) {
        made.push(rotate(source).await.unwrap().into_inner().key.unwrap().name);
    }
    assert_eq!(rotate("web").await.unwrap_err().code(), Code::FailedPrecondition, "an eleventh");
    let at_once =
        pb::RotateKeyRequest { name: "workspaces/default/sources/web".to_owned(), validate_only: true, ..pb::RotateKeyRequest::default() };
    assert_eq!(control.rotate_key(by("ana", at_once)).await.unwrap().into_inner().old.len(), 10, "nothing is kept");
    // By source, the newest last.
    made.rotate_right(1);
    let parent = "workspaces/default".to_owned();
    let (mut seen, mut page) = (Vec::new(), pb::ListKeysRequest { parent, page_size: 4, page_token: String::new() });
    loop {
        let answer = control.list_keys(by("ana", page.clone())).await.unwrap().into_inner();
        seen.extend(answer.keys.into_iter().map(|key| key.name));
        page.page_token = answer.next_page_token;
        if page.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, made);
    for wrong in [
        pb::ListKeysRequest { page_token: "4".to_owned(), ..page.clone() },
        pb::ListKeysRequest { page_size: -1, ..page.clone() },
        pb::ListKeysRequest { parent: "default".to_owned(), ..page.clone() },
    ] {
        assert_eq!(control.list_keys(by("ana", wrong)).await.unwrap_err().code(), Code::InvalidArgument);
    }
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
        let request =
            pb::LookupProfileRequest { parent: "workspaces/default".to_owned(), identifier: identifier.to_owned(), read_mask: None };
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
    let get = || by("ana", pb::GetDefinitionRequest { name: NEWS.to_owned(), read_mask: None });
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
async fn changes_are_in_the_audit_topic_with_who_made_them() {
    let (log, port, clock) = log();
    let (control, _following) = control(&port, &clock).await;
    let manifests = vec![file("a.yaml", SOURCE)];
    let parent = "workspaces/default".to_owned();
    let request = pb::ApplyDefinitionsRequest { parent, manifests, ..pb::ApplyDefinitionsRequest::default() };
    let dry = pb::ApplyDefinitionsRequest { validate_only: true, ..request.clone() };
    control.apply_definitions(by("ana", dry)).await.unwrap();
    control.apply_definitions(by("ana", request)).await.unwrap();
    control
        .rotate_key(by(
            "ben",
            pb::RotateKeyRequest { name: "workspaces/default/sources/web".to_owned(), ..pb::RotateKeyRequest::default() },
        ))
        .await
        .unwrap();
    let lines = audit(&log);
    assert_eq!(lines.len(), 2, "a dry run is no change: {lines:?}");
    assert!(lines[0].contains(r#""by":"ana","act":"definitions.apply""#), "{lines:?}");
    assert!(lines[1].contains(r#""by":"ben","act":"source.rotate-key""#), "{lines:?}");
}

#[tokio::test]
async fn an_erase_is_a_record_at_the_identifier_and_a_line_that_names_nobody() {
    let (log, port, clock) = log();
    let erase = |who| {
        by(
            who,
            pb::EraseProfileRequest { parent: "workspaces/default".to_owned(), identifier: "user_id:ana".to_owned(), validate_only: false },
        )
    };
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
    let tried = pb::EraseProfileRequest { validate_only: true, ..erase("ben").into_inner() };
    assert_eq!(control.erase_profile(by("ben", tried)).await.unwrap().into_inner(), pb::EraseProfileResponse::default());
    assert!(audit(&log)[4].contains("only checked"), "who asked stands there all the same");
    assert!((0..LAYOUT.partitions).all(|partition| log.all("wp1.identity", partition).is_empty()), "and nothing is asked for");
    let wrong = pb::EraseProfileRequest { parent: "workspaces/default".to_owned(), identifier: profile, validate_only: false };
    assert_eq!(control.erase_profile(by("somebody", wrong)).await.unwrap_err().code(), Code::InvalidArgument);

    let answer = control.erase_profile(erase("ben")).await.unwrap().into_inner().acknowledged.unwrap();
    let (parent, identifier) = ("workspaces/default".to_owned(), "user_id:ana".to_owned());
    control
        .detach_identifier(by(
            "somebody",
            pb::DetachIdentifierRequest { parent: parent.clone(), identifier: identifier.clone(), validate_only: false },
        ))
        .await
        .unwrap();
    control.expire_profile(by("somebody", pb::ExpireProfileRequest { parent, identifier, validate_only: false })).await.unwrap();
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
    let lines = audit(&log).split_off(vain.len() + 1);
    assert_eq!(lines.len(), 3);
    assert!(
        lines[0].contains(&format!(r#""by":"ben","act":"profile.erase","subject":"identifiers/{}""#, answer.identifier_hash)),
        "{lines:?}"
    );
    let written: Vec<u8> = appended.iter().flat_map(|(_, payload)| payload.to_vec()).chain(lines.concat().into_bytes()).collect();
    assert!(!String::from_utf8_lossy(&written).contains("ana"), "no personal data");
}
