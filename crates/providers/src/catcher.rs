//! A provider that keeps every message where it can be read: files in a folder, and a list.
//!
//! Nothing here waits on a runtime, so it serves the embedded driver too. Files stay, and nothing is
//! overwritten: a message that came twice lies there twice.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use waypost_codec::inbox::Outcome;
use waypost_sender::{Capabilities, Channel, OutgoingEmail, Provider, ProviderOutcome};

/// One message that was caught.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caught {
    /// Counts from 1 in its folder.
    pub number: u64,
    /// When its send was decided, RFC 3339.
    pub at: String,
    /// Dispatch id, text form.
    pub dispatch: String,
    /// Envelope sender.
    pub from: String,
    /// Envelope recipient.
    pub to: String,
    /// Subject.
    pub subject: String,
    /// Name of its files, without ending; empty where none are written.
    pub file: String,
}

/// Keeps messages instead of sending them.
#[derive(Debug)]
pub struct Catcher {
    folder: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    list: Vec<Caught>,
    // Bodies, where there is no folder to hold them.
    messages: Vec<OutgoingEmail>,
}

const INDEX: &str = "index.jsonl";
const PAGE: &str = "index.html";
const PAGE_HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Caught messages</title>\
<style>body{font:14px/1.5 system-ui,sans-serif;margin:2rem}table{border-collapse:collapse}td,th{padding:.3rem .8rem;text-align:left;\
border-bottom:1px solid #ddd}</style><h1>Caught messages</h1><p>Nothing here was sent to anybody.</p>\
<table><tr><th>#<th>Decided<th>To<th>Subject<th>Read\n";

// === impl Caught ===

impl Caught {
    /// Of a message, with the names of the files that it has in a folder.
    pub fn of(number: u64, message: &OutgoingEmail) -> Self {
        Self {
            number,
            at: message.at.to_string(),
            dispatch: message.dispatch.clone(),
            from: message.from.clone(),
            to: message.to.clone(),
            subject: message.subject.clone(),
            file: file_name(number, message),
        }
    }

    /// Its row of the page, with links to its files.
    pub fn row(&self) -> String {
        let [number, at, to, subject] = [&self.number.to_string(), &self.at, &self.to, &self.subject].map(|cell: &String| escaped(cell));
        let file = &self.file;
        let links = format!("<a href=\"{file}.html\">page</a> <a href=\"{file}.txt\">text</a> <a href=\"{file}.eml\">source</a>");
        format!("<tr><td>{number}<td>{at}<td>{to}<td>{subject}<td>{links}\n")
    }
}

// === impl Catcher ===

impl Catcher {
    /// Keeps messages in memory only; for tests.
    pub fn in_memory() -> Self {
        Self { folder: None, state: Mutex::default() }
    }

    /// Keeps messages as files in `folder`, which is made if it is not there; what lies there stays.
    pub fn in_folder(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder)?;
        let index = folder.join(INDEX);
        let known = if index.exists() { fs::read_to_string(&index)? } else { String::new() };
        // A line that a crash cut off is no message; its files are there all the same.
        let list = known.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if !known.is_empty() && !known.ends_with('\n') {
            append(&index, "\n")?;
        }
        let page = folder.join(PAGE);
        if !page.exists() {
            fs::write(&page, PAGE_HEAD)?;
        }
        Ok(Self { folder: Some(folder), state: Mutex::new(State { list, messages: Vec::new() }) })
    }

    /// Where the files are.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Everything caught so far, oldest first.
    pub fn list(&self) -> Vec<Caught> {
        self.lock().list.clone()
    }

    /// How many messages there are.
    pub fn count(&self) -> usize {
        self.lock().list.len()
    }

    /// The messages themselves, where there is no folder.
    pub fn messages(&self) -> Vec<OutgoingEmail> {
        self.lock().messages.clone()
    }

    /// The HTML part of one message.
    pub fn html(&self, number: u64) -> Option<String> {
        let state = self.lock();
        let at = state.list.iter().position(|caught| caught.number == number)?;
        match &self.folder {
            Some(folder) => fs::read_to_string(folder.join(format!("{}.html", state.list[at].file))).ok(),
            None => state.messages.get(at).map(|message| message.html.clone()),
        }
    }

    fn catch(&self, message: &OutgoingEmail) -> io::Result<u64> {
        let mut state = self.lock();
        let number = state.list.last().map_or(0, |caught| caught.number) + 1;
        let mut caught = Caught::of(number, message);
        if self.folder.is_none() {
            caught.file.clear();
        }
        match &self.folder {
            None => state.messages.push(message.clone()),
            Some(folder) => {
                fs::write(folder.join(format!("{}.eml", caught.file)), &message.raw)?;
                fs::write(folder.join(format!("{}.html", caught.file)), &message.html)?;
                fs::write(folder.join(format!("{}.txt", caught.file)), readable(message))?;
                append(&folder.join(PAGE), &caught.row())?;
                let line = serde_json::to_string(&caught).map_err(io::Error::other)?;
                // Last: what is in the list has its files.
                append(&folder.join(INDEX), &format!("{line}\n"))?;
            }
        }
        state.list.push(caught);
        Ok(number)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Provider for Catcher {
    fn capabilities(&self, _: &Channel) -> Capabilities {
        Capabilities::NONE
    }

    async fn send(&self, _: &Channel, message: &OutgoingEmail) -> ProviderOutcome {
        match self.catch(message) {
            Ok(number) => ProviderOutcome::accepted(format!("caught-{number}")),
            // Nothing is in the list, so nobody was told of it.
            Err(error) => {
                tracing::warn!(%error, "the catcher cannot write");
                ProviderOutcome::other(Outcome::Transient, error.kind().to_string())
            }
        }
    }
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())
}

// Sorts by arrival, says whom it is for, and is a file name on every system.
fn file_name(number: u64, message: &OutgoingEmail) -> String {
    let plain = |text: &str, longest: usize| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).take(longest).collect()
    };
    let day: String = message.at.to_string().chars().take(10).collect();
    format!("{number:06}_{}_{}_{}", plain(&day, 10), plain(&message.to.replace('@', "-at-"), 60), plain(&message.subject, 40))
}

fn readable(message: &OutgoingEmail) -> String {
    let OutgoingEmail { from, to, subject, at, text, .. } = message;
    format!("From:    {from}\nTo:      {to}\nSubject: {subject}\nDecided: {at}\n\n{text}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::executor::block_on;
    use waypost_types::Timestamp;

    use super::*;
    use crate::fixture::channel;

    fn message(subject: &str) -> OutgoingEmail {
        OutgoingEmail {
            dispatch: "dsp_01".to_owned(),
            from: "hello@shop.example".to_owned(),
            to: "../ann@shop.example".to_owned(),
            message_id: "01@shop.example".to_owned(),
            at: Timestamp::from_millis(1_767_222_000_000),
            subject: subject.to_owned(),
            html: "<p>Hi</p>".to_owned(),
            text: "Hi\n".to_owned(),
            raw: Bytes::from_static(b"Subject: x\r\n\r\nHi\r\n"),
        }
    }

    #[test]
    fn messages_lie_as_files_that_stay() {
        let dir = tempfile::tempdir().unwrap();
        for life in 0..2 {
            let catcher = Catcher::in_folder(dir.path().join("mail")).unwrap();
            assert_eq!(catcher.count(), life);
            let outcome = block_on(catcher.send(&channel(), &message("a <b> & c")));
            assert_eq!((outcome.class, outcome.provider_id), (Outcome::Accepted, format!("caught-{}", life + 1)));
            assert_eq!(catcher.html(life as u64 + 1).as_deref(), Some("<p>Hi</p>"));
        }
        let folder = dir.path().join("mail");
        let mut names: Vec<String> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names.len(), 8, "{names:?}");
        assert_eq!(names[0], "000001_2025-12-31_..-ann-at-shop.example_a--b----c.eml");
        assert_eq!(fs::read(folder.join(&names[0])).unwrap(), b"Subject: x\r\n\r\nHi\r\n");
        let page = fs::read_to_string(folder.join(PAGE)).unwrap();
        assert_eq!(page.matches("<td>a &lt;b&gt; &amp; c").count(), 2, "{page}");
        let text = fs::read_to_string(folder.join(names[2].as_str())).unwrap();
        assert!(text.contains("To:      ../ann@shop.example\n") && text.ends_with("\n\nHi\n"), "{text}");
    }

    #[test]
    fn a_cut_off_line_is_no_message() {
        let dir = tempfile::tempdir().unwrap();
        block_on(Catcher::in_folder(dir.path()).unwrap().send(&channel(), &message("one")));
        append(&dir.path().join(INDEX), "{\"number\":2,\"at").unwrap();
        let catcher = Catcher::in_folder(dir.path()).unwrap();
        assert_eq!(catcher.count(), 1);
        block_on(catcher.send(&channel(), &message("two")));
        assert_eq!(Catcher::in_folder(dir.path()).unwrap().list().iter().map(|c| c.number).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_full_disk_is_no_acceptance() {
        let dir = tempfile::tempdir().unwrap();
        let catcher = Catcher::in_folder(dir.path().join("mail")).unwrap();
        fs::remove_dir_all(dir.path().join("mail")).unwrap();
        assert_eq!(block_on(catcher.send(&channel(), &message("x"))).class, Outcome::Transient);
        assert_eq!(catcher.count(), 0);
    }

    #[test]
    fn without_a_folder_messages_are_kept_in_memory() {
        let catcher = Catcher::in_memory();
        block_on(catcher.send(&channel(), &message("x")));
        assert_eq!((catcher.count(), catcher.messages().len(), catcher.html(1).as_deref()), (1, 1, Some("<p>Hi</p>")));
    }
}
