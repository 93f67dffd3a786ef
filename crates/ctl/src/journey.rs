//! A journey's manifest as an outline: who enters, what ends it, step by step.

use serde_json::{Map, Value};

use crate::output;

/// Templates that a journey's steps name, in their order, each once.
pub(crate) fn templates(manifest: &Value) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for step in list(&manifest["spec"]["steps"]) {
        if let Some(name) = step["send"]["template"].as_str()
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
    }
    names
}

/// Its lines.
pub(crate) fn outline(manifest: &Value) -> Vec<String> {
    let spec = &manifest["spec"];
    let mut lines = Vec::new();
    for (title, field) in [("Title", "title"), ("About", "describe"), ("Owner", "owner"), ("Topic", "topic")] {
        if let Some(text) = spec[field].as_str() {
            lines.push(format!("{:<10} {text}", format!("{title}:")));
        }
    }
    section(&mut lines, "Entries:", list(&spec["entries"]).iter().flat_map(|entry| item("-", entry)).collect());
    section(&mut lines, "Exits:", list(&spec["exit_on"]).iter().flat_map(|exit| item("-", exit)).collect());
    if !spec["goal"].is_null() {
        lines.push(format!("Goal:      {}", plain(&spec["goal"])));
    }
    let steps = list(&spec["steps"]).iter().enumerate().flat_map(|(index, step)| item(&format!("{}.", index + 1), step));
    section(&mut lines, "Steps:", steps.collect());
    let told = ["title", "describe", "owner", "topic", "entries", "exit_on", "goal", "steps"];
    let rest: Map<_, _> = spec.as_object().into_iter().flatten().filter(|(name, _)| !told.contains(&name.as_str())).map(owned).collect();
    if !rest.is_empty() {
        section(&mut lines, "Settings:", output::yaml(&Value::Object(rest)).lines().map(str::to_owned).collect());
    }
    lines
}

fn owned((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

fn section(lines: &mut Vec<String>, title: &str, items: Vec<String>) {
    if !items.is_empty() {
        lines.push(title.to_owned());
        lines.extend(items.into_iter().map(|line| format!("  {line}")));
    }
}

/// An entry, an exit or a step: its id, then a line for each thing that is said of it.
fn item(mark: &str, value: &Value) -> Vec<String> {
    let id = value["id"].as_str().unwrap_or("(no id)");
    let said = value.as_object().into_iter().flatten().filter(|(name, _)| *name != "id");
    [format!("{mark} {id}")].into_iter().chain(said.map(|(name, value)| format!("     {name}: {}", plain(value)))).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A value in one line.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields.iter().map(|(name, value)| format!("{name} {}", nested(value))).collect::<Vec<_>>().join(", "),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn nested(value: &Value) -> String {
    if value.is_array() || value.is_object() { format!("({})", plain(value)) } else { plain(value) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_outline_tells_entries_ends_and_steps_in_their_order() {
        let manifest = json!({"spec": {
            "title": "Carts", "priority": 80,
            "entries": [{"id": "touched", "on_event": {"names": ["Added", "Removed"]}, "key": "event.cart_id"}],
            "exit_on": [{"id": "emptied", "when": "cart(run.key).status == \"emptied\""}],
            "goal": {"event": "Order Completed", "within": "7d"},
            "steps": [{"id": "settle", "delay": {"for": "1h"}}, {"id": "remind", "send": {"channel": "email", "template": "cart"}},
                {"id": "again", "send": {"channel": "email", "template": "cart"}}],
        }});
        let expected = "Title:     Carts\nEntries:\n  - touched\n       on_event: names (Added, Removed)\n       key: event.cart_id\n\
            Exits:\n  - emptied\n       when: cart(run.key).status == \"emptied\"\nGoal:      event Order Completed, within 7d\n\
            Steps:\n  1. settle\n       delay: for 1h\n  2. remind\n       send: channel email, template cart\n\
            \u{20} 3. again\n       send: channel email, template cart\nSettings:\n  priority: 80";
        assert_eq!(outline(&manifest).join("\n"), expected);
        assert_eq!(templates(&manifest), ["cart"]);
    }
}
