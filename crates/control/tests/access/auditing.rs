//! What the audit topic says of who did what, and who may read it.

use tonic::{Code, transport::Channel};
use waypost_proto::control::{
    self as pb, audit_service_client::AuditServiceClient, definition_service_client::DefinitionServiceClient,
    profile_service_client::ProfileServiceClient, source_service_client::SourceServiceClient,
};

use super::town::{Entity, Town, with};

const SOURCE: &str = "apiVersion: waypost.dev/v1\nkind: Source\nmetadata: {name: web}\nspec: {kind: browser}\n";

const TOKENS: &[(&str, &str, &str)] = &[
    ("ana", "\"admin\"", "\"*\""),
    ("ops", "\"operator\"", "\"default\""),
    ("other-ops", "\"operator\"", "\"elsewhere\""),
    ("editor", "\"editor\"", "\"default\""),
];

fn parent() -> String {
    "workspaces/default".to_owned()
}

async fn apply(channel: &Channel, token: &str) {
    let manifests = vec![pb::File { path: "a.yaml".to_owned(), text: SOURCE.to_owned() }];
    let request = pb::ApplyDefinitionsRequest { parent: parent(), manifests, ..Default::default() };
    let mut request = with(token, request);
    // Whoever is known is not asked for a name.
    request.metadata_mut().insert("waypost-as", "mallory".parse().unwrap());
    DefinitionServiceClient::new(channel.clone()).apply_definitions(request).await.unwrap();
}

async fn list(channel: &Channel, token: &str, request: pb::ListAuditEntriesRequest) -> Result<pb::ListAuditEntriesResponse, Code> {
    let answer = AuditServiceClient::new(channel.clone()).list_audit_entries(with(token, request)).await;
    answer.map(tonic::Response::into_inner).map_err(|status| status.code())
}

#[tokio::test]
async fn a_line_says_who_was_authenticated_how_from_where_and_what_changed() {
    let town = Town::new(Entity::Known).await;
    let channel = town.open(town.gate(TOKENS)).await;
    apply(&channel, "editor").await;
    let rotate =
        || with("ana", pb::RotateKeyRequest { name: "workspaces/default/sources/web".to_owned(), ..pb::RotateKeyRequest::default() });
    let mut sources = SourceServiceClient::new(channel.clone());
    sources.rotate_key(rotate()).await.unwrap();
    sources.rotate_key(rotate()).await.unwrap();
    let refused =
        with("editor", pb::RotateKeyRequest { name: "workspaces/default/sources/web".to_owned(), ..pb::RotateKeyRequest::default() });
    assert_eq!(sources.rotate_key(refused).await.unwrap_err().code(), Code::PermissionDenied);

    let lines = town.audit();
    assert_eq!(lines.len(), 3, "what was refused is no act: {lines:?}");
    assert_eq!((lines[0]["by"].as_str(), lines[0]["how"].as_str()), (Some("editor"), Some("token")));
    assert!(lines[0]["from"].as_str().unwrap().starts_with("127.0.0.1:"));
    let etags = (lines[0]["before"].as_str().unwrap(), lines[0]["after"].as_str().unwrap());
    assert!(etags.0 != etags.1 && etags.1.len() >= 32, "{etags:?}");
    // The second key follows the first.
    assert!(lines[1].get("before").is_none());
    assert_eq!(lines[2]["before"], lines[1]["after"]);
    assert_ne!(lines[2]["after"], "");
}

#[tokio::test]
async fn what_came_to_nothing_says_so_in_a_second_line() {
    let town = Town::new(Entity::Known).await;
    let channel = town.open(town.gate(TOKENS)).await;
    *town.shut.lock().unwrap() = true;
    let erase = with("ana", pb::EraseProfileRequest { parent: parent(), identifier: "user_id:u1".to_owned(), validate_only: false });
    let failed = ProfileServiceClient::new(channel.clone()).erase_profile(erase).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    let lines = town.audit();
    assert_eq!(lines.len(), 2);
    assert_eq!((lines[0]["act"].as_str(), lines[0].get("outcome")), (Some("profile.erase"), None));
    assert_eq!(lines[1]["outcome"], "failed: UNAVAILABLE");
    assert_eq!((&lines[0]["subject"], &lines[0]["workspace"]), (&lines[1]["subject"], &"default".into()));
}

#[tokio::test]
async fn entries_are_read_newest_first_page_by_page_by_whoever_may() {
    let town = Town::new(Entity::Known).await;
    let channel = town.open(town.gate(TOKENS)).await;
    for token in ["editor", "ana", "editor", "ana", "editor"] {
        apply(&channel, token).await;
    }
    // A line of before, of a command beside the API, that belongs to no workspace.
    let old = br#"{"at":7,"by":"root","act":"engine.activate","subject":"engines/2"}"#;
    let append = waypost_runtime::ports::Append {
        topic: "wp1.audit".to_owned(),
        partition: 0,
        key: None,
        headers: Vec::new(),
        payload: bytes::Bytes::from_static(old),
    };
    town.log.append(append).unwrap();

    let request = || pb::ListAuditEntriesRequest::default();
    let all = list(&channel, "ana", request()).await.unwrap().entries;
    assert_eq!(all.iter().map(|e| e.id).collect::<Vec<_>>(), [5, 4, 3, 2, 1, 0]);
    assert_eq!((all[0].by.as_str(), all[0].how.as_str(), all[0].act.as_str()), ("root", "", "engine.activate"));
    assert_eq!((all[1].by.as_str(), all[1].workspace.as_str()), ("editor", "default"));

    // Pages, as often as there are some.
    let mut seen = Vec::new();
    let mut page = pb::ListAuditEntriesRequest { page_size: 2, ..request() };
    loop {
        let answer = list(&channel, "ana", page.clone()).await.unwrap();
        seen.extend(answer.entries.into_iter().map(|e| e.id));
        page.page_token = answer.next_page_token;
        if page.page_token.is_empty() {
            break;
        }
        let changed = pb::ListAuditEntriesRequest { by: "ana".to_owned(), ..page.clone() };
        assert_eq!(list(&channel, "ana", changed).await, Err(Code::InvalidArgument), "a token of another question");
    }
    assert_eq!(seen, [5, 4, 3, 2, 1, 0]);

    let ids = |request| {
        let channel = channel.clone();
        async move { list(&channel, "ana", request).await.map(|answer| answer.entries.into_iter().map(|e| e.id).collect::<Vec<_>>()) }
    };
    assert_eq!(ids(pb::ListAuditEntriesRequest { by: "ana".to_owned(), ..request() }).await, Ok(vec![3, 1]));
    assert_eq!(ids(pb::ListAuditEntriesRequest { act: "engine.activate".to_owned(), ..request() }).await, Ok(vec![5]));
    assert_eq!(ids(pb::ListAuditEntriesRequest { act: "nothing".to_owned(), ..request() }).await, Err(Code::InvalidArgument));
    assert_eq!(ids(pb::ListAuditEntriesRequest { subject_prefix: "engines/".to_owned(), ..request() }).await, Ok(vec![5]));
    assert_eq!(ids(pb::ListAuditEntriesRequest { until: 8, ..request() }).await, Ok(vec![5]));
    assert_eq!(ids(pb::ListAuditEntriesRequest { from: super::town::NOW, ..request() }).await.unwrap().len(), 5);
    assert_eq!(ids(pb::ListAuditEntriesRequest { parent: parent(), ..request() }).await.unwrap().len(), 5);
    assert_eq!(ids(pb::ListAuditEntriesRequest { page_size: -1, ..request() }).await, Err(Code::InvalidArgument));

    // Who may read of one workspace reads of no other, and nothing that is nobody's.
    assert_eq!(list(&channel, "ops", request()).await.unwrap().entries.len(), 5);
    assert!(list(&channel, "other-ops", request()).await.unwrap().entries.is_empty());
    assert_eq!(list(&channel, "editor", request()).await, Err(Code::PermissionDenied));
}
