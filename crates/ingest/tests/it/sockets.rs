//! What can be done to a server with nothing but a socket: each ends in bounded time, and the next caller is served.

use std::{io::Write as _, net::SocketAddr, time::Duration};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};
use waypost_ingest::{Connections, IngestConfig, TrustedProxies, serve};

use crate::support::{SERVER_KEY, Server, basic, event};

/// Far longer than anything here takes.
const AT_MOST: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(200);

/// A door that listens.
struct Open {
    server: Server,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

/// One end of a connection.
struct Line(TcpStream);

impl Open {
    async fn new() -> Self {
        Self::with(|_, _| ()).await
    }

    async fn with(change: impl FnOnce(&mut IngestConfig, &mut Connections)) -> Self {
        let mut connections = Connections::default();
        let server = Server::with(|config| change(config, &mut connections));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(serve(listener, server.router.clone(), connections, async { drop(stopped.await) }));
        Self { server, address, stop, ended }
    }

    async fn line(&self) -> Line {
        Line(TcpStream::connect(self.address).await.unwrap())
    }

    /// All that is answered to these bytes, until the connection ends.
    async fn answers(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut line = self.line().await;
        line.say(bytes).await;
        line.rest().await
    }

    /// The next caller is served, and what he says is all that is stored.
    async fn serves_the_next(&self) {
        assert_eq!(self.server.stored(), 0);
        let call = request("connection: close\r\n", &event(1).to_string());
        let mut answer = self.answers(&call).await;
        // The door hears of the end of a connection a little after its client.
        for _ in 0..100 {
            if answer.starts_with("HTTP/1.1 200 ") {
                break;
            }
            assert!(["HTTP/1.1 429 ", "HTTP/1.1 503 "].iter().any(|full| answer.starts_with(full)), "{answer}");
            sleep(SOON / 10).await;
            answer = self.answers(&call).await;
        }
        assert_eq!(self.server.stored(), 1);
    }
}

impl Line {
    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        // The other end may have closed by now; what it answered is looked at.
        drop(timeout(AT_MOST, self.0.write_all(bytes.as_ref())).await.expect("it takes what it is told"));
    }

    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset is an end as well.
        drop(timeout(AT_MOST, self.0.read_to_end(&mut bytes)).await.expect("it ends"));
        String::from_utf8(bytes).unwrap()
    }

    /// One answer, where the connection goes on.
    async fn answer(&mut self) -> String {
        let mut bytes = Vec::new();
        loop {
            let mut piece = [0; 4096];
            let count = timeout(AT_MOST, self.0.read(&mut piece)).await.expect("it answers").unwrap();
            assert!(count > 0, "it ended: {}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&piece[..count]);
            let text = String::from_utf8_lossy(&bytes);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).and_then(|l| l.parse().ok()).unwrap_or(0);
                if body.len() >= length {
                    return text.into_owned();
                }
            }
        }
    }
}

fn head(more: &str) -> String {
    format!("POST /v1/track HTTP/1.1\r\nhost: door.example\r\nauthorization: {}\r\n{more}", basic(SERVER_KEY))
}

fn request(more: &str, body: &str) -> String {
    format!("{}content-length: {}\r\n\r\n{body}", head(more), body.len())
}

/// Status and reason of each answer.
fn judged(answers: &str) -> Vec<(u16, String)> {
    answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| {
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let reason = serde_json::from_str::<Json>(body).ok().and_then(|body| body["reason"].as_str().map(str::to_owned));
            (answer[..3].parse().unwrap(), reason.unwrap_or_default())
        })
        .collect()
}

fn one(status: u16, reason: &str) -> Vec<(u16, String)> {
    vec![(status, reason.to_owned())]
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let door = Open::with(|_, connections| connections.head = SOON).await;
    for begun in ["", "POST", &head("x-half: "), &head("x-last: y\r\n")] {
        assert_eq!(door.answers(begun).await, "", "{begun:?}");
    }
    // A byte now and then does not buy more time.
    let mut slow = door.line().await;
    let trickled = async {
        for byte in head(&"x".repeat(10_000)).into_bytes() {
            let mut heard = [0; 1];
            if slow.0.write_all(&[byte]).await.is_err()
                || timeout(SOON / 20, slow.0.read(&mut heard)).await.is_ok_and(|r| r.is_ok_and(|n| n == 0))
            {
                return true;
            }
        }
        false
    };
    assert!(timeout(AT_MOST, trickled).await.expect("it ends"));
    // Nor does an answered request keep a connection for ever.
    let mut idle = door.line().await;
    idle.say(request("", "{")).await;
    assert_eq!(judged(&idle.answer().await), one(400, "BAD_JSON"));
    assert_eq!(idle.rest().await, "");
    door.serves_the_next().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_and_ends_the_connection() {
    for (of, key) in [("a stranger", String::new()), ("whoever is known", format!("authorization: {}\r\n", basic(SERVER_KEY)))] {
        let door = Open::with(|config, _| {
            let stranger = key.is_empty();
            config.patience = if stranger { AT_MOST } else { SOON };
            config.patience_with_strangers = if stranger { SOON } else { AT_MOST };
        })
        .await;
        let answer = door.answers(format!("POST /v1/track HTTP/1.1\r\nhost: d\r\n{key}content-length: 90\r\n\r\n{{\"userId\":")).await;
        assert_eq!(judged(&answer), one(400, "BAD_JSON"), "{of}");
        assert!(answer.contains("in time"), "{answer}");
        door.serves_the_next().await;
    }
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_gets_them_back() {
    let door = Open::with(|_, connections| connections.most_per_address = 2).await;
    let (mut first, _second) = (door.line().await, door.line().await);
    let mut third = door.line().await;
    assert_eq!(judged(&third.rest().await), one(429, ""));
    first.say(request("connection: close\r\n", "{")).await;
    assert_eq!(judged(&first.rest().await), one(400, "BAD_JSON"));
    door.serves_the_next().await;
}

#[tokio::test]
async fn all_together_have_so_many_connections() {
    let door = Open::with(|_, connections| connections.most = 2).await;
    let (mut first, _second) = (door.line().await, door.line().await);
    let mut third = door.line().await;
    let answer = third.rest().await;
    assert_eq!(judged(&answer), one(503, ""));
    assert!(answer.contains("retry-after: 1\r\n"));
    first.say(request("connection: close\r\n", "{")).await;
    assert_eq!(judged(&first.rest().await), one(400, "BAD_JSON"));
    door.serves_the_next().await;
}

#[tokio::test]
async fn a_proxys_connections_are_many_peoples() {
    let door = Open::with(|_, connections| {
        connections.most_per_address = 1;
        connections.proxies = TrustedProxies::parse("127.0.0.0/8").unwrap();
    })
    .await;
    let mut lines = [door.line().await, door.line().await, door.line().await];
    for line in &mut lines {
        line.say(request("", "{")).await;
        assert_eq!(judged(&line.answer().await), one(400, "BAD_JSON"));
    }
}

#[tokio::test]
async fn an_old_connection_answers_what_was_begun_and_ends() {
    let door = Open::with(|_, connections| connections.lifetime = SOON).await;
    let mut idle = door.line().await;
    idle.say("GET /livez HTTP/1.1\r\nhost: d\r\n\r\n").await;
    assert_eq!(judged(&idle.answer().await), one(200, ""));
    let begun = request("", &event(7).to_string());
    let mut busy = door.line().await;
    busy.say(&begun[..begun.len() - 5]).await;
    sleep(SOON * 2).await;
    busy.say(&begun[begun.len() - 5..]).await;
    let answer = busy.rest().await;
    assert_eq!(judged(&answer), one(200, ""));
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(idle.rest().await, "");
    assert_eq!(door.server.stored(), 1);
}

#[tokio::test]
async fn what_does_not_end_with_its_connection_is_cut_off() {
    let door = Open::with(|_, connections| (connections.lifetime, connections.last_request) = (SOON, SOON)).await;
    let begun = request("", &event(7).to_string());
    assert_eq!(door.answers(&begun[..begun.len() - 5]).await, "", "the body has more patience");
    door.serves_the_next().await;
}

#[tokio::test]
async fn a_door_that_closes_answers_what_was_begun_and_takes_nothing_new() {
    let door = Open::new().await;
    let begun = request("", &event(7).to_string());
    let (mut idle, mut busy, mut silent) = (door.line().await, door.line().await, door.line().await);
    idle.say("GET /livez HTTP/1.1\r\nhost: d\r\n\r\n").await;
    assert_eq!(judged(&idle.answer().await), one(200, ""));
    busy.say(&begun[..begun.len() - 5]).await;
    // The head is heard before the door is told.
    sleep(SOON).await;
    door.stop.send(()).unwrap();
    assert_eq!((idle.rest().await, silent.rest().await), (String::new(), String::new()), "nothing was begun on them");
    assert!(TcpStream::connect(door.address).await.is_err(), "nobody is let in any more");
    assert!(!door.ended.is_finished(), "it waits for what was begun");
    busy.say(&begun[begun.len() - 5..]).await;
    assert_eq!(judged(&busy.rest().await), one(200, ""));
    timeout(AT_MOST, door.ended).await.expect("then it ends").unwrap();
    assert_eq!(door.server.stored(), 1);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let door = Open::new().await;
    let many = "x-y: z\r\n".repeat(120);
    for (what, bytes) in [
        ("one long header", head(&format!("x-long: {}\r\n\r\n", "y".repeat(40_000)))),
        ("headers without end", head(&"x-y: z\r\n".repeat(10_000))),
        ("many headers", head(&format!("{many}\r\n"))),
        ("a long path", format!("GET /{} HTTP/1.1\r\nhost: d\r\n\r\n", "y".repeat(40_000))),
    ] {
        assert_eq!(judged(&door.answers(bytes).await), one(431, ""), "{what}");
    }
    door.serves_the_next().await;
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let door = Open::new().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nhost: d\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{....}",
        b"POST /v1/track HTTP/1.1\r\nhost: d\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nhost: d\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nhost: d\r\nbad header\r\n\r\n",
    ] {
        assert_eq!(judged(&door.answers(bytes).await), one(400, ""), "{}", String::from_utf8_lossy(bytes));
    }
    door.serves_the_next().await;
}

#[tokio::test]
async fn requests_behind_one_another_are_answered_in_their_order() {
    let door = Open::new().await;
    let (good, last) = (event(1).to_string(), event(2).to_string());
    let all = [request("", &good), request("", "{"), request("", &good), request("connection: close\r\n", &last)].concat();
    let answers: Vec<_> = judged(&door.answers(all).await).into_iter().map(|(status, _)| status).collect();
    assert_eq!(answers, [200, 400, 200, 200]);
    let ids: Vec<_> = door.server.door.events().into_iter().map(|event| event.message_id).collect();
    assert_eq!(ids, ["m-1", "m-1", "m-2"]);
}

#[tokio::test]
async fn a_body_that_is_not_what_it_said_stores_nothing() {
    let door = Open::with(|config, _| config.max_body = 1_000).await;
    let close = "connection: close\r\n";
    let chunk = format!("64\r\n{}\r\n", "x".repeat(100));
    let call = event(1).to_string();
    let chunked = |chunks: &str| head(&format!("{close}transfer-encoding: chunked\r\n\r\n{chunks}"));
    for (what, bytes, answer) in [
        ("chunks without end", chunked(&chunk.repeat(12)), one(400, "BODY_TOO_LARGE")),
        ("a chunk that is none", chunked("zz\r\nhello\r\n"), one(400, "BAD_JSON")),
        ("a chunk as large as the world", chunked(&format!("fffffffffffffff0\r\n{}", "x".repeat(2_000))), one(400, "BODY_TOO_LARGE")),
        ("a length over the limit", head(&format!("{close}content-length: 1001\r\n\r\n{{")), one(400, "BODY_TOO_LARGE")),
        ("a length without limit", head(&format!("{close}content-length: 9999999999999999999\r\n\r\n{{")), one(400, "BODY_TOO_LARGE")),
        ("shorter than it is", head(&format!("{close}content-length: 10\r\n\r\n{call}")), one(400, "BAD_JSON")),
        ("none at all", head(&format!("{close}\r\n")), one(400, "BAD_JSON")),
    ] {
        assert_eq!(judged(&door.answers(bytes).await), answer, "{what}");
    }
    for cut in [head("content-length: 90\r\n\r\n{\"userId\":"), chunked("64\r\nonly some"), head("content-length: 90\r\n\r\n")] {
        let mut line = door.line().await;
        line.say(cut).await;
        drop(line);
    }
    door.serves_the_next().await;
}

#[tokio::test]
async fn a_refusal_is_heard_before_the_body_is_sent_and_the_connection_goes_on() {
    let door = Open::with(|config, _| config.key_rate = 1).await;
    let mut line = door.line().await;
    let post = |path: &str, key: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nhost: d\r\nauthorization: {}\r\ncontent-length: {length}\r\n\r\n", basic(key))
    };
    let body = event(1).to_string();
    for (path, key, answer) in [
        ("/v1/track", SERVER_KEY, one(200, "")),
        ("/v1/track", SERVER_KEY, one(429, "THROTTLED")),
        ("/v1/track", "wk_guess", one(401, "BAD_KEY")),
        ("/v1/dance", SERVER_KEY, one(404, "")),
        ("/u/guess", SERVER_KEY, one(404, "")),
    ] {
        // Many clients send them one after the other.
        line.say(post(path, key, body.len())).await;
        sleep(SOON / 4).await;
        line.say(&body).await;
        assert_eq!(judged(&line.answer().await), answer, "{path} {key}");
    }
    // Who asks first is told at once.
    line.say(post("/v1/track", "wk_guess", 9_000).replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n")).await;
    assert_eq!(judged(&line.rest().await), one(401, "BAD_KEY"));
}

#[tokio::test]
async fn a_body_that_grows_is_refused_before_it_has_grown() {
    let door = Open::new().await;
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(&vec![b' '; 20 << 20]).unwrap();
    let bomb = packer.finish().unwrap();
    assert!(bomb.len() < 30_000);
    let bytes =
        [head(&format!("connection: close\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len())).into_bytes(), bomb]
            .concat();
    assert_eq!(judged(&door.answers(bytes).await), one(400, "BODY_TOO_LARGE"));
    door.serves_the_next().await;
}

#[tokio::test]
async fn json_that_nests_or_counts_without_end_is_refused() {
    let door = Open::new().await;
    let deep = format!("{{\"userId\": \"u\", \"event\": \"E\", \"properties\": {}", "[".repeat(30_000));
    let whole = format!("{deep}{}}}", "]".repeat(30_000));
    let batch = |items: &str| request("connection: close\r\n", &format!("{{\"batch\": {items}}}")).replace("/v1/track", "/v1/batch");
    let nested = format!("[{}1{}]", "{\"a\":".repeat(5_000), "}".repeat(5_000));
    for (what, bytes, answer) in [
        ("open brackets", request("connection: close\r\n", &deep), one(400, "BAD_JSON")),
        ("brackets", request("connection: close\r\n", &whole), one(400, "EVENT_TOO_LARGE")),
        ("brackets for a batch", batch(&"[".repeat(400_000)), one(400, "BAD_JSON")),
        ("an event of brackets", batch(&nested), one(400, "TOO_DEEP")),
        ("many nothings", batch(&json!(vec![0; 200_000]).to_string()), one(400, "BATCH_TOO_MANY_EVENTS")),
    ] {
        assert_eq!(judged(&door.answers(bytes).await), answer, "{what}");
    }
    door.serves_the_next().await;
}
