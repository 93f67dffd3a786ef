//! Definitions with errors: exit code 1, the place in the file, the reason; and nothing is changed.

use std::fs;

use crate::stack::visit;

const JOURNEY: &str = "\
apiVersion: waypost.dev/v1
kind: Journey
metadata: {name: wrong}
spec:
  title: Wrong
  describe: A journey with one mistake.
  owner: lifecycle@shop.example
  topic: greetings
  entries:
    - {id: joined, on_event: {name: Signed Up}}
  steps:
    - {id: settle, delay: {for: 1h}}
    - {id: greet, send: {channel: email, template: greet, valid_for: 10m}}
";

#[test]
fn each_mistake_is_named_with_its_place() {
    let visit = visit();
    let shop = &visit.shop;
    let before = shop.tell(&["-o", "name", "get"]);
    // what to change in the journey above, the place of the mistake, and words of the refusal
    let table: &[(&str, &str, &str, &[&str])] = &[
        ("template: greet", "template: great", "13:", &["UNKNOWN_REFERENCE", "greet"]),
        ("delay: {for: 1h}", "delay: {for: soon}", "12:", &["VALUE_INVALID"]),
        ("delay: {for: 1h}", "dellay: {for: 1h}", "12:", &["UNKNOWN_FIELD", "delay"]),
        ("delay: {for: 1h}", "split: {arms: []}", "12:", &["NOT_YET_SUPPORTED", "split"]),
        ("  topic: greetings\n", "  topic: greetings\n  hold_out: 5\n", "9:", &["NOT_YET_SUPPORTED", "hold_out"]),
        ("  topic: greetings\n", "", "", &["NO_TOPIC"]),
        ("  owner: lifecycle@shop.example\n", "", "", &["NO_OWNER"]),
        ("on_event: {name: Signed Up}", "on_event: {name: Signed Up}, where: 'profile.first_nam == \"Ann\"'", "10:", &["first_name"]),
        ("on_event: {name: Signed Up}", "on_event: {name: Signed Up}, where: 'profile.first_name == 5'", "10:", &["TYPE_MISMATCH"]),
        ("kind: Journey", "kind: FrequencyCap", "2:", &["NOT_YET_SUPPORTED"]),
        ("kind: Journey", "kind: Jorney", "2:", &["UNKNOWN_REFERENCE", "Journey"]),
        ("    - {id: settle", "   - {id: settle", "13:", &["BAD_YAML"]),
    ];
    for (from, to, place, words) in table {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journey.yaml");
        let text = JOURNEY.replacen(from, to, 1);
        assert_ne!(text, JOURNEY, "{from}");
        fs::write(&file, text).unwrap();
        let output = shop.ask(&["apply", "-f", &folder.path().display().to_string()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{to}: {said}");
        let line = said.lines().find(|line| words.iter().all(|word| line.contains(word)));
        let line = line.unwrap_or_else(|| panic!("{to}: no line with {words:?} in: {said}"));
        let rest = line.strip_prefix(&format!("{}:", file.display())).unwrap_or_else(|| panic!("{to}: no place in {said}"));
        assert!(rest.starts_with(place), "{to}: expected line {place} {said}");
        let numbers: Vec<u32> = rest.split([':', ' ']).take(2).map(|n| n.parse().unwrap_or_default()).collect();
        assert!(numbers.iter().all(|n| *n > 0), "{to}: line and column: {said}");
    }
    assert_eq!(shop.tell(&["-o", "name", "get"]), before);
}

#[test]
fn one_mistake_keeps_the_whole_folder_out() {
    let visit = visit();
    let shop = &visit.shop;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), JOURNEY.replace("name: wrong", "name: right")).unwrap();
    fs::write(folder.path().join("b.yaml"), JOURNEY.replace("template: greet", "template: great")).unwrap();
    let output = shop.ask(&["apply", "-f", &folder.path().display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!shop.tell(&["-o", "name", "get", "journey"]).contains("right"));
    assert_eq!(shop.ask(&["publish", "right"]).status.code(), Some(1));
    assert_eq!(shop.ask(&["diff", "-f", &folder.path().display().to_string()]).status.code(), Some(2));
    let fixtures = crate::stack::root().join("tests/fixtures/journeys").display().to_string();
    assert_eq!(shop.ask(&["diff", "-f", &fixtures]).status.code(), Some(0));
}
