//! What a server may answer instead of a reply of ours, and what the port makes of it (PROTOCOL §5.3).

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use waypost_redis::RedisStore;
use waypost_runtime::ports::{Commit, CommitReply, Meta, Store, StoreError, Token};
use waypost_types::{PartitionId, Role};

/// A server that knows scripts by their calls alone; the answers are given beforehand, the connections counted.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<Vec<&'static str>>>,
    connections: Arc<AtomicUsize>,
}

/// Ends the connection without an answer.
const HANGS_UP: &str = "";
const OK: &str = "*2\r\n$2\r\nOK\r\n$1\r\n1\r\n";

impl Scripted {
    async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            self.connections.fetch_add(1, Ordering::SeqCst);
            let server = self.clone();
            drop(tokio::task::spawn_local(async move { server.talk(stream).await }));
        }
    }

    async fn talk(self, mut stream: TcpStream) {
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            read.extend_from_slice(&buffer[..count]);
            while let Some((command, rest)) = command(&read) {
                let answer = match command[0].as_str() {
                    "EVALSHA" => self.answers.lock().unwrap().pop().unwrap_or(OK),
                    "SCRIPT" => "$1\r\nx\r\n",
                    _ => "+OK\r\n",
                };
                read = rest;
                if answer == HANGS_UP || stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The first whole command in `bytes`, and what follows it.
fn command(bytes: &[u8]) -> Option<(Vec<String>, Vec<u8>)> {
    let line = |from: usize| {
        let end = from + bytes[from..].windows(2).position(|pair| pair == b"\r\n")?;
        Some((std::str::from_utf8(&bytes[from + 1..end]).ok()?.parse::<usize>().ok()?, end + 2))
    };
    let (count, mut at) = line(0)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (length, begins) = line(at)?;
        let word = bytes.get(begins..begins + length)?;
        words.push(String::from_utf8_lossy(word).into_owned());
        at = begins + length + 2;
    }
    (at <= bytes.len()).then(|| (words, bytes[at..].to_vec()))
}

fn commit() -> Commit {
    let (entities, timers, sequences) = Default::default();
    Commit { token: Token([1; 16]), expected: 0, next: 1, meta: Meta::default(), entities, timers, sequences }
}

/// What the port is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Refused(&'static str),
    Unknown,
    Applied,
}

#[tokio::test]
async fn every_answer_of_a_server_has_its_meaning() {
    // (what the server answers; what the port says; whether the next call goes over a new connection)
    let rows: [(&[&str], Says, bool); 12] = [
        (&[OK], Says::Applied, false),
        (&["-OOM command not allowed when used memory > 'maxmemory'.\r\n"], Says::Refused("OOM"), false),
        (&["-NOREPLICAS Not enough good replicas to write.\r\n"], Says::Refused("NOREPLICAS"), false),
        (&["-MISCONF Errors writing to the AOF file\r\n"], Says::Refused("MISCONF"), false),
        (&["-READONLY You can't write against a read only replica.\r\n"], Says::Refused("READONLY"), true),
        (&["-LOADING Redis is loading the dataset in memory\r\n"], Says::Refused("LOADING"), false),
        (&["-BUSY Redis is busy running a script.\r\n"], Says::Refused("BUSY"), false),
        (&["-CLUSTERDOWN The cluster is down\r\n"], Says::Refused("CLUSTERDOWN"), false),
        (&["-TRYAGAIN Multiple keys request during rehashing of slot\r\n"], Says::Refused("TRYAGAIN"), false),
        (&["-NOSCRIPT No matching script.\r\n", OK], Says::Applied, false),
        (&["-MOVED 3999 127.0.0.1:6381\r\n"], Says::Refused("MOVED"), false),
        (&[HANGS_UP], Says::Unknown, true),
    ];
    let partition = PartitionId { role: Role::Segmenter, index: 0 };
    let work = async {
        for (answers, says, anew) in rows {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("redis://{}", listener.local_addr().unwrap());
            let server = Scripted::default();
            server.answers.lock().unwrap().extend(answers.iter().rev());
            drop(tokio::task::spawn_local(server.clone().serve(listener)));
            let store = RedisStore::connect(&url, "", &[]).unwrap();
            let said = match store.commit(partition, &commit()).await {
                Ok(CommitReply::Ok) => Says::Applied,
                Err(StoreError::Refused(why)) if matches!(says, Says::Refused(code) if why.starts_with(code)) => says,
                Err(StoreError::Unknown(_)) => Says::Unknown,
                other => panic!("{answers:?}: {other:?}"),
            };
            assert_eq!(said, says, "{answers:?}");
            assert_eq!(store.commit(partition, &commit()).await, Ok(CommitReply::Ok), "{answers:?}: the same call later");
            assert_eq!(server.connections.load(Ordering::SeqCst), 1 + usize::from(anew), "{answers:?}");
        }
    };
    tokio::task::LocalSet::new().run_until(work).await;
}
