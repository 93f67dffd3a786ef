//! A mail server that keeps what it is given. How it answers hangs on the recipient:
//! `nobody…` is refused at RCPT with 550, `busy…` once with 451, `mute…` hears no answer after its message.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crate::stack::now;

/// One message that was handed over whole.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    /// When its final dot came.
    pub(crate) at: i64,
    /// Envelope.
    pub(crate) from: String,
    pub(crate) to: String,
    headers: Vec<(String, String)>,
    /// The rest, with quoted-printable undone.
    pub(crate) body: String,
}

/// The server; it ends with the process.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) port: u16,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    mails: Vec<Mail>,
    slow: Duration,
    told_busy: BTreeSet<String>,
}

// === impl Mail ===

impl Mail {
    /// A header, unfolded; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    fn parse(from: &str, to: &str, raw: &str) -> Self {
        let (head, body) = raw.split_once("\r\n\r\n").unwrap_or((raw, ""));
        let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        let headers = head.lines().filter_map(header).collect();
        let body = body.replace("=\r\n", "").replace("=3D", "=");
        Self { at: now(), from: from.to_owned(), to: to.to_owned(), headers, body }
    }
}

// === impl Sink ===

impl Sink {
    pub(crate) fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&theirs);
                // A client that is killed in mid-sentence is no news.
                thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Self { port, shared }
    }

    /// How long each message waits for its answer from now on.
    pub(crate) fn answer_after(&self, slow: Duration) {
        self.lock().slow = slow;
    }

    /// Whether this address was told 451.
    pub(crate) fn was_busy(&self, address: &str) -> bool {
        self.lock().told_busy.contains(address)
    }

    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.lock().mails.clone()
    }

    /// Those to one address, oldest first.
    pub(crate) fn to(&self, address: &str) -> Vec<Mail> {
        self.lock().mails.iter().filter(|m| m.to == address).cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(mut stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lines = BufReader::new(stream.try_clone()?);
    let (mut from, mut to) = (String::new(), String::new());
    stream.write_all(b"220 sink.example ESMTP\r\n")?;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let word = line.trim_end().to_ascii_uppercase();
        let path = || line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(path, _)| path).to_owned();
        let answer: &[u8] = if word.starts_with("EHLO") {
            b"250-sink.example\r\n250 8BITMIME\r\n"
        } else if word.starts_with("MAIL FROM:") {
            from = path();
            b"250 2.1.0 ok\r\n"
        } else if word.starts_with("RCPT TO:") {
            to = path();
            if to.starts_with("nobody") {
                b"550 5.1.1 no such user\r\n"
            } else if to.starts_with("busy") && lock().told_busy.insert(to.clone()) {
                b"451 4.3.0 come again\r\n"
            } else {
                b"250 2.1.5 ok\r\n"
            }
        } else if word == "DATA" {
            stream.write_all(b"354 go on\r\n")?;
            let mut raw = String::new();
            loop {
                let mut line = String::new();
                if lines.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                if line == ".\r\n" {
                    break;
                }
                raw += line.strip_prefix('.').unwrap_or(&line);
            }
            let slow = {
                let mut shared = lock();
                shared.mails.push(Mail::parse(&from, &to, &raw));
                shared.slow
            };
            thread::sleep(slow);
            if to.starts_with("mute") {
                // until the client hangs up
                return lines.read_line(&mut String::new()).map(drop);
            }
            b"250 2.0.0 queued\r\n"
        } else if word == "QUIT" {
            return stream.write_all(b"221 2.0.0 bye\r\n");
        } else {
            b"250 2.0.0 ok\r\n"
        };
        stream.write_all(answer)?;
    }
}
