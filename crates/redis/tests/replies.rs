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
use waypost_redis::{RedisStore, Server};
use waypost_runtime::ports::{Commit, CommitReply, Meta, Store, StoreError, Token};
use waypost_types::{PartitionId, Role};

/// A server at which every partition is at offset 0 and owned by `commit`'s token. What EXEC answers, or a write before it, is
/// given beforehand; connections are counted.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<Vec<Answer>>>,
    connections: Arc<AtomicUsize>,
}

/// One answer that is not as usual.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// To EXEC; nothing ends the connection.
    Exec(&'static str),
    /// Somebody writes to the meta behind the look: EXEC applies nothing if, and only if, the meta was watched by then.
    Touched,
    /// To the last write, behind which EXEC refuses all.
    Write(&'static str),
    /// To the look at the meta.
    Look(&'static str),
}

const HANGS_UP: &str = "";
const OK: Answer = Answer::Exec("*1\r\n:0\r\n");

impl Scripted {
    async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            self.connections.fetch_add(1, Ordering::SeqCst);
            let server = self.clone();
            drop(tokio::task::spawn_local(async move { server.talk(stream).await }));
        }
    }

    async fn talk(self, mut stream: TcpStream) {
        let (mut watched, mut looked) = (None, None);
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            read.extend_from_slice(&buffer[..count]);
            while let Some((command, rest)) = command(&read) {
                match command[0].as_str() {
                    "WATCH" => watched = command.get(1).cloned(),
                    "HMGET" => looked = command.get(1).cloned().filter(|meta| watched.as_ref() == Some(meta)),
                    _ => {}
                }
                let answer = self.answer(&command[0], looked.is_some());
                read = rest;
                if answer == HANGS_UP || stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Scripted {
    fn answer(&self, command: &str, is_watched: bool) -> &'static str {
        let mut answers = self.answers.lock().unwrap();
        match (command, answers.last().copied()) {
            ("EXEC", Some(Answer::Exec(answer))) | ("HMGET", Some(Answer::Look(answer))) => {
                answers.pop();
                answer
            }
            ("EXEC", Some(Answer::Touched)) => {
                answers.pop();
                if is_watched { "*-1\r\n" } else { "*1\r\n:0\r\n" }
            }
            ("HSET", Some(Answer::Write(answer))) => answer,
            ("EXEC", Some(Answer::Write(_))) => {
                answers.pop();
                "-EXECABORT Transaction discarded because of previous errors.\r\n"
            }
            ("EXEC", _) => "*1\r\n:0\r\n",
            ("HMGET", _) => "*2\r\n$32\r\n01010101010101010101010101010101\r\n$1\r\n0\r\n",
            ("HSET", _) => "+QUEUED\r\n",
            _ => "+OK\r\n",
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
#[derive(Clone, Debug, PartialEq, Eq)]
enum Says {
    Replies(CommitReply),
    Refused(&'static str),
    Unknown,
}

#[tokio::test]
async fn every_answer_of_a_server_has_its_meaning() {
    use Answer::{Exec, Look, Touched, Write};
    use Says::{Refused, Replies, Unknown};
    let fine = || Replies(CommitReply::Ok);
    let moved = Look("*2\r\n$32\r\n01010101010101010101010101010101\r\n$1\r\n7\r\n");
    // (what the server answers; what the port says; whether the next call goes over a new connection)
    let rows: [(&[Answer], Says, bool); 19] = [
        (&[OK], fine(), false),
        (&[Touched], fine(), false), // it looks again, and finds everything as it was
        (&[Touched, moved], Replies(CommitReply::Moved(7)), true),
        (&[Touched, Touched, Touched], Refused("somebody else"), true),
        (&[Exec("*2\r\n:1\r\n-WRONGTYPE Operation against a key\r\n")], Replies(CommitReply::Torn), true),
        (&[Look("*2\r\n$-1\r\n$-1\r\n")], Replies(CommitReply::Uninit), true),
        (&[Look("*2\r\n$0\r\n\r\n$1\r\n0\r\n")], Replies(CommitReply::Fenced), true),
        (&[Look("*2\r\n$32\r\n01010101010101010101010101010101\r\n$1\r\n1\r\n")], Replies(CommitReply::Already), true),
        (&[Look("-LOADING Redis is loading the dataset in memory\r\n")], Refused("LOADING"), true),
        (&[Write("-OOM command not allowed when used memory > 'maxmemory'.\r\n")], Refused("OOM"), true),
        (&[Exec("-OOM command not allowed when used memory > 'maxmemory'.\r\n")], Refused("OOM"), true),
        (&[Exec("-NOREPLICAS Not enough good replicas to write.\r\n")], Refused("NOREPLICAS"), true),
        (&[Write("-MISCONF Errors writing to the AOF file\r\n")], Refused("MISCONF"), true),
        (&[Write("-READONLY You can't write against a read only replica.\r\n")], Refused("READONLY"), true),
        (&[Look("-BUSY Redis is busy running a script.\r\n")], Refused("BUSY"), true),
        (&[Write("-CLUSTERDOWN The cluster is down\r\n")], Refused("CLUSTERDOWN"), true),
        (&[Exec("-TRYAGAIN Multiple keys request during rehashing of slot\r\n")], Refused("TRYAGAIN"), true),
        (&[Write("-MOVED 3999 127.0.0.1:6381\r\n")], Refused("MOVED"), true),
        (&[Exec(HANGS_UP)], Unknown, true),
    ];
    let partition = PartitionId { role: Role::Segmenter, index: 0 };
    let work = async {
        for (answers, says, anew) in rows {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("redis://{}", listener.local_addr().unwrap());
            let server = Scripted::default();
            server.answers.lock().unwrap().extend(answers.iter().rev());
            drop(tokio::task::spawn_local(server.clone().serve(listener)));
            let store = RedisStore::connect(&Server::at(url), "", &[]).unwrap();
            let said = match store.commit(partition, &commit()).await {
                Ok(reply) => Replies(reply),
                Err(StoreError::Refused(why)) if matches!(says, Refused(code) if why.starts_with(code)) => says.clone(),
                Err(StoreError::Unknown(_)) => Unknown,
                other => panic!("{answers:?}: {other:?}"),
            };
            assert_eq!(said, says, "{answers:?}");
            assert_eq!(store.commit(partition, &commit()).await, Ok(CommitReply::Ok), "{answers:?}: the same call later");
            assert_eq!(server.connections.load(Ordering::SeqCst), 1 + usize::from(anew), "{answers:?}");
        }
    };
    tokio::task::LocalSet::new().run_until(work).await;
}
