//! Every method of every service, without a credential, with each role, and with one of another workspace.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};
use tonic::{Code, Request};
use waypost_control::access::{Observe, Permission, Role};

use super::town::{Entity, Town, call, text, with};

/// Methods whose requests name no workspace: their answers hold only what is of the caller's own.
const OWN: &[&str] = &[
    "/waypost.control.v1.AccessService/WhoAmI",
    "/waypost.control.v1.DeadLetterService/BulkRedriveDeadLetters",
    "/waypost.control.v1.DeadLetterService/DiscardDeadLetters",
    "/waypost.control.v1.DeadLetterService/GetDeadLetter",
    "/waypost.control.v1.DeadLetterService/ListDeadLetters",
    "/waypost.control.v1.DeadLetterService/RedriveDeadLetters",
    "/waypost.control.v1.OperationService/CancelOperation",
    "/waypost.control.v1.OperationService/GetOperation",
    "/waypost.control.v1.OperationService/ListOperations",
    "/waypost.control.v1.OperationService/WaitOperation",
    // of nobody in particular
    "/waypost.control.v1.PartitionService/ListPartitions",
    "/waypost.control.v1.WorkspaceService/ListWorkspaces",
];

/// Methods that take only who holds the permission in all workspaces, with a role that does and what it is answered.
const INSTALLATION: &[(&str, Role, Code)] = &[
    ("/waypost.control.v1.PartitionService/ApproveSkip", Role::Operator, Code::InvalidArgument),
    ("/waypost.control.v1.PartitionService/ListSkips", Role::Operator, Code::Ok),
    ("/waypost.control.v1.PartitionService/ProposeSkip", Role::Operator, Code::InvalidArgument),
    ("/waypost.control.v1.PartitionService/RetryPartition", Role::Operator, Code::InvalidArgument),
    ("/waypost.control.v1.WorkspaceService/CreateWorkspace", Role::Admin, Code::InvalidArgument),
    ("/waypost.control.v1.WorkspaceService/UpdateWorkspace", Role::Admin, Code::Ok),
];

fn of_the_installation(path: &str) -> Option<&'static (&'static str, Role, Code)> {
    INSTALLATION.iter().find(|(method, _, _)| *method == path)
}

struct Method {
    path: String,
    /// Number of the field that names a workspace, and what is in it.
    named: Option<(i32, &'static str)>,
    /// Whether the field is a resource, whose first field is its name.
    within: bool,
}

fn methods() -> Vec<Method> {
    let set = FileDescriptorSet::decode(waypost_proto::DESCRIPTORS).unwrap();
    let files: Vec<_> = set.file.iter().filter(|file| file.package() == "waypost.control.v1").collect();
    let message = |name: &str| -> &DescriptorProto {
        let short = name.rsplit('.').next().unwrap();
        files.iter().flat_map(|file| &file.message_type).find(|message| message.name() == short).unwrap()
    };
    let services = files.iter().flat_map(|file| &file.service);
    let all = services.flat_map(|service| service.method.iter().map(move |method| (service.name(), method)));
    all.map(|(service, method)| {
        assert!(!method.client_streaming(), "this test sends one message: teach it {}", method.name());
        let fields = &message(method.input_type()).field;
        let number = |name: &str| fields.iter().find(|field| field.name() == name).map(prost_types::FieldDescriptorProto::number);
        let named = number("parent").map(|n| (n, "")).or_else(|| number("name").map(|n| (n, "/definitions/Journey/none")));
        let resource = number("workspace").map(|n| (n, ""));
        let within = named.is_none() && resource.is_some();
        let named = named.or(resource);
        let path = format!("/waypost.control.v1.{service}/{}", method.name());
        // Operations and partitions have names too, and are in no workspace; one that is made is none yet.
        let is_new = path.ends_with("/CreateWorkspace");
        let is_nobody_s = is_new || OWN.contains(&path.as_str()) || path.starts_with("/waypost.control.v1.PartitionService/");
        Method { within, path, named: named.filter(|_| !is_nobody_s) }
    })
    .collect()
}

impl Method {
    /// A request about something in a workspace.
    fn about(&self, workspace: &str) -> Bytes {
        let Some((field, rest)) = self.named else { return Bytes::new() };
        let name = format!("workspaces/{workspace}{rest}");
        if self.within {
            return text(field, std::str::from_utf8(&text(1, &name)).unwrap());
        }
        text(field, &name)
    }
}

/// The permission a method needs, as `docs/access.md` has it: the table itself is not asked about itself.
fn needed(path: &str) -> Option<Permission> {
    let short = path.trim_start_matches("/waypost.control.v1.").replacen('/', ".", 1);
    let page = include_str!("../../../../docs/access.md");
    let row = page.lines().find(|line| line.starts_with("| ") && line.contains(&format!("`{short}`")))?;
    let word = row.trim_start_matches("| ").split(" |").next().unwrap();
    Permission::ALL.into_iter().find(|permission| permission.as_str() == word)
}

#[tokio::test]
async fn each_method_takes_who_holds_its_permission_and_nobody_else() {
    let town = Town::new(Entity::Known).await;
    let roles: Vec<(String, String)> = Role::ALL.iter().map(|role| (format!("a {role}"), format!("\"{role}\""))).collect();
    let tokens: Vec<_> = roles.iter().map(|(name, role)| (name.as_str(), role.as_str(), "\"default\"")).collect();
    let channel = town.open(town.gate(&tokens)).await;
    let methods = methods();
    assert!(methods.len() >= 17, "the descriptors are there");
    for method in &methods {
        for token in ["", "nobody's"] {
            let refused = call(&channel, &method.path, with(token, method.about("default"))).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated, "{} with `{token}`", method.path);
        }
        for role in Role::ALL {
            let answer = call(&channel, &method.path, with(&format!("a {role}"), method.about("default"))).await;
            let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
            let here = of_the_installation(&method.path).is_none();
            if here && needed(&method.path).is_none_or(|permission| role.holds(permission)) {
                assert!(
                    !matches!(code, Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented),
                    "{role} {}: {code:?}",
                    method.path
                );
            } else {
                assert_eq!(code, Code::PermissionDenied, "{role} {}", method.path);
            }
        }
    }
    let free: Vec<_> = methods.iter().filter(|method| needed(&method.path).is_none()).map(|method| method.path.as_str()).collect();
    assert_eq!(free, ["/waypost.control.v1.AccessService/WhoAmI"], "all others need a permission");
}

#[tokio::test]
async fn what_is_the_installation_s_takes_who_may_in_all_of_it_and_no_workspace_s_own() {
    let town = Town::new(Entity::Known).await;
    let (everywhere, here) = ("\"*\"", "\"default\"");
    let tokens = [
        ("root", "\"admin\"", everywhere),
        ("ops", "\"operator\"", everywhere),
        ("boss", "\"admin\"", here),
        ("its ops", "\"operator\"", here),
        ("privacy", "\"privacy\"", everywhere),
    ];
    let channel = town.open(town.gate(&tokens)).await;
    for method in methods() {
        let Some((_, least, told)) = of_the_installation(&method.path) else { continue };
        let denied = Code::PermissionDenied;
        let ops = if *least == Role::Operator { *told } else { denied };
        for (token, code) in [("root", *told), ("ops", ops), ("boss", denied), ("its ops", denied), ("privacy", denied)] {
            let answer = call(&channel, &method.path, with(token, method.about("default"))).await;
            assert_eq!(answer.map_or_else(|status| status.code(), |_| Code::Ok), code, "{token} {}", method.path);
        }
    }
}

#[tokio::test]
async fn another_workspace_is_refused_and_nobody_hears_whether_it_exists() {
    let town = Town::new(Entity::Known).await;
    town.set_aside("1");
    let channel = town.open(town.gate(&[("admin of elsewhere", "\"admin\"", "\"elsewhere\"")])).await;
    for method in methods() {
        let ask = |workspace: &str| call(&channel, &method.path, with("admin of elsewhere", method.about(workspace)));
        if method.named.is_none() {
            let is_known = OWN.contains(&method.path.as_str()) || of_the_installation(&method.path).is_some();
            assert!(is_known, "{}: which workspace is this about?", method.path);
            continue;
        }
        let there = ask("default").await.unwrap_err();
        assert_eq!(there.code(), Code::PermissionDenied, "{}", method.path);
        let nowhere = ask("nowhere").await.unwrap_err();
        assert_eq!(
            (there.code(), there.message(), there.details()),
            (nowhere.code(), nowhere.message(), nowhere.details()),
            "{}",
            method.path
        );
    }
    // What names no workspace answers with nothing of others'.
    let dead = |method: &str| format!("/waypost.control.v1.DeadLetterService/{method}");
    let list = call(&channel, &dead("ListDeadLetters"), with("admin of elsewhere", Bytes::new())).await.unwrap();
    assert!(list.is_empty(), "no letter is theirs: {list:?}");
    let foreign = call(&channel, &dead("GetDeadLetter"), with("admin of elsewhere", text(1, "2-0"))).await.unwrap_err();
    let absent = call(&channel, &dead("GetDeadLetter"), with("admin of elsewhere", text(1, "2-1"))).await.unwrap_err();
    assert_eq!((foreign.code(), foreign.message().replace("2-0", "")), (absent.code(), absent.message().replace("2-1", "")));
    assert_eq!(foreign.code(), Code::NotFound);
}

#[tokio::test]
async fn what_is_in_no_table_is_refused_and_health_is_everybody_s() {
    let town = Town::new(Entity::Known).await;
    let channel = town.open(town.gate(&[("root", "\"admin\"", "\"*\"")])).await;
    for path in ["/waypost.control.v1.JourneyService/Nothing", "/waypost.owner.v1.OwnerService/ReadEntity", "/x"] {
        let refused = call(&channel, path, with("root", Bytes::new())).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{path}");
        let refused = call(&channel, path, with("", Bytes::new())).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{path}");
    }
    assert!(call(&channel, "/grpc.health.v1.Health/Check", Request::new(Bytes::new())).await.is_ok());
}

#[tokio::test]
async fn every_call_is_told_what_is_refused_too_and_nothing_that_callers_make_up() {
    let town = Town::new(Entity::Known).await;
    let told: Arc<Mutex<Vec<(&'static str, Code)>>> = Arc::default();
    let heard = Arc::clone(&told);
    let observe: Observe = Arc::new(move |method, code, _| heard.lock().unwrap().push((method, code)));
    let channel = town.open(town.gate(&[("viewer", "\"viewer\"", "\"default\"")]).with_observer(observe)).await;
    let (list, rotate) = ("/waypost.control.v1.DefinitionService/ListDefinitions", "/waypost.control.v1.SourceService/RotateKey");
    for (path, workspace) in [(list, "default"), (list, "elsewhere"), (rotate, "default"), ("/made.up/Method", "default")] {
        drop(call(&channel, path, with("viewer", text(1, &format!("workspaces/{workspace}")))).await);
    }
    let denied = Code::PermissionDenied;
    assert_eq!(*told.lock().unwrap(), [(list, Code::Ok), (list, denied), (rotate, denied), ("unknown", denied)]);
}

#[tokio::test]
async fn the_api_describes_itself_only_where_it_is_to() {
    let town = Town::new(Entity::Known).await;
    let describe = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let list = || Request::new(text(7, "*"));
    let channel = town.open(town.gate(&[])).await;
    assert!(call(&channel, describe, list()).await.is_ok(), "asked from this machine");
    let channel = town.open(town.gate(&[]).with_reflection(false)).await;
    assert_eq!(call(&channel, describe, list()).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn an_open_gate_takes_everybody_at_their_word() {
    let town = Town::new(Entity::Known).await;
    let channel = town.open(waypost_control::access::Gate::open()).await;
    for method in methods() {
        let code = call(&channel, &method.path, with("", method.about("default"))).await.map_or_else(|status| status.code(), |_| Code::Ok);
        assert!(!matches!(code, Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented), "{}: {code:?}", method.path);
    }
}

#[tokio::test]
async fn a_changed_access_file_counts_at_once_and_a_broken_one_does_not() {
    let town = Town::new(Entity::Known).await;
    let channel = town.open(town.gate(&[("old", "\"viewer\"", "\"*\"")])).await;
    let who = |token: &'static str| {
        let channel = channel.clone();
        async move { call(&channel, "/waypost.control.v1.AccessService/WhoAmI", with(token, Bytes::new())).await.is_ok() }
    };
    assert!(who("old").await);
    town.file("access.toml", "[[token]]\nname = \"broken\"\n");
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert!(who("old").await, "a file that cannot be used changes nothing");
    town.access(&[("new", "\"viewer\"", "\"*\"")], "");
    for _ in 0..100 {
        if who("new").await {
            assert!(!who("old").await, "it is not in the file any more");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the new file was not read");
}
