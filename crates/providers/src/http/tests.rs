//! Mail over HTTP against servers that refuse, repeat, fall silent and hang up.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use waypost_sender::Idempotency;

use super::*;
use crate::fixture::{channel, message};

/// What the server does once it has read a request.
#[derive(Clone, Copy)]
enum Server {
    /// Answers with a status, more headers and a body.
    Says(u16, &'static str, &'static str),
    /// Says nothing, for ever.
    Mute,
    /// Closes without an answer.
    HangsUp,
    /// Closes in the middle of its first line.
    Stutters,
    /// Promises more body than it sends.
    CutsOff(u16),
    /// Closes before it has read anything.
    Slams,
}

/// Head and body of every request.
type Requests = Arc<Mutex<Vec<(String, String)>>>;

async fn server(how: Server) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/send", listener.local_addr().unwrap());
    let requests = Requests::default();
    let log = requests.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(BufReader::new(stream), how, log.clone()));
        }
    });
    (url, requests)
}

async fn serve(mut stream: BufReader<TcpStream>, how: Server, log: Requests) -> Option<()> {
    if matches!(how, Server::Slams) {
        return None;
    }
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    log.lock().unwrap().push((head, String::from_utf8(body).ok()?));
    let text = match how {
        Server::Says(status, headers, body) => {
            format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        }
        Server::CutsOff(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 500\r\n\r\n{{\"id\":"),
        Server::Stutters => "HTTP/1.1 2".to_owned(),
        Server::Mute => return std::future::pending().await,
        Server::HangsUp | Server::Slams => return None,
    };
    stream.get_mut().write_all(text.as_bytes()).await.ok()
}

fn http() -> Http {
    let mut http = Http::new(HttpSettings { timeout: Duration::from_millis(400), ..HttpSettings::new(Vec::new(), None) }).unwrap();
    // Ports are drawn; what is allowed is tested on its own.
    http.settings.allow = vec!["http://127.0.0.1:".to_owned()];
    http
}

fn at(url: &str, on_repeat: Option<OnRepeat>) -> Channel {
    let key = on_repeat.map(|on_repeat| Idempotency { window: Span::from_hours(24), on_repeat });
    Channel { provider: "http".to_owned(), http: Some(HttpChannel { url: url.to_owned(), key, lookup: true }), ..channel() }
}

async fn sent(how: Server, on_repeat: Option<OnRepeat>) -> (Outcome, String) {
    let (url, _) = server(how).await;
    let outcome = http().send(&at(&url, on_repeat), &message()).await;
    (outcome.class, if outcome.class == Outcome::Accepted { outcome.provider_id } else { outcome.reason })
}

#[tokio::test]
async fn answers_are_outcomes() {
    let says = |status, body| Server::Says(status, "", body);
    for (how, class, reason) in [
        (says(200, r#"{"id":"m-1"}"#), Outcome::Accepted, "m-1"),
        (says(202, ""), Outcome::Accepted, ""),
        (says(200, r#"{"id":7}"#), Outcome::Accepted, ""),
        (Server::CutsOff(202), Outcome::Accepted, ""),
        (says(302, ""), Outcome::Transient, "HTTP 302"),
        (says(400, "{}"), Outcome::PermanentContent, "HTTP 400"),
        (says(422, r#"{"error":"recipient"}"#), Outcome::PermanentRecipient, "HTTP 422"),
        (says(401, ""), Outcome::Auth, "HTTP 401"),
        (says(404, "<html>"), Outcome::Transient, "HTTP 404"),
        (says(409, ""), Outcome::PermanentContent, "HTTP 409"),
        (says(429, ""), Outcome::Throttled, "HTTP 429"),
        (says(500, ""), Outcome::Transient, "HTTP 500"),
        (says(503, ""), Outcome::Transient, "HTTP 503"),
        (says(502, ""), Outcome::Unknown, "HTTP 502"),
        (says(504, ""), Outcome::Unknown, "HTTP 504"),
        (Server::Mute, Outcome::Unknown, "no answer in time"),
        (Server::HangsUp, Outcome::Unknown, "no answer that can be read"),
        (Server::Stutters, Outcome::Unknown, "no answer that can be read"),
        (Server::Slams, Outcome::Unknown, "no answer that can be read"),
    ] {
        assert_eq!(sent(how, None).await, (class, reason.to_owned()));
    }
}

#[tokio::test]
async fn a_repeat_of_a_key_is_a_success_where_it_is_an_error() {
    let repeat = Server::Says(409, "", r#"{"id":"m-1"}"#);
    assert_eq!(sent(repeat, Some(OnRepeat::Error)).await, (Outcome::Accepted, "m-1".to_owned()));
    assert_eq!(sent(repeat, Some(OnRepeat::Replay)).await, (Outcome::Transient, "HTTP 409".to_owned()));
}

#[tokio::test]
async fn without_a_connection_nothing_has_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/send", listener.local_addr().unwrap());
    drop(listener);
    let outcome = http().send(&at(&url, None), &message()).await;
    assert_eq!((outcome.class, outcome.reason.as_str()), (Outcome::Transient, "no connection"));
    // A server that does not speak TLS.
    let (url, requests) = server(Server::Says(200, "", "")).await;
    let url = url.replace("http://", "https://");
    let with_tls = Http { settings: HttpSettings { allow: vec!["https://".to_owned()], ..http().settings }, ..http() };
    let outcome = with_tls.send(&at(&url, None), &message()).await;
    assert_eq!((outcome.class, outcome.reason.as_str()), (Outcome::Transient, "no connection"));
    assert!(requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_pause_that_is_asked_for_is_bounded() {
    for (header, pause) in
        [("retry-after: 7\r\n", Some(7)), ("retry-after: 999999\r\n", Some(3_600)), ("retry-after: Wed, 21 Oct\r\n", None), ("", None)]
    {
        let (url, _) = server(Server::Says(429, header, "")).await;
        let outcome = http().send(&at(&url, None), &message()).await;
        assert_eq!(outcome.retry_after, pause.map(Span::from_secs), "{header}");
    }
}

#[tokio::test]
async fn every_attempt_sends_the_same_request_under_the_same_key() {
    let (url, requests) = server(Server::Says(503, "", "")).await;
    let (http, channel) = (http(), at(&url, None));
    http.send(&channel, &message()).await;
    http.send(&channel, &message()).await;
    let requests = requests.lock().unwrap();
    assert_eq!((requests.len(), &requests[0]), (2, &requests[1]));
    let (head, body) = &requests[0];
    assert!(head.starts_with("POST /v1/send HTTP/1.1\r\n"), "{head}");
    for line in ["idempotency-key: dsp_01\r\n", "message-id: <01@shop.example>\r\n", "content-type: application/json\r\n"] {
        assert!(head.contains(line), "{line}\n{head}");
    }
    assert!(!head.contains("authorization"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = json!({
        "dispatch": "dsp_01", "message_id": "01@shop.example", "from": "hello@shop.example", "to": "ann@shop.example",
        "subject": "Grüße", "html": "<p>Hi</p>", "text": "Hi", "mime": "Subject: x\r\n\r\nHi\r\n",
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn only_an_answer_that_speaks_of_the_dispatch_is_definite() {
    for (how, class, id) in [
        (Server::Says(200, "", r#"{"status":"accepted","id":"m-1"}"#), Outcome::Accepted, "m-1"),
        (Server::Says(200, "", r#"{"status":"none"}"#), Outcome::Transient, ""),
        (Server::Says(200, "", r#"{"status":"queued"}"#), Outcome::Unknown, ""),
        (Server::Says(404, "", r#"{"status":"none"}"#), Outcome::Unknown, ""),
        (Server::Says(200, "", "<html>log in</html>"), Outcome::Unknown, ""),
        (Server::CutsOff(200), Outcome::Unknown, ""),
        (Server::Mute, Outcome::Unknown, ""),
    ] {
        let (url, requests) = server(how).await;
        let outcome = http().look_up(&at(&url, None), "dsp_01").await;
        assert_eq!((outcome.class, outcome.provider_id.as_str()), (class, id));
        assert!(requests.lock().unwrap()[0].0.starts_with("GET /v1/send/dsp_01 HTTP/1.1\r\n"));
    }
}

#[tokio::test]
async fn a_token_is_read_for_every_call_and_never_goes_out_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    let (url, requests) = server(Server::Says(202, "", "")).await;
    let settings = HttpSettings { secrets: Some(folder.path().to_owned()), ..http().settings };
    let http = Http { settings, ..http() };
    let channel = Channel { secret: Some("relay".to_owned()), ..at(&url, None) };
    assert_eq!(http.send(&channel, &message()).await.class, Outcome::Auth, "no such file");
    for token in ["one", "two"] {
        std::fs::write(folder.path().join("relay"), format!("{token}\n")).unwrap();
        assert_eq!(http.send(&channel, &message()).await.class, Outcome::Accepted);
    }
    let heads: Vec<String> = requests.lock().unwrap().iter().map(|(head, _)| head.clone()).collect();
    assert_eq!(heads.len(), 2);
    assert!(heads[0].contains("authorization: Bearer one\r\n") && heads[1].contains("authorization: Bearer two\r\n"), "{heads:?}");
    let open = Http { settings: HttpSettings { allow: vec!["http://".to_owned()], ..http.settings.clone() }, ..http };
    for url in ["http://relay.example/send", "http://127.0.0.1.evil.example/send"] {
        let outward = Channel { secret: Some("relay".to_owned()), ..at(url, None) };
        assert!(open.serves(&outward).unwrap_err().contains("https"), "{url}");
    }
    assert!(open.serves(&Channel { secret: Some("other.relay".to_owned()), ..channel.clone() }).is_ok());
    for name in ["../relay", "", "Relay", ".", "..", ".relay", "other..relay"] {
        assert!(open.serves(&Channel { secret: Some(name.to_owned()), ..channel.clone() }).is_err(), "{name}");
    }
}

#[test]
fn only_what_the_operator_allows_is_reached() {
    let http = Http::new(HttpSettings::new(vec!["https://relay.example/v1/".to_owned()], None)).unwrap();
    for (url, allowed) in [
        ("https://relay.example/v1/send", true),
        ("https://relay.example/v1", true),
        ("https://relay.example/v2/send", false),
        ("https://relay.example.evil.example/v1/send", false),
        ("http://relay.example/v1/send", false),
    ] {
        assert_eq!(http.serves(&at(url, None)).is_ok(), allowed, "{url}");
    }
    assert!(http.serves(&channel()).is_err(), "no url");
    assert!(http.serves(&Channel { secret: Some("relay".to_owned()), ..at("https://relay.example/v1/send", None) }).is_err());
    for entry in ["https://relay.example", "relay.example/", "https:///", "https://"] {
        assert_eq!(Http::new(HttpSettings::new(vec![entry.to_owned()], None)).err(), Some(HttpSetupError::Allow(entry.to_owned())));
    }
}

#[test]
fn capabilities_are_the_channels() {
    let http = http();
    let keyed = http.capabilities(&at("http://127.0.0.1:1/send", Some(OnRepeat::Error)));
    assert_eq!(keyed.key, Some(Idempotency { window: Span::from_hours(24), on_repeat: OnRepeat::Error }));
    assert!(keyed.lookup);
    assert_eq!(http.capabilities(&at("http://127.0.0.1:1/send", None)).key, None);
    assert_eq!(keyed.longest_call, Span::from_millis(400));
}
