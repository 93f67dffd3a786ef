//! How much, how deep, how long and how many at once.

use std::time::Duration;

use bytes::Bytes;
use tonic::Code;
use tonic_types::StatusExt as _;
use waypost_control::access::Gate;
use waypost_proto::control::{
    self as pb, definition_service_client::DefinitionServiceClient, profile_service_client::ProfileServiceClient,
};

use super::town::{Entity, Town, call, text, with};

fn lookup() -> pb::LookupProfileRequest {
    pb::LookupProfileRequest { parent: "workspaces/default".to_owned(), identifier: "user_id:u1".to_owned(), read_mask: None }
}

#[tokio::test]
async fn a_call_that_hangs_is_given_up() {
    let town = Town::new(Entity::Silence).await;
    let channel = town.open(Gate::open().with_limits(Duration::from_millis(50), 8)).await;
    let given_up = ProfileServiceClient::new(channel).lookup_profile(lookup()).await.unwrap_err();
    assert_eq!(given_up.code(), Code::DeadlineExceeded);
    assert!(given_up.get_details_error_info().is_some());
}

#[tokio::test]
async fn a_shorter_deadline_of_the_client_is_kept() {
    let town = Town::new(Entity::Silence).await;
    let channel = town.open(Gate::open()).await;
    let mut request = tonic::Request::new(lookup());
    request.set_timeout(Duration::from_millis(50));
    let given_up = ProfileServiceClient::new(channel).lookup_profile(request).await.unwrap_err();
    assert!(matches!(given_up.code(), Code::DeadlineExceeded | Code::Cancelled), "{given_up:?}");
}

#[tokio::test]
async fn of_too_many_calls_the_rest_is_refused_and_health_still_answers() {
    let town = Town::new(Entity::Silence).await;
    let channel = town.open(Gate::open().with_limits(Duration::from_mins(1), 2)).await;
    let mut under_way = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let mut client = ProfileServiceClient::new(channel.clone());
        under_way.spawn(async move { client.lookup_profile(lookup()).await.map(drop) });
    }
    // Two hang; the third, whichever it is, is told at once.
    let refused = under_way.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(call(&channel, "/grpc.health.v1.Health/Check", with("", Bytes::new())).await.is_ok());
    under_way.abort_all();
}

#[tokio::test]
async fn a_server_that_stops_says_so_before_it_is_gone() {
    let town = Town::new(Entity::Known).await;
    let channel = town.open(Gate::open()).await;
    let ask = |service: &'static str| {
        let channel = channel.clone();
        async move {
            let answer = call(&channel, "/grpc.health.v1.Health/Check", with("", text(1, service))).await.unwrap();
            answer.to_vec()
        }
    };
    let (serving, not_serving) = (vec![8, 1], vec![8, 2]);
    assert_eq!(ask("waypost.control.v1.JourneyService").await, serving);
    town.control.close();
    for service in ["", "waypost.control.v1.JourneyService"] {
        let told = async {
            while ask(service).await != not_serving {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_mins(1), told).await.is_ok(), "{service}");
    }
}

#[tokio::test]
async fn a_large_request_is_refused_unread() {
    let town = Town::new(Entity::Known).await;
    let channel = town.open(Gate::open()).await;
    let large = |bytes: usize| pb::File { path: "a.yaml".to_owned(), text: "#".repeat(bytes) };
    let apply = |bytes: usize| {
        let mut client = DefinitionServiceClient::new(channel.clone());
        let parent = "workspaces/default".to_owned();
        let request = pb::ApplyDefinitionsRequest { parent, manifests: vec![large(bytes)], ..Default::default() };
        async move { client.apply_definitions(request).await.unwrap_err().code() }
    };
    assert_eq!(apply(17 << 20).await, Code::OutOfRange);
    assert_ne!(apply(5 << 20).await, Code::OutOfRange, "a large shop's folder fits");
    let mut client = ProfileServiceClient::new(channel.clone());
    let request = pb::LookupProfileRequest { identifier: "x".repeat(5 << 20), ..lookup() };
    assert_eq!(client.lookup_profile(request).await.unwrap_err().code(), Code::OutOfRange, "what is no folder is smaller");
}

#[tokio::test]
async fn a_deep_manifest_is_refused_with_its_place() {
    let town = Town::new(Entity::Known).await;
    let mut client = DefinitionServiceClient::new(town.open(Gate::open()).await);
    // The second is more than the parser itself goes along with.
    for (depth, says) in [(33, "deeper than 32"), (10_000, "recursion limit")] {
        let text = format!("apiVersion: waypost.dev/v1\nspec: {}{}\n", "[".repeat(depth), "]".repeat(depth));
        let manifests = vec![pb::File { path: "deep.yaml".to_owned(), text }];
        let request = pb::ApplyDefinitionsRequest { parent: "workspaces/default".to_owned(), manifests, ..Default::default() };
        let refused = client.apply_definitions(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let violations = refused.get_details_bad_request().unwrap().field_violations;
        assert!(violations.iter().any(|v| v.field.starts_with("deep.yaml:2:") && v.description.contains(says)), "{violations:?}");
    }
}
