//! Write keys as the journal has them: which key is whose, who made it, and until when it is good.
//!
//! To the binaries of before a line about keys says one thing: this source has this key and no other. Every line written here still
//! says it to them, and holds wherever they take it to hold, or their chain and ours would part. So an older binary ends a key that is
//! kept at once, which refuses events and lets nobody in; and of a revoked key it knows nothing any more either, because the line that
//! revokes names the key that stays. Whoever wants an overlap has every ingest process on a binary that knows it first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use waypost_types::{Timestamp, WorkspaceId};

/// Digits of a key's hash by which people name it.
const ID: usize = 12;

/// What the journal says of one source's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLine {
    /// Workspace.
    pub workspace: u32,
    /// Name of the source.
    pub source: String,
    /// BLAKE3 of the key, hex: a new one; where a key is revoked the one that the source goes on with, empty for none.
    pub hash: String,
    /// When, ms, by the writer's clock; none in lines of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    /// Who; empty in lines of before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Until when the keys of before stay good, ms; none: they end with this line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_until: Option<i64>,
    /// Hash of the key that ends with this line, and nothing else changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revokes: Option<String>,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteKey {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Name of its source.
    pub source: String,
    /// When it was made; not known of keys of before.
    pub made_at: Option<Timestamp>,
    /// Who made it; empty: not known.
    pub made_by: String,
    /// From when on it is refused; none: it stays.
    pub until: Option<Timestamp>,
}

/// All keys by their hashes, also those whose end has come: it is for whoever looks to know what time it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteKeys(BTreeMap<String, WriteKey>);

/// Why an id names no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// There is none.
    Unknown,
    /// There are several.
    Ambiguous,
}

/// The short form of a key's hash.
pub(crate) fn id(hash: &str) -> &str {
    hash.get(..ID).unwrap_or(hash)
}

// === impl KeyLine ===

impl KeyLine {
    /// A new key, by its hash, beside which no other stays good.
    pub fn new(workspace: WorkspaceId, source: impl Into<String>, hash: impl Into<String>) -> Self {
        let (workspace, source, hash) = (workspace.number(), source.into(), hash.into());
        Self { workspace, source, hash, at: None, by: String::new(), keep_until: None, revokes: None }
    }

    /// Said by somebody at a time.
    #[must_use]
    pub fn said(self, at: Timestamp, by: impl Into<String>) -> Self {
        Self { at: Some(at.millis()), by: by.into(), ..self }
    }

    /// The keys of before stay good until then.
    #[must_use]
    pub fn keeping(self, until: Option<Timestamp>) -> Self {
        Self { keep_until: until.map(Timestamp::millis), ..self }
    }
}

// === impl WriteKey ===

impl WriteKey {
    /// Whether it is taken at this time.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// When it ends if its source gets a new key and those of before are kept until then: a later end than it has it does not get.
    pub(crate) fn end_beside(&self, kept_until: Timestamp) -> Timestamp {
        self.until.map_or(kept_until, |until| until.min(kept_until))
    }

    fn is_of(&self, workspace: WorkspaceId, source: &str) -> bool {
        self.workspace == workspace && self.source == source
    }
}

// === impl WriteKeys ===

impl WriteKeys {
    /// Folds a line; every one holds.
    pub(crate) fn fold(&mut self, line: KeyLine) {
        let KeyLine { workspace, source, hash, at, by, keep_until, revokes } = line;
        let (workspace, at) = (WorkspaceId::new(workspace), at.map(Timestamp::from_millis));
        if let Some(revoked) = revokes {
            self.0.retain(|hash, key| *hash != revoked || !key.is_of(workspace, &source));
            return;
        }
        self.0.retain(|_, key| {
            if !key.is_of(workspace, &source) {
                return true;
            }
            let Some(until) = keep_until else { return false };
            key.until = Some(key.end_beside(Timestamp::from_millis(until)));
            // What had ended when this was written is not carried along for ever.
            at.is_none_or(|at| key.is_good(at))
        });
        self.0.insert(hash, WriteKey { workspace, source, made_at: at, made_by: by, until: None });
    }

    /// Every key with its hash.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &WriteKey)> {
        self.0.iter().map(|(hash, key)| (hash.as_str(), key))
    }

    /// The good keys of a workspace.
    pub(crate) fn good(&self, workspace: WorkspaceId, now: Timestamp) -> impl Iterator<Item = (&str, &WriteKey)> {
        self.iter().filter(move |(_, key)| key.workspace == workspace && key.is_good(now))
    }

    /// The good keys of a source.
    pub(crate) fn of<'a>(
        &'a self,
        workspace: WorkspaceId,
        source: &'a str,
        now: Timestamp,
    ) -> impl Iterator<Item = (&'a str, &'a WriteKey)> {
        self.good(workspace, now).filter(move |(_, key)| key.source == source)
    }

    /// The one good key of a workspace that an id means.
    ///
    /// # Errors
    /// [`NoKey`].
    pub(crate) fn find(&self, workspace: WorkspaceId, id: &str, now: Timestamp) -> Result<(&str, &WriteKey), NoKey> {
        // Fewer digits than people are shown would soon mean another key than was meant.
        let mut found = self.good(workspace, now).filter(|(hash, _)| id.len() >= ID && hash.starts_with(id));
        match (found.next(), found.next()) {
            (None, _) => Err(NoKey::Unknown),
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(NoKey::Ambiguous),
        }
    }

    /// The line that ends a key: it names the one that the source goes on with, which is all that an older binary reads.
    pub(crate) fn revocation(&self, hash: &str, key: &WriteKey) -> KeyLine {
        let stays = self.0.iter().find(|(other, k)| *other != hash && k.until.is_none() && k.is_of(key.workspace, &key.source));
        let stays = stays.map_or("", |(hash, _)| hash);
        KeyLine { revokes: Some(hash.to_owned()), ..KeyLine::new(key.workspace, &key.source, stays) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Entry, Folded, Journal};

    const SHOP: WorkspaceId = WorkspaceId::new(1);

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn made(hash: &str, now: i64, keep_until: Option<i64>) -> KeyLine {
        KeyLine::new(SHOP, "web", hash).said(at(now), "ana").keeping(keep_until.map(at))
    }

    /// A journal in which these lines stand, and its bytes.
    fn journal(lines: &[KeyLine]) -> (Journal, Vec<Vec<u8>>) {
        let (mut journal, mut bytes) = (Journal::default(), Vec::new());
        for (offset, line) in (0..).zip(lines) {
            let line = journal.line(Entry::Key(line.clone()));
            assert_eq!(journal.fold(offset, &line), Folded::Valid);
            bytes.push(line);
        }
        (journal, bytes)
    }

    /// Hashes of the keys of `web` that are good.
    fn good(journal: &Journal, now: i64) -> Vec<&str> {
        journal.keys.of(SHOP, "web", at(now)).map(|(hash, _)| hash).collect()
    }

    #[test]
    fn a_new_key_ends_the_source_s_old_one_at_once_unless_it_is_kept() {
        let (at_once, _) = journal(&[made("1", 100, None), made("2", 200, None)]);
        assert_eq!(good(&at_once, 200), ["2"]);
        let (kept, _) = journal(&[made("1", 100, None), made("2", 200, Some(300))]);
        assert_eq!(good(&kept, 299), ["1", "2"]);
        assert_eq!(good(&kept, 300), ["2"], "its end is the first instant at which it is refused");
        let new = kept.keys.of(SHOP, "web", at(300)).next().unwrap().1;
        assert_eq!((new.made_at, new.made_by.as_str(), new.until), (Some(at(200)), "ana", None));
    }

    #[test]
    fn a_further_key_gives_no_kept_one_a_later_end() {
        let (journal_, _) = journal(&[made("1", 100, None), made("2", 200, Some(300)), made("3", 210, Some(900))]);
        assert_eq!(good(&journal_, 299), ["1", "2", "3"]);
        assert_eq!(good(&journal_, 300), ["2", "3"]);
        assert_eq!(good(&journal_, 900), ["3"]);
        let (sooner, _) = journal(&[made("1", 100, None), made("2", 200, Some(900)), made("3", 210, Some(300))]);
        assert_eq!(good(&sooner, 300), ["3"], "but a sooner one");
        let (none, _) = journal(&[made("1", 100, None), made("2", 200, Some(900)), made("3", 210, None)]);
        assert_eq!(good(&none, 210), ["3"], "or none at all");
        let (later, _) = journal(&[made("1", 100, None), made("2", 200, Some(300)), made("3", 400, Some(900))]);
        assert_eq!(later.keys.iter().map(|(hash, _)| hash).collect::<Vec<_>>(), ["2", "3"], "what has ended is forgotten");
    }

    #[test]
    fn sources_have_their_keys_to_themselves() {
        let other = |workspace, source: &str, hash: &str| KeyLine::new(WorkspaceId::new(workspace), source, hash);
        let (journal, _) = journal(&[made("1", 100, None), other(1, "app", "2"), other(2, "web", "3"), made("4", 200, None)]);
        assert_eq!(journal.keys.iter().map(|(hash, _)| hash).collect::<Vec<_>>(), ["2", "3", "4"]);
    }

    #[test]
    fn a_revoked_key_ends_at_once_and_no_other_with_it() {
        let lines = [made("1", 100, None), made("2", 200, Some(900))];
        for (revoked, stays) in [("1", "2"), ("2", "1")] {
            let (mut journal, _) = journal(&lines);
            let (hash, key) = journal.keys.iter().find(|(hash, _)| *hash == revoked).unwrap();
            let line = journal.keys.revocation(hash, key).said(at(210), "ben");
            assert_eq!(line.hash, if revoked == "1" { "2" } else { "" }, "what an older binary goes on with");
            let line = journal.line(Entry::Key(line));
            assert_eq!(journal.fold(2, &line), Folded::Valid);
            assert_eq!(good(&journal, 210), [stays]);
        }
        // A key of another source is not this line's to end.
        let (foreign, _) = journal(&[made("1", 100, None), KeyLine { revokes: Some("1".into()), ..KeyLine::new(SHOP, "app", "") }]);
        assert_eq!(good(&foreign, 100), ["1"]);
    }

    #[test]
    fn lines_of_before_are_read_and_know_no_times() {
        let mut journal = Journal::default();
        let line = br#"{"follows":null,"kind":"key","workspace":1,"source":"web","hash":"1"}"#;
        assert_eq!(journal.fold(0, line), Folded::Valid);
        let (hash, key) = journal.keys.iter().next().unwrap();
        assert_eq!((hash, key.made_at, key.made_by.as_str(), key.until), ("1", None, "", None));
        // The same is still written where nothing more is to be said.
        assert_eq!(Journal::default().line(Entry::Key(KeyLine::new(SHOP, "web", "1"))), line);
        let kept = journal.line(Entry::Key(made("2", 200, Some(300))));
        journal.fold(1, &kept);
        assert_eq!((good(&journal, 299), good(&journal, 300)), (vec!["1", "2"], vec!["2"]));
    }

    #[test]
    fn a_binary_of_before_reads_every_line_and_goes_on_with_the_newest_key_alone() {
        #[derive(Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        enum Then {
            Key { workspace: u32, source: String, hash: String },
        }
        #[derive(Deserialize)]
        struct LineThen {
            follows: Option<u64>,
            #[serde(flatten)]
            entry: Then,
        }
        let (mut journal, mut bytes) = journal(&[made("1", 100, None), made("2", 200, Some(900))]);
        let (hash, key) = journal.keys.iter().next().unwrap();
        let revoked = journal.line(Entry::Key(journal.keys.revocation(hash, key)));
        journal.fold(2, &revoked);
        bytes.push(revoked);
        let mut last = None;
        for ((offset, line), expected) in (0..).zip(&bytes).zip(["1", "2", "2"]) {
            let LineThen { follows, entry: Then::Key { workspace, source, hash } } = serde_json::from_slice(line).unwrap();
            assert_eq!((follows, workspace, source.as_str(), hash.as_str()), (last, 1, "web", expected));
            last = Some(offset);
        }
        assert_eq!(journal.last, last, "both follow the same line next");
    }

    #[test]
    fn the_same_lines_give_the_same_keys_and_one_that_comes_again_changes_nothing() {
        let lines = [made("1", 100, None), made("2", 200, Some(900)), made("3", 300, Some(700))];
        let (once, bytes) = journal(&lines);
        let mut again = Journal::default();
        for (offset, line) in (0..).zip(&bytes) {
            again.fold(offset, line);
        }
        assert_eq!(again, once);
        for (offset, line) in (3..).zip(&bytes) {
            assert_eq!(again.fold(offset, line), Folded::Void);
        }
        assert_eq!(again.keys, once.keys);
    }

    #[test]
    fn an_id_means_one_good_key_or_none() {
        let hash = |end: &str| format!("0123456789ab{end}");
        let (journal, _) =
            journal(&[made("fedcba987654aa", 50, None), made(&hash("cd"), 100, Some(150)), made(&hash("ef"), 200, Some(300))]);
        let find = |id: &str, now| journal.keys.find(SHOP, id, at(now)).map(|(hash, _)| hash.to_owned());
        assert_eq!(find("0123456789ab", 299), Err(NoKey::Ambiguous));
        assert_eq!(find("0123456789abc", 299), Ok(hash("cd")), "more digits tell them apart");
        assert_eq!(find("0123456789ab", 300), Ok(hash("ef")), "one that has ended is in nobody's way");
        for unknown in ["fedcba987654", "012345678", "", "0123456789ac"] {
            assert_eq!(find(unknown, 299), Err(NoKey::Unknown), "{unknown}");
        }
        assert_eq!(journal.keys.find(WorkspaceId::new(2), "0123456789abc", at(299)).map(drop), Err(NoKey::Unknown), "another's");
        assert_eq!((id(&hash("cd")), id("1")), ("0123456789ab", "1"));
    }
}
