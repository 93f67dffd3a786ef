//! Answers as tables, JSON, YAML or names; errors as sentences.

use comfy_table::{Table, presets};
use serde_json::{Value, json};
use tonic_types::StatusExt as _;
use waypost_engine::manifest::to_yaml;
use waypost_proto::control as pb;

use crate::advice;

/// A table without borders, as kubectl's.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().map(|h| (*h).to_owned()));
    for row in rows {
        table.add_row(row);
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// YAML, as manifests are printed.
pub(crate) fn yaml(json: &Value) -> String {
    to_yaml(json.to_string().as_bytes())
}

/// An instant as people read it; empty for none.
pub(crate) fn time(ms: i64) -> String {
    if ms == 0 { String::new() } else { waypost_types::Timestamp::from_millis(ms).to_string() }
}

/// A definition's state as a word.
pub(crate) fn state(state: i32) -> &'static str {
    use pb::DefinitionState as S;
    match S::try_from(state).unwrap_or(S::Unspecified) {
        S::Unspecified => "",
        S::Draft => "draft",
        S::Active => "active",
        S::Pinned => "pinned",
        S::Archived => "archived",
        S::Paused => "paused",
        S::Killed => "killed",
    }
}

/// What applying did, as a word.
pub(crate) fn what(what: i32) -> &'static str {
    use pb::change::What as W;
    match W::try_from(what).unwrap_or(W::Unspecified) {
        W::Unspecified => "",
        W::Created => "created",
        W::Changed => "changed",
        W::Unchanged => "unchanged",
        W::Deleted => "deleted",
        W::Kept => "kept",
    }
}

/// A change.
pub(crate) fn change(change: &pb::Change) -> Value {
    json!({"kind": change.kind, "name": change.name, "version": change.version, "change": what(change.what),
        "state": state(change.state), "diff": change.diff, "reason": change.reason})
}

/// A definition; its manifest as JSON, not as text.
pub(crate) fn definition(definition: &pb::Definition) -> Value {
    let manifest = serde_json::from_str(&definition.manifest).unwrap_or(Value::Null);
    json!({"name": definition.name, "kind": definition.kind, "version": definition.version, "state": state(definition.state),
        "etag": definition.etag, "contentHash": definition.content_hash, "manifest": manifest})
}

/// A profile.
pub(crate) fn profile(profile: &pb::Profile) -> Value {
    let fields: serde_json::Map<_, _> = profile.fields.iter().map(|f| (f.path.clone(), json!(f.value))).collect();
    let runs: Vec<_> = profile.runs.iter().map(run).collect();
    let past: Vec<_> = profile
        .past
        .iter()
        .map(|p| json!({"journey": p.journey, "key": p.key, "enteredAt": time(p.entered_at), "exitedAt": time(p.exited_at), "reason": p.reason}))
        .collect();
    json!({"id": profile.id, "fields": fields, "carts": profile.carts, "orders": profile.orders, "consents": profile.consents,
        "memberships": profile.memberships, "runs": runs, "past": past, "joinedFrom": profile.joined_from,
        "segmentOffset": profile.segment_offset, "journeyOffset": profile.journey_offset})
}

fn run(run: &pb::Run) -> Value {
    json!({"id": run.id, "journey": run.journey, "version": run.version, "key": run.key, "step": run.step,
        "enteredAt": time(run.entered_at), "nextDue": time(run.next_due), "sends": run.sends})
}

/// An explanation.
pub(crate) fn explanation(answer: &pb::ExplainProfileResponse) -> Value {
    let entries: Vec<_> = answer
        .entries
        .iter()
        .map(|e| {
            let checks: Vec<_> = e
                .checks
                .iter()
                .map(|c| json!({"what": c.what, "truth": c.truth, "operands": c.operands, "validUntil": time(c.valid_until)}))
                .collect();
            json!({"at": time(e.at), "journey": e.journey, "version": e.version, "run": e.run, "key": e.key, "what": e.what,
                "step": e.step, "reason": e.reason, "cause": e.cause, "send": e.send, "note": e.note, "checks": checks})
        })
        .collect();
    json!({"profile": answer.profile, "verdict": answer.verdict, "entries": entries, "journeyOffset": answer.journey_offset})
}

/// An error in full: what was wrong, where, and what to do.
pub(crate) fn error(error: &anyhow::Error) -> String {
    let Some(status) = error.downcast_ref::<tonic::Status>() else { return format!("error: {error:#}") };
    let violations = status.get_details_bad_request().map(|b| b.field_violations).unwrap_or_default();
    if violations.is_empty() {
        let advice = advice::for_code(status.code()).map_or_else(String::new, |advice| format!("\n{advice}"));
        return format!("error: {} ({:?}){advice}", status.message(), status.code());
    }
    let lines: Vec<_> = violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
    let count = lines.len();
    format!("{}\nerror: {count} problem{}; nothing was changed", lines.join("\n"), if count == 1 { "" } else { "s" })
}
