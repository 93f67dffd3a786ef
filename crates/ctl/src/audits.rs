//! `whoami` and `audit list`.

use anyhow::Context as _;
use serde_json::{Value, json};
use waypost_proto::control::{self as pb, access_service_client::AccessServiceClient, audit_service_client::AuditServiceClient};
use waypost_types::{Span, Timestamp};

use crate::{
    cli::AuditList,
    commands::{Done, Session},
    output,
};

// === impl Session ===

impl Session {
    pub(crate) async fn whoami(&self) -> anyhow::Result<Done> {
        let me = AccessServiceClient::new(self.channel.clone()).who_am_i(pb::WhoAmIRequest {}).await?.into_inner();
        let grants: Vec<_> = me.grants.iter().map(|g| json!({"roles": g.roles, "workspaces": g.workspaces})).collect();
        Ok(self.show(
            &json!({"name": me.name, "how": me.how, "grants": grants}),
            || {
                let rows = me.grants.iter().map(|g| vec![g.roles.join(", "), g.workspaces.join(", ")]);
                let granted = if me.grants.is_empty() { "no roles".to_owned() } else { output::table(&["ROLES", "WORKSPACES"], rows) };
                let known = if me.how == "open" { "as you say: this server asks nobody".to_owned() } else { format!("by {}", me.how) };
                format!("{} ({known})\n{granted}", me.name)
            },
            || vec![me.name.clone()],
        ))
    }

    pub(crate) async fn audit(&self, wanted: AuditList) -> anyhow::Result<Done> {
        let now = now();
        let instant = |text: Option<String>| text.map_or(Ok(0), |text| instant(&text, now));
        let mut request = pb::ListAuditEntriesRequest {
            parent: if self.workspace_given { self.parent.clone() } else { String::new() },
            subject_prefix: wanted.subject.unwrap_or_default(),
            by: wanted.by.unwrap_or_default(),
            act: wanted.act.unwrap_or_default(),
            from: instant(wanted.since)?,
            until: instant(wanted.until)?,
            page_size: 0,
            page_token: String::new(),
        };
        let limit = usize::try_from(wanted.limit.max(1))?;
        let mut entries = Vec::new();
        while entries.len() < limit {
            request.page_size = i32::try_from(limit - entries.len()).unwrap_or(i32::MAX);
            let page = AuditServiceClient::new(self.channel.clone()).list_audit_entries(request.clone()).await?.into_inner();
            entries.extend(page.entries);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        Ok(self.show(
            &Value::Array(entries.iter().map(entry).collect()),
            || {
                let rows = entries.iter().map(|e| {
                    let by = if e.how.is_empty() { e.by.clone() } else { format!("{} ({})", e.by, e.how) };
                    vec![output::time(e.at), by, e.act.clone(), e.subject.clone(), e.outcome.clone()]
                });
                output::table(&["AT", "BY", "ACT", "SUBJECT", "OUTCOME"], rows)
            },
            || entries.iter().map(|e| e.id.to_string()).collect(),
        ))
    }
}

fn entry(e: &pb::AuditEntry) -> Value {
    json!({"id": e.id, "at": output::time(e.at), "by": e.by, "how": e.how, "from": e.from, "act": e.act, "subject": e.subject,
        "workspace": e.workspace, "record": e.record, "before": e.before, "after": e.after, "outcome": e.outcome, "note": e.note})
}

#[expect(clippy::disallowed_methods, reason = "a person says how long ago, by this computer's clock")]
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// An instant, or so long before now; ms.
pub(crate) fn instant(text: &str, now: Timestamp) -> anyhow::Result<i64> {
    if let Ok(span) = text.parse::<Span>() {
        return Ok(now.minus(span).millis());
    }
    let instant: jiff::Timestamp = text.parse().ok().with_context(|| format!("`{text}` is no time: write 2026-11-23T08:00:00Z, or 2h"))?;
    Ok(instant.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_instants_or_so_long_ago() {
        let now = Timestamp::from_millis(1_774_594_800_000);
        assert_eq!(instant("2h", now).unwrap(), now.millis() - 7_200_000);
        assert_eq!(instant("1970-01-01T00:00:01Z", now).unwrap(), 1_000);
        assert!(instant("yesterday", now).is_err());
    }
}
