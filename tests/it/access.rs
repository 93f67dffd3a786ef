//! A control API that asks who calls, in the shipped binaries: tokens, TLS, refusals, contexts, and the log of it.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::Value as Json;
use waypost_tests::process::free_port;

use crate::{
    shop::{Shop, said},
    stack::{self, visit},
};

/// `waypostctl` of somebody with an own contexts file.
struct Somebody<'a> {
    folder: &'a Path,
}

impl Somebody<'_> {
    fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(stack::variable("WAYPOSTCTL_BIN"));
        command.args(arguments).env("WAYPOST_CONTEXTS", self.folder.join("contexts.toml")).output().unwrap()
    }

    fn tell(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    }
}

/// A token made by the binary; its entry goes to the access file.
pub(crate) fn token(shop: &Shop, folder: &Path, name: &str, role: &str, workspace: &str) -> String {
    let out = folder.join(name);
    let out = out.to_str().unwrap();
    let made = shop.run(&["token", "--name", name, "--role", role, "--workspace", workspace, "--out", out]);
    assert!(made.status.success(), "{}", said(&made));
    let file = folder.join("access.toml");
    let before = fs::read_to_string(&file).unwrap_or_default();
    fs::write(&file, format!("{before}{}\n", String::from_utf8(made.stdout).unwrap())).unwrap();
    out.to_owned()
}

#[test]
fn an_api_that_asks_who_calls_takes_whoever_may_and_writes_down_who_it_was() {
    let visit = visit();
    let shop = &visit.shop;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let root = token(shop, folder, "access-root", "admin", "*");
    let viewer = token(shop, folder, "access-viewer", "viewer", "default");
    let stranger = token(shop, folder, "access-stranger", "admin", "elsewhere");
    let mut certificate = CertificateParams::new(Vec::new()).unwrap();
    certificate.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
    let key = KeyPair::generate().unwrap();
    fs::write(folder.join("tls.crt"), certificate.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();

    let port = free_port();
    let file = |name: &str| folder.join(name).display().to_string();
    let settings = [
        ("WAYPOST_CONTROL_LISTEN", format!("127.0.0.1:{port}")),
        ("WAYPOST_CONTROL_ACCESS_FILE", file("access.toml")),
        ("WAYPOST_CONTROL_TLS_CERT_FILE", file("tls.crt")),
        ("WAYPOST_CONTROL_TLS_KEY_FILE", file("tls.key")),
    ];
    let process = shop.begin_with("access-control", &["serve", "--role", "control"], &settings);
    let me = Somebody { folder };
    let server = format!("https://127.0.0.1:{port}");
    let set = |name: &str, token: &str| {
        me.tell(&["--server", &server, "--ca-file", &file("tls.crt"), "--token-file", token, "context", "set", name]);
    };
    set("root", &root);
    set("viewer", &viewer);
    set("stranger", &stranger);
    me.tell(&["context", "use", "root"]);
    shop.until("the control API behind TLS", || me.ask(&["whoami"]).status.success().then_some(()));

    let who: Json = serde_json::from_str(&me.tell(&["whoami", "-o", "json"])).unwrap();
    assert_eq!(
        (who["name"].as_str(), who["how"].as_str(), &who["grants"][0]["workspaces"][0]),
        (Some("access-root"), Some("token"), &Json::from("*"))
    );
    assert!(me.tell(&["get", "-o", "name"]).contains("definitions/"));
    assert!(me.tell(&["--context", "viewer", "get", "-o", "name"]).contains("definitions/"));
    let refused = me.refused(&["--context", "viewer", "source", "rotate-key", "web", "--yes"]);
    assert!(refused.contains("PermissionDenied") && refused.contains("keys"), "{refused}");
    assert!(me.refused(&["--context", "stranger", "get"]).contains("PermissionDenied"));
    assert!(me.refused(&["--server", &server, "--context", "root", "--token-file", &file("tls.key"), "whoami"]).contains("token"));
    assert!(me.refused(&["--context", "nobody", "whoami"]).contains("no context"));
    let unknown = Command::new(stack::variable("WAYPOSTCTL_BIN"))
        .args(["--server", &server, "--ca-file", &file("tls.crt"), "whoami"])
        .env("WAYPOST_CONTEXTS", file("none.toml"))
        .output()
        .unwrap();
    assert!(said(&unknown).contains("Unauthenticated"), "{}", said(&unknown));

    // What is done stands in the log under the token's name, whatever --as says; what was refused does not.
    let topic =
        format!("apiVersion: waypost.dev/v1\nkind: Topic\nmetadata: {{name: access-{port}}}\nspec: {{title: News, class: marketing}}\n");
    fs::write(folder.join("topic.yaml"), topic).unwrap();
    me.tell(&["--as", "mallory", "apply", "-f", &file("topic.yaml")]);
    let lines: Vec<Json> = serde_json::from_str(&me.tell(&["audit", "list", "--by", "access-root", "-o", "json"])).unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((lines[0]["act"].as_str(), lines[0]["how"].as_str()), (Some("definitions.apply"), Some("token")));
    assert_ne!(lines[0]["before"], lines[0]["after"]);
    assert!(shop.audit().iter().all(|line| line["by"] != "access-viewer" && line["by"] != "access-stranger" && line["by"] != "mallory"));
    let log = shop.log("access-control");
    assert!(log.contains("refused") && log.contains("RotateKey") && log.contains("viewer"), "{log}");
    for secret in [&root, &viewer, &stranger] {
        assert!(!log.contains(fs::read_to_string(secret).unwrap().trim()), "no token is in the log");
    }
    process.kill();
}
