//! Dead letters: list, show, redrive.

use serde_json::{Value, json};
use waypost_proto::control::{self as pb, dead_letter_service_client::DeadLetterServiceClient};

use crate::{
    cli::{Discard, DryRun},
    commands::{Done, Session},
    output, progress,
};

// === impl Session ===

impl Session {
    pub(crate) async fn letters(
        &self,
        reason: Option<String>,
        source: Option<String>,
        limit: u16,
        discarded: bool,
    ) -> anyhow::Result<Done> {
        let request = pb::ListDeadLettersRequest {
            reason: reason.unwrap_or_default(),
            source: source.unwrap_or_default(),
            page_size: i32::from(limit.max(1)),
            discarded,
        };
        let answer = DeadLetterServiceClient::new(self.channel.clone()).list_dead_letters(request).await?.into_inner();
        let json = json!({"total": answer.total, "letters": answer.letters.iter().map(letter).collect::<Vec<_>>()});
        Ok(self.show(
            &json,
            || {
                let rows = answer.letters.iter().map(|l| {
                    let redriven = if l.redrives.is_empty() { String::new() } else { format!("{} times", l.redrives.len()) };
                    let redriven = if l.discard.is_some() { "discarded".to_owned() } else { redriven };
                    vec![l.id.clone(), output::time(l.at), l.reason.clone(), l.door.clone(), l.origin.clone(), redriven]
                });
                let table = output::table(&["ID", "AT", "REASON", "DOOR", "ORIGIN", "REDRIVEN"], rows);
                format!("{table}\n{} of {}", answer.letters.len(), answer.total)
            },
            || answer.letters.iter().map(|l| l.id.clone()).collect(),
        ))
    }

    pub(crate) async fn letter(&self, id: String) -> anyhow::Result<Done> {
        let found = DeadLetterServiceClient::new(self.channel.clone()).get_dead_letter(pb::GetDeadLetterRequest { id }).await?.into_inner();
        Ok(self.show(
            &letter(&found),
            || {
                let head =
                    format!("{}  {}  {}  door {}  origin {}", found.id, output::time(found.at), found.reason, found.door, found.origin);
                let past = found.redrives.iter().map(|r| format!("redriven {} by {}", output::time(r.at), r.by));
                let done = found.discard.as_ref().map(|d| format!("discarded {} by {}: {}", output::time(d.at), d.by, d.note));
                let lines = [head, found.detail.clone()].into_iter().chain(past).chain(done).chain([String::new(), found.content.clone()]);
                lines.collect::<Vec<_>>().join("\n")
            },
            || vec![found.id.clone()],
        ))
    }

    pub(crate) async fn redrive(&self, id: Option<String>, reason: Option<String>, again: bool, dry_run: DryRun) -> anyhow::Result<Done> {
        let validate_only = dry_run == DryRun::Server;
        let one = id.is_some();
        let request =
            pb::RedriveDeadLettersRequest { id: id.unwrap_or_default(), reason: reason.unwrap_or_default(), again, validate_only };
        let mut client = DeadLetterServiceClient::new(self.channel.clone());
        let answer = progress::during("putting letters back", client.redrive_dead_letters(request)).await?.into_inner();
        if let Some(refused) = answer.letters.iter().find(|l| one && !l.refused.is_empty()) {
            anyhow::bail!("{}: {}", refused.id, refused.refused);
        }
        let letters: Vec<_> = answer.letters.iter().map(|l| json!({"id": l.id, "record": l.record, "refused": l.refused})).collect();
        let note = if validate_only { " (server dry run)" } else { "" };
        let back = answer.letters.iter().filter(|l| l.refused.is_empty()).count();
        Ok(self.show(
            &json!({"letters": letters}),
            || {
                let refused = answer.letters.iter().filter(|l| !l.refused.is_empty()).map(|l| format!("{}: {}", l.id, l.refused));
                refused.chain([format!("{back} of {} put back{note}", answer.letters.len())]).collect::<Vec<_>>().join("\n")
            },
            || answer.letters.iter().filter(|l| l.refused.is_empty()).map(|l| l.id.clone()).collect(),
        ))
    }

    /// In two steps: what fits is counted, and only that many are discarded.
    pub(crate) async fn discard(&self, wanted: Discard) -> anyhow::Result<Done> {
        let mut request = pb::DiscardDeadLettersRequest {
            id: wanted.id.unwrap_or_default(),
            reason: wanted.reason.unwrap_or_default(),
            source: wanted.source.unwrap_or_default(),
            note: wanted.because.unwrap_or_default(),
            validate_only: true,
            expected: 0,
        };
        let mut client = DeadLetterServiceClient::new(self.channel.clone());
        let mut ids = client.discard_dead_letters(request.clone()).await?.into_inner().ids;
        if wanted.yes && !ids.is_empty() {
            request.validate_only = false;
            request.expected = ids.len() as u64;
            ids = client.discard_dead_letters(request).await?.into_inner().ids;
        }
        let told = if wanted.yes { "discarded".to_owned() } else { "to discard; --yes --because TEXT does it".to_owned() };
        Ok(self.show(&json!({"letters": ids, "discarded": wanted.yes}), || format!("{} {told}", ids.len()), || ids.clone()))
    }
}

fn letter(letter: &pb::DeadLetter) -> Value {
    let redrives: Vec<_> = letter.redrives.iter().map(|r| json!({"at": output::time(r.at), "by": r.by, "record": r.record})).collect();
    let discard = letter.discard.as_ref().map(|d| json!({"at": output::time(d.at), "by": d.by, "note": d.note}));
    json!({"id": letter.id, "reason": letter.reason, "door": letter.door, "origin": letter.origin, "detail": letter.detail,
        "workspace": letter.workspace, "at": output::time(letter.at), "bytes": letter.bytes, "redrives": redrives, "discard": discard, "content": letter.content})
}
