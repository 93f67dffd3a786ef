//! `waypostctl` at somebody's desk: a definition described and edited, decisions and messages watched.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use serde_json::{Value as Json, json};

use crate::{
    public::Event,
    shop::{Shop, said},
    stack::{self, visit},
};

/// Somebody's folder, editor and topic.
struct Desk<'a> {
    shop: &'a Shop,
    folder: tempfile::TempDir,
}

// === impl Desk ===

impl Desk<'_> {
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Edits the topic by a script, of which `$1` is the file.
    fn edit(&self, script: &str) -> Output {
        let editor = self.file("editor.sh", &format!("set -e\n{script}\n"));
        let ctl = stack::variable("WAYPOSTCTL_BIN");
        let folder = self.folder.path().display().to_string();
        let editor = format!("sh '{}'", editor.display());
        self.shop.ask_with(&["edit", "topic/desk"], &[("VISUAL", &editor), ("TMPDIR", &folder), ("CTL", &ctl), ("FOLDER", &folder)])
    }

    /// Files that edits have left behind.
    fn left(&self) -> usize {
        let is_left = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("waypost-"));
        fs::read_dir(self.folder.path()).unwrap().filter(|entry| is_left(&entry.as_ref().unwrap().path())).count()
    }

    fn title(&self) -> String {
        self.shop.tell_json(&["get", "topic", "desk"])["manifest"]["spec"]["title"].as_str().unwrap().to_owned()
    }
}

/// What was kept, after a refusal; gone afterwards.
fn kept(refused: &Output, why: &str) -> String {
    let told = said(refused);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains(why), "no `{why}` in: {told}");
    let path = told.split_once("your text is kept in ").and_then(|(_, rest)| rest.split_once(": ")).expect(&told).0;
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(path).unwrap();
    fs::remove_file(path).unwrap();
    text
}

fn topic(title: &str) -> String {
    format!(
        "apiVersion: waypost.dev/v1\nkind: Topic\nmetadata: {{name: desk}}\n\
         spec: {{title: {title}, class: marketing, defaults: {{email: opt_in}}, inherit: true}}\n"
    )
}

#[test]
fn a_definition_is_edited_and_what_is_refused_is_kept() {
    let visit = visit();
    let shop = &visit.shop;
    let desk = Desk { shop, folder: tempfile::tempdir().unwrap() };
    shop.tell(&["apply", "-f", &desk.file("desk.yaml", &topic("First")).display().to_string()]);

    let same = desk.edit("true");
    assert!(same.status.success() && said(&same).contains("topic/desk unchanged"), "{}", said(&same));

    let changed = desk.edit("grep -q '^  title: First' \"$1\" && sed -i 's/First/Second/' \"$1\"");
    let told = said(&changed);
    assert!(changed.status.success(), "{told}");
    for wanted in ["-  title: First", "+  title: Second", "topic/desk changed (version 2, active)"] {
        assert!(told.contains(wanted), "no `{wanted}` in: {told}");
    }
    assert_eq!((desk.title().as_str(), desk.left()), ("Second", 0));

    let wrong = desk.edit("sed -i 's/marketing/gossip/' \"$1\"");
    assert!(kept(&wrong, "1 problem; nothing was changed").contains("class: gossip"));
    let other = desk.edit("sed -i 's/name: desk/name: shelf/' \"$1\"");
    kept(&other, "edit keeps kind and name");

    // somebody else is faster
    desk.file("theirs.yaml", &topic("Theirs"));
    let late = desk.edit("\"$CTL\" apply -f \"$FOLDER/theirs.yaml\" > \"$FOLDER/said\"\nsed -i 's/Second/Mine/' \"$1\"");
    assert!(kept(&late, "somebody else has changed it").contains("title: Mine"));
    assert_eq!(desk.title(), "Theirs");

    let failed = desk.edit("exit 3");
    assert!(failed.status.code() == Some(1) && said(&failed).contains("nothing was changed"), "{}", said(&failed));
}

#[test]
fn a_journey_is_described_and_every_form_says_the_same() {
    let visit = visit();
    let shop = &visit.shop;
    let text = shop.tell(&["describe", "journey/greetings"]);
    for wanted in ["In force:  version 1", "- joined", "Signed Up", "1. greet", "template greet", "greet  version"] {
        assert!(text.contains(wanted), "no `{wanted}` in:\n{text}");
    }
    let json = shop.tell_json(&["describe", "journey/greetings"]);
    assert_eq!(json["templates"][0]["state"], "active", "{json}");
    assert_eq!(shop.tell(&["-o", "name", "describe", "journey/greetings"]), "workspaces/default/definitions/Journey/greetings");
    let yaml = shop.tell(&["-o", "yaml", "get", "journey", "greetings"]);
    assert!(yaml.contains("state: active\n") && yaml.contains("    title: Greetings\n"), "{yaml}");

    let absent = shop.ask(&["describe", "journey/none"]);
    assert!(absent.status.code() == Some(1) && said(&absent).contains("`waypostctl get` lists what there is"), "{}", said(&absent));
    assert_eq!(shop.ask(&["describe"]).status.code(), Some(2));
    let top = shop.tell_json(&["top", "--once", "--every", "1"]);
    assert_eq!(top["roles"].as_array().unwrap().len(), 4, "{top}");
}

/// Rows of a tail, from its lines.
fn rows(text: &str) -> Vec<Json> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn decisions_and_messages_are_watched_without_kafka() {
    let visit = visit();
    let shop = &visit.shop;
    let tail = |what: &str, flags: &[&str]| shop.tell(&[&["-o", "json", what, "tail", "--profile", "user_id:watched"], flags].concat());
    shop.person("watched");
    let who = json!({"userId": "watched"});
    shop.touch(&who, "k-watched-1");
    shop.track(&who, "Signed Up", json!({}));
    // Nobody's decisions can be watched before somebody is known by that name.
    shop.until("the profile", || shop.ask(&["profile", "show", "user_id:watched"]).status.success().then_some(()));
    let found = shop.until("the entry in the tail", || {
        let rows = rows(&tail("decisions", &["--since", "1h"]));
        rows.iter().any(|row| row["key"] == "k-watched-1" && row["what"] == "ENTERED").then_some(rows)
    });
    let profile = shop.tell(&["-o", "name", "profile", "show", "user_id:watched"]);
    assert!(found.iter().all(|row| row["profile"] == profile.as_str()), "{found:#?}");
    // Without the end, which stands behind as many digits as there are.
    let times: Vec<_> = found.iter().map(|row| row["at"].as_str().unwrap().trim_end_matches('Z')).collect();
    assert!(times.is_sorted(), "{times:?}");
    let carts = rows(&tail("decisions", &["--from-start", "--journey", "cart-recovery"]));
    assert!(!carts.is_empty() && carts.iter().all(|row| row["journey"] == "cart-recovery"), "{carts:#?}");
    assert_eq!(tail("decisions", &["--since", "1h", "--limit", "1"]).lines().count(), 1);
    let accepted = shop.until("the greeting in the tail", || {
        rows(&tail("messages", &["--since", "1h"])).into_iter().find(|row| row["name"] == "Message Accepted")
    });
    assert_eq!(accepted["journey"], "greetings");

    // one that follows ends behind its first row, and hears nothing of before
    let mut following = shop.ask_on(&["-o", "json", "decisions", "tail", "--follow", "--limit", "1", "--profile", &profile]);
    let mut number = 1;
    let ended = shop.until("the end of the tail", || {
        number += 1;
        shop.touch(&who, &format!("k-watched-{number}"));
        following.try_wait().unwrap()
    });
    let heard = following.wait_with_output().unwrap();
    assert!(ended.success(), "{}", said(&heard));
    let row = &rows(std::str::from_utf8(&heard.stdout).unwrap())[0];
    assert!(row["key"] != "k-watched-1" && row["journey"] == "cart-recovery", "{row}");
}

#[test]
fn events_of_the_topic_are_watched_without_their_values_unless_asked_for() {
    let visit = visit();
    let shop = &visit.shop;
    let event = Event {
        message_id: "seen-1",
        name: "Product Added",
        identifiers: &[("user_id", "overseen")],
        properties: json!({"cart_id": "k-overseen"}),
        ..Event::default()
    };
    shop.events().write([shop.registry.event(&event)]);
    let tail = |flags: &[&str]| rows(&shop.tell(&[&["-o", "json", "events", "tail", "--from-start"], flags].concat()));
    let found = shop.until("the event in the tail", || {
        let rows = tail(&["--identifier", "user_id:overseen"]);
        (!rows.is_empty()).then_some(rows)
    });
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0]["name"].as_str(), found[0]["source"].as_str()), (Some("Product Added"), Some("kafka")));
    assert_eq!((&found[0]["properties"], &found[0]["identifiers"][0]["class"]), (&json!({"cart_id": "text of 10"}), &json!("user_id")));
    assert!(!found[0].to_string().contains("overseen"), "{}", found[0]);
    let whole = tail(&["--identifier", "user_id:overseen", "--values"]);
    assert_eq!((&whole[0]["properties"]["cart_id"], &whole[0]["messageId"]), (&json!("k-overseen"), &json!("seen-1")));
    assert!(tail(&["--identifier", "user_id:overseen", "--event", "Page Viewed"]).is_empty());
}

#[test]
fn the_top_of_a_terminal_goes_at_a_key_and_leaves_it_as_it_was() {
    let visit = visit();
    let shop = &visit.shop;
    let mut ours: File = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap().into();
    grantpt(&ours).and_then(|()| unlockpt(&ours)).unwrap();
    let theirs = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = || File::options().read(true).write(true).open(&theirs).unwrap();
    let mut top = shop.on_terminal(&["top", "--every", "1"], &theirs);
    let mut seen = String::new();
    let mut bytes = [0; 4096];
    let mut look = |ours: &mut File, until: &str| {
        while !seen.contains(until) {
            let count = ours.read(&mut bytes).unwrap();
            seen += &String::from_utf8_lossy(&bytes[..count]);
            assert!(seen.len() < 100_000, "no `{until}` in: {seen}");
        }
    };
    look(&mut ours, "FRAMES/S");
    ours.write_all(b"q").unwrap();
    assert!(shop.until("the end of top", || top.try_wait().unwrap()).success());
    look(&mut ours, "\u{1b}[?1049l");
    assert!(seen.starts_with("\u{1b}[?1049h") && seen.contains("q ends it"), "{seen:?}");
}
