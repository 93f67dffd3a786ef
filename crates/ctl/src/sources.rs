//! `source`: write keys, which are shown once.

use anyhow::ensure;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use waypost_proto::control::{self as pb, source_service_client::SourceServiceClient};
use waypost_types::Span;

use crate::{
    cli::DryRun,
    commands::{Done, Session},
    output,
};

#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// The write keys that are good now: when each was made, by whom, and until when it is good. No key is shown
    ListKeys {
        /// Source; without it all of the workspace
        source: Option<String>,
    },
    /// A new write key, shown once. The one of before stops working: after --keep-old-for, or with --yes at once
    RotateKey(RotateKey),
    /// End a write key at once; the source's others stay
    RevokeKey(RevokeKey),
}

#[derive(Debug, Args)]
pub(crate) struct RotateKey {
    /// Source
    source: String,
    /// So long the key of before stays good beside the new one, as `24h` or `7d`; at most 90d
    #[arg(long, value_name = "TIME")]
    keep_old_for: Option<Span>,
    /// End a key that is good at once; a first key needs no --yes
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeKey {
    /// As `list-keys` shows it
    id: String,
    /// Do it
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

// === impl RotateKey ===

impl RotateKey {
    /// Whether keys of before end with this command and nobody has said that they may.
    fn is_rash(&self) -> bool {
        !self.yes && !self.dry_run.is_dry() && self.keep_old_for.is_none_or(|span| span.millis() == 0)
    }

    /// Whether a server of before, which reads the name alone, would do what is wanted.
    fn is_plain(&self) -> bool {
        self.yes && self.keep_old_for.is_none() && !self.dry_run.is_dry()
    }
}

// === impl Session ===

impl Session {
    pub(crate) async fn sources(&self, what: SourceCommand) -> anyhow::Result<Done> {
        match what {
            SourceCommand::ListKeys { source } => {
                let parent = source.map_or_else(|| self.parent.clone(), |source| self.source(&source));
                let keys = self.keys(&parent).await?;
                let json = json!({"keys": keys.iter().map(json_of).collect::<Vec<_>>()});
                Ok(self.show(&json, || table(&keys), || keys.iter().map(|key| key.name.clone()).collect()))
            }
            SourceCommand::RotateKey(wanted) => self.rotate(wanted).await,
            SourceCommand::RevokeKey(wanted) => self.revoke(wanted).await,
        }
    }

    async fn rotate(&self, wanted: RotateKey) -> anyhow::Result<Done> {
        let name = self.source(&wanted.source);
        if !wanted.is_plain() {
            // Asked of every server that is to keep or only to check: one of before does not know this call and says so, and would
            // rotate at once, because it passes over what it does not know of the other.
            let ends = !self.keys(&name).await?.is_empty();
            ensure!(
                !(ends && wanted.is_rash()),
                "whoever sends with the key that `{}` has now is refused at once: keep it for a while with --keep-old-for 24h, or say --yes",
                wanted.source
            );
        }
        let validate_only = wanted.dry_run.is_dry();
        let keep_old_for = wanted.keep_old_for.map(duration);
        let request = pb::RotateKeyRequest { name, keep_old_for, validate_only };
        let answer = SourceServiceClient::new(self.channel.clone()).rotate_key(request).await?.into_inner();
        let json = json!({"writeKey": answer.write_key, "key": answer.key.as_ref().map(json_of),
            "old": answer.old.iter().map(json_of).collect::<Vec<_>>()});
        // The key and nothing else, in every form: scripts take what is printed, and it is not shown again.
        let told = || if validate_only { outlook(&wanted.source, &answer.old) } else { answer.write_key.clone() };
        Ok(self.show(&json, told, || vec![told()]))
    }

    async fn revoke(&self, wanted: RevokeKey) -> anyhow::Result<Done> {
        let validate_only = wanted.dry_run.is_dry();
        ensure!(validate_only || wanted.yes, "whoever sends with this key is refused at once, and nothing brings it back: say --yes");
        let id = wanted.id.rsplit('/').next().unwrap_or_default();
        let request = pb::RevokeKeyRequest { name: format!("{}/keys/{id}", self.parent), validate_only };
        let key = SourceServiceClient::new(self.channel.clone()).revoke_key(request).await?.into_inner();
        let dry = if validate_only { " (server dry run)" } else { "" };
        let told = || format!("key {} of {} revoked{dry}", short(&key.name), short(&key.source));
        Ok(self.show(&json_of(&key), told, || vec![key.name.clone()]))
    }

    /// All good keys of a workspace or source.
    async fn keys(&self, parent: &str) -> anyhow::Result<Vec<pb::Key>> {
        let mut client = SourceServiceClient::new(self.channel.clone());
        let (mut all, mut request) = (Vec::new(), pb::ListKeysRequest { parent: parent.to_owned(), ..pb::ListKeysRequest::default() });
        loop {
            let page = client.list_keys(request.clone()).await?.into_inner();
            all.extend(page.keys);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// `web` and `sources/web` are the same.
    fn source(&self, name: &str) -> String {
        format!("{}/sources/{}", self.parent, name.strip_prefix("sources/").unwrap_or(name))
    }
}

fn duration(span: Span) -> prost_types::Duration {
    let millis = span.millis();
    prost_types::Duration { seconds: millis.div_euclid(1_000), nanos: i32::try_from(millis.rem_euclid(1_000)).unwrap_or(0) * 1_000_000 }
}

/// What would become of the keys of before.
fn outlook(source: &str, old: &[pb::Key]) -> String {
    let ends = old.iter().map(|key| format!("key {} would be good until {}", short(&key.name), output::time(key.until)));
    let new = format!("{source} would have a new key (server dry run)");
    ends.chain([new]).collect::<Vec<_>>().join("\n")
}

fn short(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}

fn json_of(key: &pb::Key) -> Value {
    json!({"name": key.name, "source": key.source, "madeAt": output::time(key.made_at), "madeBy": key.made_by, "until": output::time(key.until)})
}

fn table(keys: &[pb::Key]) -> String {
    let rows = keys.iter().map(|key| {
        let known = |text: String| if text.is_empty() { "unknown".to_owned() } else { text };
        vec![
            short(&key.name).to_owned(),
            short(&key.source).to_owned(),
            known(output::time(key.made_at)),
            known(key.made_by.clone()),
            output::time(key.until),
        ]
    });
    output::table(&["ID", "SOURCE", "MADE AT", "MADE BY", "GOOD UNTIL"], rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn rotate(arguments: &[&str]) -> RotateKey {
        let line = [&["waypostctl", "source", "rotate-key", "web"], arguments].concat();
        let command = Cli::try_parse_from(line).unwrap().command;
        let Command::Source { what: SourceCommand::RotateKey(wanted) } = command else { panic!("{command:?}") };
        wanted
    }

    #[test]
    fn only_who_ends_a_key_at_once_is_asked_and_only_a_plain_wish_goes_to_a_server_of_before() {
        for (arguments, is_rash, is_plain) in [
            (&[][..], true, false),
            (&["--yes"], false, true),
            (&["--keep-old-for", "24h"], false, false),
            (&["--keep-old-for", "0s"], true, false),
            (&["--keep-old-for", "24h", "--yes"], false, false),
            (&["--dry-run"], false, false),
            (&["--yes", "--dry-run"], false, false),
        ] {
            let wanted = rotate(arguments);
            assert_eq!((wanted.is_rash(), wanted.is_plain()), (is_rash, is_plain), "{arguments:?}");
        }
        assert_eq!(duration(rotate(&["--keep-old-for", "24h"]).keep_old_for.unwrap()).seconds, 86_400);
    }
}
