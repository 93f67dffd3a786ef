//! `waypostctl workspace`: a quota holds at apply, at publish and at the door, and outlives the processes; and two workspaces with
//! the same names and the same people in them know nothing of each other.

use std::{fs, path::Path};

use serde_json::{Value as Json, json};
use waypost_tests::process::free_port;

use crate::{
    access::token,
    http::Request,
    public::Event,
    shop::{Shop, said, vase},
    stack::{self, beside},
};

#[test]
fn a_quota_holds_where_definitions_and_events_come_and_after_a_restart() {
    let beside = beside("quotas", Vec::new());
    let shop = &beside.shop;
    let has = shop.tell_json(&["workspace", "describe"])["usage"].clone();
    assert_eq!(has["liveJourneys"], 3, "{has}");
    let definitions = has["definitions"].to_string();
    let set = shop.tell_json(&["workspace", "set-quota", "default", "--definitions", &definitions, "--events-per-second", "2"]);
    assert_eq!(set["quota"], json!({"liveJourneys": null, "segments": null, "definitions": has["definitions"], "eventsPerSecond": 2}));

    let folder = tempfile::tempdir().unwrap();
    let topic = |title: &str| {
        let text =
            format!("apiVersion: waypost.dev/v1\nkind: Topic\nmetadata: {{name: one-more}}\nspec: {{title: {title}, class: marketing}}\n");
        fs::write(folder.path().join("topic.yaml"), text).unwrap();
        shop.ask(&["apply", "-f", &folder.path().display().to_string()])
    };
    let refused = topic("Too many");
    assert!(!refused.status.success() && said(&refused).contains(&format!("of which it may have {definitions}")), "{}", said(&refused));
    assert!(!shop.ask(&["get", "topic", "one-more"]).status.success(), "nothing was changed");

    // what the door may take is spent by one batch, which is stored whole
    let batch = || {
        let events: Vec<_> = (0..600).map(|_| json!({"type": "track", "userId": "often", "event": "Signed In"})).collect();
        shop.request(&Request::post("/v1/batch", json!({"batch": events}).to_string()).key(&shop.backend))
    };
    let spend = |what: &str| {
        shop.until(what, || {
            let first = batch();
            assert!(matches!(first.status, 200 | 401 | 429), "{} {}", first.status, first.body);
            (batch().status == 429).then_some(())
        });
    };
    spend("a door that knows the quota");
    let refused = batch();
    assert!(refused.body.contains("the workspace may send 2 events a second"), "{}", refused.body);
    let wait: u32 =
        refused.head.to_lowercase().split("retry-after: ").nth(1).unwrap().split("\r\n").next().unwrap().trim().parse().unwrap();
    assert!((100..=300).contains(&wait), "{}", refused.head);

    for role in ["control", "ingest"] {
        assert!(shop.stop(role).success());
        shop.start(role);
    }
    shop.wait_for_control();
    assert_eq!(shop.tell_json(&["workspace", "describe"])["quota"], set["quota"], "after a restart");
    shop.wait_for_ingest();
    spend("a restarted door that knows the quota");
    shop.tell(&["workspace", "set-quota", "--definitions", "none", "--events-per-second", "none"]);
    shop.until("a door without a quota", || (batch().status == 200).then_some(()));
    assert!(topic("One more").status.success());
    let lines = shop.tell(&["audit", "list", "--act", "workspace.update"]);
    assert_eq!(lines.matches("workspace.update").count(), 2, "{lines}");
}

/// One of two workspaces in which everything is called the same.
struct Tenant<'a> {
    shop: &'a Shop,
    /// As commands have it.
    name: &'a str,
    number: u64,
    /// What its mails come from.
    from: &'a str,
    /// Write key of its source `shop-backend`.
    key: String,
}

impl Tenant<'_> {
    fn tell(&self, arguments: &[&str]) -> String {
        self.shop.tell(&[&["-w", self.name], arguments].concat())
    }

    fn say(&self, path: &str, call: &Json) {
        self.shop.say_with(&self.key, path, call.clone());
    }

    fn track(&self, event: &str, properties: &Json) {
        self.say("/v1/track", &json!({"userId": "both", "event": event, "properties": properties}));
    }

    /// Waits for a decision about the cart that both have.
    fn decision(&self, what: &str) -> Json {
        let wanted = |row: &Json| row["workspace"] == self.number && row["key"] == "k-both" && row["what"] == what;
        self.shop.decision(&format!("{what} in {}", self.name), wanted)
    }
}

/// The fixtures with another sender, and with the cart journey alone.
fn other_shop(folder: &Path) {
    let fixtures = stack::root().join("tests/fixtures/journeys");
    let cart = folder.join("cart-recovery");
    fs::create_dir_all(&cart).unwrap();
    for file in ["shop.yaml", "cart-recovery/journey.yaml", "cart-recovery/templates.yaml", "cart-recovery/cart.html"] {
        let text = fs::read_to_string(fixtures.join(file)).unwrap();
        fs::write(folder.join(file), text.replace("Shop <hello@news.shop.example>", "Other <hi@other.example>")).unwrap();
    }
}

#[test]
fn two_workspaces_with_the_same_names_and_people_know_nothing_of_each_other() {
    let beside = beside("tenants", Vec::new());
    let shop = &beside.shop;
    let folder = tempfile::tempdir().unwrap();
    let manifests = folder.path().join("manifests");
    other_shop(&manifests);

    // made once, and by nobody when only checked
    assert!(shop.tell(&["workspace", "create", "other", "--dry-run"]).contains("number 2 (server dry run)"));
    assert!(!shop.ask(&["-w", "other", "get"]).status.success());
    shop.tell(&["workspace", "create", "other"]);
    let twice = shop.ask(&["workspace", "create", "other"]);
    assert!(!twice.status.success() && said(&twice).contains("AlreadyExists"), "{}", said(&twice));
    assert_eq!(shop.tell(&["-w", "other", "get", "-o", "name"]), "", "nothing is in it");
    shop.tell(&["-w", "other", "apply", "-f", &manifests.display().to_string()]);
    let published = shop.tell_json(&["-w", "other", "publish", "cart-recovery"]);
    let draft = shop.tell_json(&["-w", "other", "get", "journey", "cart-recovery"]);
    assert_eq!((&published["name"], &published["etag"]), (&draft["name"], &draft["etag"]), "its own, and no other workspace's of the name");
    let key = shop.tell(&["-w", "other", "source", "rotate-key", "shop-backend"]);
    let one = Tenant { shop, name: "default", number: 1, from: "hello@news.shop.example", key: shop.backend.clone() };
    let two = Tenant { shop, name: "other", number: 2, from: "hi@other.example", key };
    assert_ne!(one.key, two.key);
    shop.until("the door to know the new key", || {
        let answer = shop.request(&Request::post("/v1/track", "no JSON").key(&two.key));
        (answer.status == 400).then_some(())
    });

    // one person, by one name and one address, with one cart, in both
    let address = "both@mail.example";
    for (tenant, first) in [(&one, "Ann"), (&two, "Bea")] {
        tenant.say("/v1/identify", &json!({"userId": "both", "traits": {"email": address, "firstName": first}}));
        tenant.track("Subscribed", &json!({"channel": "email", "topic": "cart-reminders"}));
    }
    // the first has bought before its reminder was due, the second never does
    for tenant in [&two, &one] {
        tenant.track("Product Added", &vase("k-both"));
    }
    let products = json!([{"product_id": "p1", "price": "89.00", "quantity": 1}]);
    one.track("Order Completed", &json!({"order_id": "o-both", "currency": "EUR", "total": "89.00", "products": products}));
    assert_eq!(one.decision("EXITED")["reason"], "GOAL");
    shop.mail(address, "again k-both");
    let mails = shop.sink.to(address);
    assert!(mails.len() == 2 && mails.iter().all(|mail| mail.from.contains(two.from)), "{mails:?}");
    assert!(mails.iter().all(|mail| !mail.from.contains(one.from) && !mail.body.contains("Ann")), "{mails:?}");
    let (first, second) = (one.decision("ENTERED"), two.decision("ENTERED"));
    assert!(first["profile"] != second["profile"] && first["run"] != second["run"], "{first} {second}");

    // a letter in each, of which its workspace is all that differs
    for tenant in [&one, &two] {
        let event = Event {
            message_id: "wrong",
            name: "",
            identifiers: &[("user_id", "both")],
            workspace: i64::try_from(tenant.number).unwrap(),
            ..Event::default()
        };
        shop.events().write([shop.registry.event(&event)]);
    }
    shop.until("both letters", || (shop.tell_json(&["deadletter", "list"])["total"] == 2).then_some(()));

    // who may in one
    let tokens = folder.path();
    let root = token(shop, tokens, "tenants-root", "admin", "*");
    let holders = [token(shop, tokens, "tenants-one", "admin", "default"), token(shop, tokens, "tenants-two", "admin", "other")];
    let port = free_port();
    let settings = [
        ("WAYPOST_CONTROL_LISTEN", format!("127.0.0.1:{port}")),
        ("WAYPOST_CONTROL_ACCESS_FILE", tokens.join("access.toml").display().to_string()),
    ];
    let process = shop.begin_with("tenants-control", &["serve", "--role", "control"], &settings);
    let server = format!("http://127.0.0.1:{port}");
    let ask = |token: &str, arguments: &[&str]| shop.ask(&[&["--server", &server, "--token-file", token], arguments].concat());
    shop.until("the control API that asks who calls", || ask(&root, &["whoami"]).status.success().then_some(()));
    let profiles = [&first["profile"], &second["profile"]].map(|profile| profile.as_str().unwrap());
    let runs = [&first["run"], &second["run"]].map(|run| run.as_str().unwrap());
    for (holder, [mine, theirs]) in holders.iter().zip([[0, 1], [1, 0]]) {
        let names = [one.name, two.name];
        let (own, foreign) = (names[mine], names[theirs]);
        let tell = |arguments: &[&str]| {
            let output = ask(holder, &[&["-o", "json", "-w", own], arguments].concat());
            assert!(output.status.success(), "{own} {arguments:?}: {}", said(&output));
            String::from_utf8(output.stdout).unwrap()
        };
        // what names no workspace shows its own alone
        let workspaces: Json = serde_json::from_str(&tell(&["workspace", "list"])).unwrap();
        assert_eq!(workspaces["workspaces"].as_array().unwrap().len(), 1, "{workspaces}");
        assert_eq!(workspaces["workspaces"][0]["name"], format!("workspaces/{own}"));
        let letters: Json = serde_json::from_str(&tell(&["deadletter", "list"])).unwrap();
        assert_eq!(letters["total"], 1, "{letters}");
        let letter = letters["letters"][0]["id"].as_str().unwrap().to_owned();
        let hidden = ask(&holders[theirs], &["deadletter", "show", &letter]);
        assert!(said(&hidden).contains("NotFound"), "{}", said(&hidden));
        let put_back = ask(&holders[theirs], &["deadletter", "redrive", &letter, "--dry-run"]);
        assert!(said(&put_back).contains("NotFound"), "{}", said(&put_back));
        for parent in [own, ""] {
            let arguments = ["-o", "json", "-w", parent, "audit", "list"];
            let output = ask(holder, if parent.is_empty() { &["-o", "json", "audit", "list"] } else { &arguments });
            let lines: Vec<Json> = serde_json::from_slice(&output.stdout).unwrap();
            assert!(!lines.is_empty() && lines.iter().all(|line| line["workspace"] == own), "{lines:#?}");
        }
        // the same names lead to its own
        let tail = tell(&["decisions", "tail", "--from-start"]);
        let rows: Vec<Json> = tail.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(rows.iter().any(|row| row["run"] == runs[mine]) && rows.iter().all(|row| row["profile"] == profiles[mine]), "{tail}");
        let tail = tell(&["messages", "tail", "--from-start"]);
        assert!(tail.lines().all(|line| line.contains(profiles[mine])), "{tail}");
        assert_eq!(tail.is_empty(), own == one.name, "{tail}");
        let shown = tell(&["profile", "show", "user_id:both"]);
        assert!(shown.contains(profiles[mine]) && !shown.contains(profiles[theirs]), "{shown}");
        assert_eq!((shown.contains("Ann"), shown.contains("Bea")), (own == one.name, own == two.name), "{shown}");
        assert!(tell(&["run", "list", "user_id:both"]).contains(runs[mine]));
        // and what is the other's is found here by no name of its own
        for arguments in [
            &["profile", "show", profiles[theirs]][..],
            &["profile", "export", profiles[theirs]],
            &["run", "list", profiles[theirs]],
            &["run", "describe", "user_id:both", runs[theirs]],
            &["run", "cancel", "user_id:both", runs[theirs]],
        ] {
            let answer = ask(holder, &[&["-w", own], arguments].concat());
            let words = said(&answer);
            assert!(!answer.status.success() && !words.contains("both@"), "{arguments:?}: {words}");
        }
        // there it may nothing
        for arguments in [
            &["get"][..],
            &["apply", "-f", &manifests.display().to_string()],
            &["publish", "cart-recovery"],
            &["history"],
            &["stats", "cart-recovery"],
            &["profile", "show", "user_id:both"],
            &["profile", "export", "user_id:both"],
            &["profile", "erase", "user_id:both", "--yes"],
            &["run", "list", "user_id:both"],
            &["run", "cancel", "user_id:both", "--journey", "cart-recovery"],
            &["decisions", "tail"],
            &["messages", "tail"],
            &["events", "tail"],
            &["audit", "list"],
            &["source", "rotate-key", "shop-backend", "--yes"],
            &["workspace", "describe"],
            &["workspace", "create", "third"],
            &["workspace", "set-quota", own, "--segments", "1"],
        ] {
            let refused = ask(holder, &[&["-w", foreign], arguments].concat());
            assert!(!refused.status.success() && said(&refused).contains("PermissionDenied"), "{own} {arguments:?}: {}", said(&refused));
        }
    }
    assert!(ask(&root, &["workspace", "create", "third"]).status.success());
    process.kill();

    // a key that is made anew, and a person who is forgotten, are so in one
    let new = two.tell(&["source", "rotate-key", "shop-backend", "--yes"]);
    let refused = |key: &str| shop.request(&Request::post("/v1/track", "no JSON").key(key)).status == 401;
    shop.until("the door to know the newer key", || (!refused(&new) && refused(&two.key)).then_some(()));
    assert!(!refused(&one.key));
    two.tell(&["profile", "erase", "user_id:both", "--yes"]);
    shop.until("the end of the person", || (!shop.ask(&["-w", "other", "profile", "show", "user_id:both"]).status.success()).then_some(()));
    assert!(one.tell(&["profile", "show", "user_id:both"]).contains("Ann"));
}
