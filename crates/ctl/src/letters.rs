//! Dead letters: list, show, redrive.

use serde_json::{Value, json};
use waypost_proto::control::{self as pb, dead_letter_service_client::DeadLetterServiceClient};

use crate::{
    cli::{Discard, Redrive},
    commands::{Done, Session},
    operations, output, progress,
    runs::request_id,
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
        let (limit, reason, source) = (usize::from(limit.max(1)), reason.unwrap_or_default(), source.unwrap_or_default());
        let mut client = DeadLetterServiceClient::new(self.channel.clone());
        let mut answer = pb::ListDeadLettersResponse::default();
        loop {
            let request = pb::ListDeadLettersRequest {
                reason: reason.clone(),
                source: source.clone(),
                page_size: (limit - answer.letters.len()).try_into().unwrap_or(i32::MAX),
                discarded,
                read_mask: None,
                page_token: answer.next_page_token,
            };
            let page = client.list_dead_letters(request).await?.into_inner();
            (answer.total, answer.next_page_token) = (page.total, page.next_page_token);
            answer.letters.extend(page.letters);
            if answer.letters.len() >= limit || answer.next_page_token.is_empty() {
                break;
            }
        }
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
        let request = pb::GetDeadLetterRequest { id, read_mask: None };
        let found = DeadLetterServiceClient::new(self.channel.clone()).get_dead_letter(request).await?.into_inner();
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

    pub(crate) async fn redrive(&self, wanted: Redrive) -> anyhow::Result<Done> {
        match wanted.letters.id.clone() {
            Some(id) => self.redrive_one(id, &wanted).await,
            None => self.redrive_all(wanted).await,
        }
    }

    async fn redrive_one(&self, id: String, wanted: &Redrive) -> anyhow::Result<Done> {
        let validate_only = wanted.dry_run.is_dry();
        let request = pb::RedriveDeadLettersRequest { id, reason: String::new(), again: wanted.again, validate_only };
        let mut client = DeadLetterServiceClient::new(self.channel.clone());
        let answer = progress::during("putting it back", client.redrive_dead_letters(request)).await?.into_inner();
        if let Some(refused) = answer.letters.iter().find(|l| !l.refused.is_empty()) {
            anyhow::bail!("{}: {}", refused.id, refused.refused);
        }
        let letters: Vec<_> = answer.letters.iter().map(|l| json!({"id": l.id, "record": l.record, "refused": l.refused})).collect();
        let said = format!("{} of {} put back{}", letters.len(), letters.len(), dry(validate_only));
        let names = || answer.letters.iter().map(|l| l.id.clone()).collect();
        Ok(self.show(&json!({"letters": letters}), || said, names))
    }

    /// As an operation, and waits for it unless that is not wanted.
    async fn redrive_all(&self, wanted: Redrive) -> anyhow::Result<Done> {
        let validate_only = wanted.dry_run.is_dry();
        let request = pb::BulkRedriveDeadLettersRequest {
            reason: wanted.letters.reason.unwrap_or_default(),
            source: wanted.letters.source.unwrap_or_default(),
            again: wanted.again,
            validate_only,
            request_id: request_id()?,
        };
        let mut client = DeadLetterServiceClient::new(self.channel.clone());
        let mut operation = progress::during("looking", client.bulk_redrive_dead_letters(request)).await?.into_inner();
        if !operation.done && wanted.is_async {
            let name = operation.name.clone();
            return Ok(self.show(&operations::json(&operation), || name.clone(), || vec![name.clone()]));
        }
        if !operation.done {
            operation = self.settled(operation.name, None).await?;
            operations::judged(&operation)?;
        }
        let result = operations::redriven(&operation).unwrap_or_default();
        let (back, refused) = (result.redriven, result.refused);
        Ok(self.show(
            &operations::json(&operation),
            || {
                let mut lines: Vec<_> = result.refusals.iter().map(|one| format!("{}: {}", one.id, one.why)).collect();
                let more = refused.saturating_sub(lines.len() as u64);
                lines.extend((more > 0).then(|| format!("… and {more} more, which `waypostctl deadletter list` shows")));
                lines.push(format!("{back} of {} put back{}", back + refused, dry(validate_only)));
                lines.join("\n")
            },
            || vec![operation.name.clone()],
        ))
    }

    /// In two steps: what fits is counted, and only that many are discarded.
    pub(crate) async fn discard(&self, wanted: Discard) -> anyhow::Result<Done> {
        let mut request = pb::DiscardDeadLettersRequest {
            id: wanted.letters.id.unwrap_or_default(),
            reason: wanted.letters.reason.unwrap_or_default(),
            source: wanted.letters.source.unwrap_or_default(),
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

fn dry(validate_only: bool) -> &'static str {
    if validate_only { " (server dry run)" } else { "" }
}

fn letter(letter: &pb::DeadLetter) -> Value {
    let redrives: Vec<_> = letter.redrives.iter().map(|r| json!({"at": output::time(r.at), "by": r.by, "record": r.record})).collect();
    let discard = letter.discard.as_ref().map(|d| json!({"at": output::time(d.at), "by": d.by, "note": d.note}));
    json!({"id": letter.id, "reason": letter.reason, "door": letter.door, "origin": letter.origin, "detail": letter.detail,
        "workspace": letter.workspace, "at": output::time(letter.at), "bytes": letter.bytes, "redrives": redrives, "discard": discard, "content": letter.content})
}
