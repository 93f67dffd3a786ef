//! Secrets of files that are read again when they change: the keys of links, the password of the mail server.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::anyhow;
use waypost_codec::unsubscribe::{LinkKeys, TokenKey, TokenKeys};
use waypost_control::{Content, Reread};
use waypost_runtime::install::InstallRecord;
use zeroize::Zeroizing;

use crate::config::Config;

/// The keys of unsubscribe links, as their file has them at the moment.
pub(super) fn link_keys(config: &Config, record: &InstallRecord) -> anyhow::Result<LinkKeys> {
    let path = &config.secrets.link_key_file;
    if path.is_empty() {
        tracing::warn!("secrets.link_key_file is not set: links are signed with a key derived from the install id, for development only");
        return Ok(TokenKey::new(*blake3::keyed_hash(&record.hash_key(), b"links").as_bytes()).into());
    }
    let known = Mutex::default();
    let make = move |contents: &[Content]| {
        let keys = read(contents.first().map_or(&[], |content| content.as_slice()))?;
        Ok(with_those_before(keys, &mut known.lock().unwrap_or_else(PoisonError::into_inner)))
    };
    let file = Reread::open("secrets.link_key_file", vec![path.into()], make).map_err(|why| anyhow!("secrets.link_key_file: {why}"))?;
    Ok(LinkKeys::new(move || file.current()))
}

/// One key a line; empty lines are none.
fn read(content: &[u8]) -> Result<TokenKeys, String> {
    // What is wrong is said by its place: the line itself may be most of a key.
    let wrong = |number: usize| format!("line {number} must be 64 hex digits");
    let text = std::str::from_utf8(content).map_err(|_| "the file must be text".to_owned())?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let key = |(at, line): (usize, &str)| {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(line.trim(), bytes.as_mut_slice()).map_err(|_| wrong(at + 1))?;
        Ok(TokenKey::new(*bytes))
    };
    let mut keys = lines.map(key);
    let first = keys.next().unwrap_or_else(|| Err(wrong(1)))?;
    Ok(TokenKeys { first, others: keys.collect::<Result<_, _>>()? })
}

/// A key that is gone from the file has sealed links that lie in people's mail: they are good until this process ends.
fn with_those_before(keys: TokenKeys, known: &mut Vec<TokenKey>) -> TokenKeys {
    let TokenKeys { first, mut others } = keys;
    let has: Vec<TokenKey> = std::iter::once(&first).chain(&others).cloned().collect();
    let gone: Vec<TokenKey> = known.iter().filter(|key| !has.contains(key)).cloned().collect();
    if !gone.is_empty() {
        let count = gone.len();
        tracing::warn!(
            count,
            "keys are gone from secrets.link_key_file: links under them are good until this process ends; put them back below the first"
        );
    }
    for key in has {
        if !known.contains(&key) {
            known.push(key);
        }
    }
    others.extend(gone);
    TokenKeys { first, others }
}

/// The password of the mail server, as its file has it when a connection is made.
pub(super) fn smtp_password(path: &str) -> anyhow::Result<Arc<dyn Fn() -> Zeroizing<String> + Send + Sync>> {
    let make = |contents: &[Content]| {
        let text = contents.first().map_or(&[][..], |content| content.as_slice());
        let password = std::str::from_utf8(text).map_err(|_| "the password must be text".to_owned())?.trim_end();
        if password.is_empty() { Err("there is no password in it".to_owned()) } else { Ok(Zeroizing::new(password.to_owned())) }
    };
    let file = Reread::open("mail.smtp_password_file", vec![path.into()], make).map_err(|why| anyhow!("mail.smtp_password_file: {why}"))?;
    Ok(Arc::new(move || file.current().as_ref().clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(of: u8) -> TokenKey {
        TokenKey::new([of; 32])
    }

    #[test]
    fn the_first_line_seals_and_what_is_no_key_is_told_by_its_line() {
        let line = |of: u8| hex::encode([of; 32]);
        let text = format!("{}\n\n  {}\r\n", line(1), line(2));
        assert_eq!(read(text.as_bytes()), Ok(TokenKeys { first: key(1), others: vec![key(2)] }));
        assert_eq!(read(b"\n").unwrap_err(), "line 1 must be 64 hex digits");
        let said = read(format!("{}\n{}x", line(1), line(2)).as_bytes()).unwrap_err();
        assert_eq!(said, "line 2 must be 64 hex digits");
    }

    #[test]
    fn a_key_that_was_taken_out_is_good_until_the_process_ends() {
        let mut known = Vec::new();
        let mut next = |first: u8, others: &[u8]| {
            let keys = TokenKeys { first: key(first), others: others.iter().copied().map(key).collect() };
            with_those_before(keys, &mut known).others
        };
        assert_eq!(next(1, &[]), []);
        assert_eq!(next(2, &[]), [key(1)]);
        assert_eq!(next(3, &[2]), [key(2), key(1)]);
        assert_eq!(next(1, &[]), [key(2), key(3)]);
    }

    #[test]
    fn a_login_follows_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "one\n").unwrap();
        let password = smtp_password(path.to_str().unwrap()).unwrap();
        assert_eq!(*password(), "one");
        for (content, expected) in [("two\n", "two"), ("\n", "two")] {
            std::fs::write(&path, content).unwrap();
            // as long as a look at a file holds
            std::thread::sleep(std::time::Duration::from_millis(1_100));
            assert_eq!(*password(), expected);
        }
        assert!(smtp_password("/no/such/file").is_err());
    }
}
