//! A mail server that keeps what it is given and misbehaves when told to.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::story::now;

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    Well,
    /// Takes connections and never greets.
    Silent,
    /// Takes the message and hangs up without an answer.
    DiesAfterData,
    /// Takes the message and says nothing until the manner changes, then hangs up.
    SilentAfterData,
    /// 451 at RCPT: come again.
    Busy,
    /// 421 at RCPT: too much at once.
    Throttles,
    /// 554 after the message: not this one.
    Refuses,
    /// Closes connections at once.
    Closed,
    /// Takes its time with each answer.
    Slow,
}

/// A slow provider's time for an answer.
pub(super) const SLOW: Duration = Duration::from_millis(1_500);

/// What the client was told of a message that was handed over whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// 250; whether it arrived is another matter.
    Accepted,
    /// Nothing.
    Nothing,
    /// 554.
    Refused,
}

/// A message that was handed over whole.
#[derive(Clone, Debug)]
pub struct Mail {
    /// When its final dot came.
    pub at: i64,
    /// Envelope.
    pub to: String,
    /// Its subject.
    pub subject: String,
    /// `List-Unsubscribe`, without brackets.
    pub unsubscribe: String,
    /// What the client heard.
    pub told: Told,
}

/// The server; it ends with the runner.
#[derive(Debug)]
pub struct Sink {
    /// Where it listens.
    pub port: u16,
    manner: watch::Sender<Manner>,
    mails: Arc<Mutex<Vec<Mail>>>,
}

// === impl Sink ===

impl Sink {
    /// Opens it on a free port.
    ///
    /// # Errors
    /// If there is none.
    pub async fn open() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let manner = watch::Sender::new(Manner::Well);
        let mails: Arc<Mutex<Vec<Mail>>> = Arc::default();
        let (watched, kept) = (manner.subscribe(), Arc::clone(&mails));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (watched, kept) = (watched.clone(), Arc::clone(&kept));
                // A client that is killed in mid-sentence is no news.
                tokio::spawn(async move { drop(serve(stream, watched, &kept).await) });
            }
        });
        Ok(Self { port, manner, mails })
    }

    /// From now on.
    pub fn behave(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    /// Everything that was handed over.
    pub fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(stream: TcpStream, mut manner: watch::Receiver<Manner>, kept: &Mutex<Vec<Mail>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let at_first = *manner.borrow();
    match at_first {
        Manner::Closed => return Ok(()),
        Manner::Silent => {}
        Manner::Well
        | Manner::DiesAfterData
        | Manner::SilentAfterData
        | Manner::Busy
        | Manner::Throttles
        | Manner::Refuses
        | Manner::Slow => {
            stream.write_all(b"220 sink.example ESMTP\r\n").await?;
        }
    }
    let mut to = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let now_is = *manner.borrow_and_update();
        if matches!(now_is, Manner::Silent) {
            // until somebody gives up or it comes to its senses, and then it has forgotten what this was about
            drop(manner.wait_for(|m| *m != Manner::Silent).await);
            return Ok(());
        }
        let word = line.trim_end().to_ascii_uppercase();
        let answer: &[u8] = if word.starts_with("EHLO") {
            b"250-sink.example\r\n250 8BITMIME\r\n"
        } else if word.starts_with("RCPT TO:") {
            line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(path, _)| path).clone_into(&mut to);
            match now_is {
                Manner::Busy => b"451 4.3.0 come again\r\n",
                Manner::Throttles => b"421 4.7.0 too much at once\r\n",
                Manner::Well
                | Manner::Silent
                | Manner::DiesAfterData
                | Manner::SilentAfterData
                | Manner::Refuses
                | Manner::Closed
                | Manner::Slow => b"250 2.1.5 ok\r\n",
            }
        } else if word == "DATA" {
            stream.write_all(b"354 go on\r\n").await?;
            let raw = message(&mut stream).await?;
            let Some(raw) = raw else { return Ok(()) };
            let at_last = *manner.borrow_and_update();
            let told = match at_last {
                Manner::DiesAfterData | Manner::SilentAfterData => Told::Nothing,
                Manner::Refuses => Told::Refused,
                Manner::Well | Manner::Silent | Manner::Busy | Manner::Throttles | Manner::Closed | Manner::Slow => Told::Accepted,
            };
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(Mail::parse(&to, &raw, told));
            match told {
                Told::Accepted => b"250 2.0.0 queued\r\n",
                Told::Refused => b"554 5.6.0 not this one\r\n",
                Told::Nothing => {
                    if at_last == Manner::SilentAfterData {
                        drop(manner.wait_for(|m| *m != Manner::SilentAfterData).await);
                    }
                    return Ok(());
                }
            }
        } else if word == "QUIT" {
            return stream.write_all(b"221 2.0.0 bye\r\n").await;
        } else {
            b"250 2.0.0 ok\r\n"
        };
        if now_is == Manner::Slow {
            tokio::time::sleep(SLOW).await;
        }
        stream.write_all(answer).await?;
    }
}

async fn message(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut raw = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        if line == ".\r\n" {
            return Ok(Some(raw));
        }
        raw += line.strip_prefix('.').unwrap_or(&line);
    }
}

// === impl Mail ===

impl Mail {
    fn parse(to: &str, raw: &str, told: Told) -> Self {
        let head = raw.split("\r\n\r\n").next().unwrap_or("").replace("\r\n ", " ").replace("\r\n\t", " ");
        let header = |name: &str| {
            let found = head.lines().filter_map(|line| line.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name));
            found.map_or_else(String::new, |(_, value)| value.trim().trim_matches(['<', '>']).to_owned())
        };
        Self { at: now(), to: to.to_owned(), subject: header("subject"), unsubscribe: header("list-unsubscribe"), told }
    }
}
