//! `SourceService`: write keys, shown once, stored as hashes.

use tonic::{Request, Response, Status};
use waypost_codec::write_key;
use waypost_engine::manifest::Kind;
use waypost_proto::control::{self as pb, source_service_server::SourceService};
use waypost_types::{Span, Timestamp};

use crate::{
    access::admit,
    audit::{Act, Line},
    journal::Entry,
    keys::{self, KeyLine, NoKey, WriteKey},
    names,
    server::{Control, workspace_in},
    status::Refusal,
};

/// Keys of an answer unless asked for fewer.
const PAGE: usize = 100;
/// Keys of an answer at most.
const PAGE_MAX: usize = 1_000;
/// Longest time for which keys of before are kept: whoever has not come by in a quarter of a year comes no more, and a key that nobody
/// ends is one that somebody has forgotten.
const KEPT_MAX: Span = Span::from_days(90);
/// Good keys of a source at most: the door compares a key that is shown with all there are.
const KEYS_MAX: usize = 10;

#[tonic::async_trait]
impl SourceService for Control {
    async fn list_keys(&self, request: Request<pb::ListKeysRequest>) -> Result<Response<pb::ListKeysResponse>, Status> {
        let (_, pb::ListKeysRequest { parent, page_size, page_token }) = admit(request)?;
        let (workspace, source) = match names::workspace(&parent) {
            Ok(workspace) => (workspace, None),
            Err(_) => names::child(&parent, "sources").map(|(workspace, source)| (workspace, Some(source)))?,
        };
        let size = match usize::try_from(page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(PAGE_MAX),
            Err(_) => return Err(Refusal::Invalid("INVALID_PAGE_SIZE", "page_size may not be negative".to_owned()).into()),
        };
        let behind = if page_token.is_empty() { None } else { Some(Place::parse(&page_token)?) };
        let set = self.changes.current().map_err(Refusal::from)?;
        let id = workspace_in(&set, workspace)?;
        let journal = self.catalog.journal().borrow().clone();
        let good = journal.keys.good(id, self.clock.now()).filter(|(_, key)| source.is_none_or(|source| key.source == source));
        let mut found: Vec<(Place<'_>, &WriteKey)> = good.map(|(hash, key)| (Place::of(hash, key), key)).collect();
        found.sort_by_key(|(place, _)| *place);
        // Some that stood on an earlier page may be gone: places say where to go on, not counts.
        found.retain(|(place, _)| behind.is_none_or(|behind| *place > behind));
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token = found.last().filter(|_| more).map_or_else(String::new, |(place, _)| place.token());
        let keys = found.into_iter().map(|(place, key)| shown(workspace, place.hash, key)).collect();
        Ok(Response::new(pb::ListKeysResponse { keys, next_page_token }))
    }

    async fn rotate_key(&self, request: Request<pb::RotateKeyRequest>) -> Result<Response<pb::RotateKeyResponse>, Status> {
        let (caller, pb::RotateKeyRequest { name, keep_old_for, validate_only }) = admit(request)?;
        let (workspace, source) = names::child(&name, "sources")?;
        let (now, kept) = (self.clock.now(), kept(keep_old_for)?);
        let set = self.changes.current().map_err(Refusal::from)?;
        let id = workspace_in(&set, workspace)?;
        if !set.definitions.iter().any(|e| e.workspace == id.number() && e.kind == Kind::Source && e.name == source) {
            return Err(Refusal::NotFound(format!("there is no source `{source}` in workspace `{workspace}`: apply one first")).into());
        }
        let journal = self.catalog.journal().borrow().clone();
        let old: Vec<(&str, &WriteKey)> = journal.keys.of(id, source, now).collect();
        if kept.is_some() && old.len() >= KEYS_MAX {
            let why = format!("{} keys of `{source}` are good already: revoke some, or wait until they end", old.len());
            return Err(Refusal::Precondition("TOO_MANY_KEYS", why).into());
        }
        let keep_until = kept.map(|span| now.plus(span));
        let ends = |key: &WriteKey| WriteKey { until: Some(keep_until.map_or(now, |until| key.end_beside(until))), ..key.clone() };
        let old_shown: Vec<pb::Key> = old.iter().map(|(hash, key)| shown(workspace, hash, &ends(key))).collect();
        if validate_only {
            return Ok(Response::new(pb::RotateKeyResponse { write_key: String::new(), key: None, old: old_shown }));
        }
        let write_key = format!("wk_{}", hex::encode((self.secret)()));
        let hash = hex::encode(write_key::hash(&write_key));
        let before = old.iter().find(|(_, key)| key.until.is_none()).map_or("", |(hash, _)| hash);
        let mut line = Line::of(&caller, Act::RotateKey, &name).changes(before, &hash);
        if !old.is_empty() {
            let ends = old_shown.iter().map(|key| format!("{} until {}", key.name.rsplit('/').next().unwrap_or_default(), key.until));
            line = line.note(format!("good before: {}", ends.collect::<Vec<_>>().join(", ")));
        }
        let made = KeyLine::new(id, source, &hash).said(now, caller.name()).keeping(keep_until);
        // Another line may have made or ended keys of this source since they were looked at.
        self.audit.acted(line, async { Ok(self.changes.enter_behind(&journal, Entry::Key(made)).await?) }).await?;
        let made_by = caller.name().to_owned();
        let new = WriteKey { workspace: id, source: source.to_owned(), made_at: Some(now), made_by, until: None };
        Ok(Response::new(pb::RotateKeyResponse { write_key, key: Some(shown(workspace, &hash, &new)), old: old_shown }))
    }

    async fn revoke_key(&self, request: Request<pb::RevokeKeyRequest>) -> Result<Response<pb::Key>, Status> {
        let (caller, pb::RevokeKeyRequest { name, validate_only }) = admit(request)?;
        let (workspace, key) = names::child(&name, "keys")?;
        let set = self.changes.current().map_err(Refusal::from)?;
        let id = workspace_in(&set, workspace)?;
        let (now, journal) = (self.clock.now(), self.catalog.journal().borrow().clone());
        let (hash, found) = journal.keys.find(id, key, now).map_err(|why| nameless(why, workspace, key))?;
        let ended = WriteKey { until: Some(now), ..found.clone() };
        if !validate_only {
            let subject = format!("workspaces/{workspace}/sources/{}", found.source);
            let line = Line::of(&caller, Act::RevokeKey, subject).changes(hash, "");
            let revoked = journal.keys.revocation(hash, found).said(now, caller.name());
            // It names the key that stays: where another line has come meanwhile, that may be another one.
            self.audit.acted(line, async { Ok(self.changes.enter_behind(&journal, Entry::Key(revoked)).await?) }).await?;
        }
        Ok(Response::new(shown(workspace, hash, &ended)))
    }
}

/// Where a key stands in the list: by source, the newest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    source: &'a str,
    made_at: i64,
    hash: &'a str,
}

// === impl Place ===

impl<'a> Place<'a> {
    fn of(hash: &'a str, key: &'a WriteKey) -> Self {
        Self { source: &key.source, made_at: key.made_at.map_or(0, Timestamp::millis), hash }
    }

    fn token(self) -> String {
        format!("{}.{}.{}", self.made_at, self.hash, self.source)
    }

    fn parse(token: &'a str) -> Result<Self, Refusal> {
        let parts = token.split_once('.').and_then(|(at, rest)| Some((at.parse().ok()?, rest.split_once('.')?)));
        let wrong = || Refusal::Invalid("INVALID_PAGE_TOKEN", "this is no page token of this list: ask from the first page".to_owned());
        parts.map(|(made_at, (hash, source))| Self { source, made_at, hash }).ok_or_else(wrong)
    }
}

/// For how long the keys of before are kept; none: not at all.
fn kept(asked: Option<prost_types::Duration>) -> Result<Option<Span>, Refusal> {
    let prost_types::Duration { seconds, nanos } = asked.unwrap_or_default();
    let span = Span::from_millis(seconds.saturating_mul(1_000).saturating_add(i64::from(nanos) / 1_000_000));
    if seconds < 0 || nanos < 0 || span > KEPT_MAX {
        let why = "keep_old_for is between nothing and 90 days: a key that is to stay longer is not replaced yet";
        return Err(Refusal::Invalid("INVALID_KEEP_OLD_FOR", why.to_owned()));
    }
    Ok((span.millis() > 0).then_some(span))
}

fn nameless(why: NoKey, workspace: &str, id: &str) -> Refusal {
    Refusal::NotFound(match why {
        NoKey::Unknown => {
            format!("no key of workspace `{workspace}` that is good now is called `{id}`; ListKeys says what they are called")
        }
        NoKey::Ambiguous => {
            format!("more than one key of workspace `{workspace}` begins with `{id}`: the audit topic has their whole hashes")
        }
    })
}

fn shown(workspace: &str, hash: &str, key: &WriteKey) -> pb::Key {
    pb::Key {
        name: format!("workspaces/{workspace}/keys/{}", keys::id(hash)),
        source: format!("workspaces/{workspace}/sources/{}", key.source),
        made_at: key.made_at.map_or(0, Timestamp::millis),
        made_by: key.made_by.clone(),
        until: key.until.map_or(0, Timestamp::millis),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_before_are_kept_for_ninety_days_at_most() {
        let of = |seconds, nanos| kept(Some(prost_types::Duration { seconds, nanos })).map_err(|refusal| refusal.reason());
        assert_eq!(kept(None).ok(), Some(None));
        assert_eq!(of(0, 0), Ok(None));
        assert_eq!(of(86_400, 5_000_000), Ok(Some(Span::from_millis(86_400_005))));
        assert_eq!(of(90 * 86_400, 0), Ok(Some(KEPT_MAX)));
        for (seconds, nanos) in [(90 * 86_400, 1_000_000), (-1, 0), (0, -1), (i64::MAX, 0), (i64::MIN, i32::MIN)] {
            assert_eq!(of(seconds, nanos), Err("INVALID_KEEP_OLD_FOR"), "{seconds} {nanos}");
        }
    }

    #[test]
    fn a_page_token_says_where_to_go_on() {
        let place = Place { source: "shop.web", made_at: 7, hash: "0123" };
        assert_eq!(Place::parse(&place.token()).ok(), Some(place));
        for wrong in ["", "7", "7.0123", "x.0123.web"] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }
}
