//! Erase, detach, expire: asked for here, done where the person is. Export: read there, written here.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use waypost_proto::control::{self as pb, profile_service_client::ProfileServiceClient};

use crate::{
    cli::{Export, Person},
    commands::{Done, Session},
    output,
};

/// Largest document that is taken; a person's states are far below it.
const DOCUMENT_MAX: usize = 64 << 20;

// === impl Person ===

impl Person {
    fn sure(&self) -> bool {
        self.yes || self.dry_run.is_dry()
    }
}

// === impl Session ===

impl Session {
    pub(crate) async fn erase(&self, person: Person) -> anyhow::Result<Done> {
        ensure!(person.sure(), "this forgets a person for good, and nothing brings her back: say --yes");
        let validate_only = self.only_checks(person.dry_run).await?;
        let request = pb::EraseProfileRequest { parent: self.parent.clone(), identifier: person.identifier, validate_only };
        let answer = ProfileServiceClient::new(self.channel.clone()).erase_profile(request).await?.into_inner();
        Ok(self.acknowledged("erase", answer.acknowledged))
    }

    pub(crate) async fn detach(&self, person: Person) -> anyhow::Result<Done> {
        ensure!(person.sure(), "what was known of this identifier stays behind with the old profile: say --yes");
        let validate_only = self.only_checks(person.dry_run).await?;
        let request = pb::DetachIdentifierRequest { parent: self.parent.clone(), identifier: person.identifier, validate_only };
        let answer = ProfileServiceClient::new(self.channel.clone()).detach_identifier(request).await?.into_inner();
        Ok(self.acknowledged("detach", answer.acknowledged))
    }

    pub(crate) async fn expire(&self, person: Person) -> anyhow::Result<Done> {
        ensure!(person.sure(), "this forgets a person for good, and nothing brings her back: say --yes");
        let validate_only = self.only_checks(person.dry_run).await?;
        let request = pb::ExpireProfileRequest { parent: self.parent.clone(), identifier: person.identifier, validate_only };
        let answer = ProfileServiceClient::new(self.channel.clone()).expire_profile(request).await?.into_inner();
        Ok(self.acknowledged("expire", answer.acknowledged))
    }

    pub(crate) async fn export(&self, export: Export) -> anyhow::Result<Done> {
        // Asked only where there is a place for the answer: each answer is a line in the audit topic.
        let file = export.out.as_deref().map(|path| Ok::<_, anyhow::Error>((path, private(path)?))).transpose()?;
        let request = pb::ExportProfileRequest { parent: self.parent.clone(), identifier: export.identifier };
        let mut client = ProfileServiceClient::new(self.channel.clone()).max_decoding_message_size(DOCUMENT_MAX);
        let answer = client.export_profile(request).await;
        let Some((path, mut file)) = file else {
            let document: Value = serde_json::from_str(&answer?.into_inner().document)?;
            return Ok(self.show(&document, || pretty(&document), || vec![pretty(&document)]));
        };
        let written = answer.map_err(anyhow::Error::from).and_then(|answer| {
            let answer = answer.into_inner();
            let document: Value = serde_json::from_str(&answer.document)?;
            writeln!(file, "{}", pretty(&document))?;
            file.sync_all()?;
            Ok(answer.profile)
        });
        if written.is_err() {
            // Half a document looks like a whole one.
            std::fs::remove_file(path).with_context(|| format!("{} is not whole, and cannot be removed", path.display()))?;
        }
        let profile = written?;
        let json = json!({"profile": profile, "file": path.display().to_string()});
        Ok(self.show(&json, || format!("{profile} written to {}", path.display()), || vec![profile.clone()]))
    }

    fn acknowledged(&self, what: &str, answer: Option<pb::Acknowledged>) -> Done {
        let Some(answer) = answer else {
            return self.show(&json!({"would": what}), || format!("{what} would be accepted"), Vec::new);
        };
        let json = json!({"identifierHash": answer.identifier_hash, "record": answer.record, "at": output::time(answer.at)});
        self.show(
            &json,
            || format!("{what} of {} accepted at {}, record {}", answer.identifier_hash, output::time(answer.at), answer.record),
            || vec![answer.identifier_hash.clone()],
        )
    }
}

/// A new file that nobody else may read.
fn private(path: &Path) -> anyhow::Result<std::fs::File> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.with_context(|| format!("cannot make {}; a file that is there already is not written over", path.display()))
}

fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default()
}
