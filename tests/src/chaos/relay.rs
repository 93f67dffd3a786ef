//! A relay that takes mail over HTTP, keeps what it did and misbehaves when told to. At `/send` it honours
//! idempotency keys; at `/plain` it knows none, and what comes twice is two messages.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value as Json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{
    sink::{Mail, SLOW, Told},
    story::now,
};

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    Well,
    /// 429 with a pause; nothing done.
    Throttles,
    /// 503; nothing done.
    Fails,
    /// Reads the request and hangs up; nothing done.
    Resets,
    /// Does it and hangs up.
    DiesAfterwards,
    /// Does it and says nothing until the manner changes, then hangs up.
    Mute,
    /// Does it, and a gateway on the way answers 502.
    Unsure,
    /// 422: not this one.
    Refuses,
    /// Does it and takes its time to say so.
    Slow,
}

/// The relay; it ends with the runner.
#[derive(Debug)]
pub struct Relay {
    /// Where it listens.
    pub port: u16,
    manner: watch::Sender<Manner>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    // By key: a repeat of one is no second message.
    keyed: BTreeMap<String, Mail>,
    plain: Vec<Mail>,
}

struct Request {
    path: String,
    key: String,
    body: Json,
}

// === impl Relay ===

impl Relay {
    /// Opens it on a free port.
    ///
    /// # Errors
    /// If there is none.
    pub async fn open() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let manner = watch::Sender::new(Manner::Well);
        let taken: Arc<Mutex<Taken>> = Arc::default();
        let (watched, kept) = (manner.subscribe(), Arc::clone(&taken));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (watched, kept) = (watched.clone(), Arc::clone(&kept));
                // A client that is killed in mid-sentence is no news.
                tokio::spawn(async move { drop(serve(stream, watched, &kept).await) });
            }
        });
        Ok(Self { port, manner, taken })
    }

    /// From now on.
    pub fn behave(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    /// Everything that was taken, each key once.
    pub fn mails(&self) -> Vec<Mail> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.keyed.values().chain(&taken.plain).cloned().collect()
    }
}

async fn serve(stream: TcpStream, mut manner: watch::Receiver<Manner>, taken: &Mutex<Taken>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let Some(request) = request(&mut stream).await? else { return Ok(()) };
    let now_is = *manner.borrow_and_update();
    let told = match now_is {
        Manner::Throttles | Manner::Fails | Manner::Resets => None,
        Manner::Well | Manner::Slow => Some(Told::Accepted),
        Manner::DiesAfterwards | Manner::Mute | Manner::Unsure => Some(Told::Nothing),
        Manner::Refuses => Some(Told::Refused),
    };
    if let Some(told) = told {
        taken.lock().unwrap_or_else(PoisonError::into_inner).take(request, told);
    }
    if now_is == Manner::Slow {
        tokio::time::sleep(SLOW).await;
    }
    let answer = match now_is {
        Manner::Well | Manner::Slow => "200 OK\r\ncontent-length: 12\r\nconnection: close\r\n\r\n{\"id\": \"r1\"}",
        Manner::Throttles => "429 Too Many Requests\r\nretry-after: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        Manner::Fails => "503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        Manner::Unsure => "502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        Manner::Refuses => "422 Unprocessable Content\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        Manner::Resets | Manner::DiesAfterwards => return Ok(()),
        Manner::Mute => {
            drop(manner.wait_for(|m| *m != Manner::Mute).await);
            return Ok(());
        }
    };
    stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await
}

// === impl Taken ===

impl Taken {
    /// Notes a message. Under a key what was taken once stays taken; that it was refused holds only until it is taken.
    fn take(&mut self, request: Request, told: Told) {
        let text = |name: &str| request.body[name].as_str().unwrap_or_default().to_owned();
        let mail = Mail { at: now(), to: text("to"), subject: text("subject"), unsubscribe: String::new(), told };
        if request.path == "/plain" {
            self.plain.push(mail);
            return;
        }
        match self.keyed.get_mut(&request.key) {
            Some(mail) if told != Told::Refused => mail.told = if mail.told == Told::Accepted { Told::Accepted } else { told },
            Some(_) => {}
            None => drop(self.keyed.insert(request.key, mail)),
        }
    }
}

async fn request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let (mut path, mut key, mut length) = (String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else {
            if line.trim().is_empty() {
                break;
            }
            line.split(' ').nth(1).unwrap_or_default().clone_into(&mut path);
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "idempotency-key" => value.trim().clone_into(&mut key),
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(serde_json::from_slice(&body).ok().map(|body| Request { path, key, body }))
}
