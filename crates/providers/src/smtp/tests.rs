//! SMTP against servers that refuse, fall silent and hang up.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use super::*;
use crate::fixture::channel;

/// What the server says; `""` closes the connection, `"…"` says nothing for ever.
#[derive(Clone, Copy)]
struct Script {
    greeting: &'static str,
    mail: &'static str,
    rcpt: &'static str,
    data: &'static str,
    end: &'static str,
    // Connections that are closed after their first message.
    close_after_message: bool,
}

const GOOD: Script = Script {
    greeting: "220 mx.shop.example",
    mail: "250 2.1.0 ok",
    rcpt: "250 2.1.5 ok",
    data: "354 go",
    end: "250 2.0.0 Ok: queued as ABC123",
    close_after_message: false,
};

type Received = Arc<Mutex<Vec<String>>>;

async fn server(script: Script) -> (u16, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = Received::default();
    let log = received.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(BufReader::new(stream), script, log.clone()));
        }
    });
    (port, received)
}

async fn serve(mut stream: BufReader<tokio::net::TcpStream>, script: Script, log: Received) -> Option<()> {
    log.lock().unwrap().push("<connected>".to_owned());
    let mut in_data = false;
    answer(&mut stream, script.greeting).await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        log.lock().unwrap().push(line.clone());
        let said = match (in_data, line.as_str()) {
            (true, ".\r\n") => {
                in_data = false;
                answer(&mut stream, script.end).await?;
                if script.close_after_message {
                    return None;
                }
                continue;
            }
            (true, _) => continue,
            (false, line) if line.starts_with("EHLO") => "250-mx.shop.example\r\n250 AUTH PLAIN LOGIN",
            (false, line) if line.starts_with("AUTH") => "535 5.7.8 no",
            (false, line) if line.starts_with("MAIL") => script.mail,
            (false, line) if line.starts_with("RCPT") => script.rcpt,
            (false, line) if line.starts_with("DATA") => {
                in_data = script.data.starts_with("354");
                script.data
            }
            (false, line) if line.starts_with("QUIT") => "221 bye",
            (false, _) => "502 no",
        };
        answer(&mut stream, said).await?;
    }
}

async fn answer(stream: &mut BufReader<tokio::net::TcpStream>, said: &str) -> Option<()> {
    match said {
        "" => None,
        "…" => std::future::pending().await,
        said => stream.get_mut().write_all(format!("{said}\r\n").as_bytes()).await.ok(),
    }
}

fn settings(port: u16) -> SmtpSettings {
    let short = Duration::from_millis(300);
    SmtpSettings { timeout: short, final_timeout: short, ..SmtpSettings::new("127.0.0.1", port, Tls::None) }
}

fn message() -> OutgoingEmail {
    OutgoingEmail { raw: Bytes::from_static(b"Subject: x\r\n\r\n.\r\n..\r\n.hidden\r\nend\r\n"), ..crate::fixture::message() }
}

async fn outcome(script: Script) -> (Outcome, String) {
    let (port, _) = server(script).await;
    let outcome = Smtp::new(settings(port)).unwrap().send(&channel(), &message()).await;
    (outcome.class, if outcome.class == Outcome::Accepted { outcome.provider_id } else { outcome.reason })
}

#[tokio::test]
async fn answers_are_outcomes() {
    for (script, class, reason) in [
        (GOOD, Outcome::Accepted, "ABC123"),
        (Script { greeting: "554 no", ..GOOD }, Outcome::Transient, "connect: 554"),
        (Script { greeting: "", ..GOOD }, Outcome::Transient, "connect: no answer that can be read"),
        (Script { greeting: "…", ..GOOD }, Outcome::Transient, "connect: no answer in time"),
        (Script { mail: "451 4.3.0 later", ..GOOD }, Outcome::Transient, "MAIL: 451 4.3.0"),
        (Script { mail: "421 4.7.0 too many", ..GOOD }, Outcome::Throttled, "MAIL: 421 4.7.0"),
        (Script { mail: "550 5.1.8 sender", ..GOOD }, Outcome::PermanentContent, "MAIL: 550 5.1.8"),
        (Script { mail: "530 5.7.0 log in", ..GOOD }, Outcome::Auth, "MAIL: 530 5.7.0"),
        (Script { rcpt: "450 4.2.0 greylisted", ..GOOD }, Outcome::Transient, "RCPT: 450 4.2.0"),
        (Script { rcpt: "550 5.1.1 no such user ann@shop.example", ..GOOD }, Outcome::PermanentRecipient, "RCPT: 550 5.1.1"),
        (Script { rcpt: "550 no such user", ..GOOD }, Outcome::PermanentRecipient, "RCPT: 550"),
        (Script { rcpt: "550 5.7.1 policy", ..GOOD }, Outcome::PermanentContent, "RCPT: 550 5.7.1"),
        (Script { rcpt: "552 5.2.2 full", ..GOOD }, Outcome::PermanentContent, "RCPT: 552 5.2.2"),
        (Script { rcpt: "", ..GOOD }, Outcome::Transient, "RCPT: no answer that can be read"),
        (Script { data: "452 4.3.1 full", ..GOOD }, Outcome::Transient, "DATA: 452 4.3.1"),
        (Script { data: "…", ..GOOD }, Outcome::Transient, "DATA: no answer in time"),
        (Script { end: "451 4.3.0 later", ..GOOD }, Outcome::Transient, "message: 451 4.3.0"),
        (Script { end: "554 5.6.0 spam", ..GOOD }, Outcome::PermanentContent, "message: 554 5.6.0"),
        (Script { end: "…", ..GOOD }, Outcome::Unknown, "after DATA: no answer in time"),
        (Script { end: "", ..GOOD }, Outcome::Unknown, "after DATA: no answer that can be read"),
        (Script { end: "garbage", ..GOOD }, Outcome::Unknown, "after DATA: no answer that can be read"),
    ] {
        assert_eq!(outcome(script).await, (class, reason.to_owned()));
    }
}

#[tokio::test]
async fn nobody_listening_is_transient() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let outcome = Smtp::new(settings(port)).unwrap().send(&channel(), &message()).await;
    assert_eq!((outcome.class, outcome.reason.as_str()), (Outcome::Transient, "connect: connection failed"));
}

#[tokio::test]
async fn dots_are_stuffed_and_the_message_arrives_as_it_is() {
    let (port, received) = server(GOOD).await;
    Smtp::new(settings(port)).unwrap().send(&channel(), &message()).await;
    let lines = received.lock().unwrap().clone();
    let start = lines.iter().position(|l| l == "DATA\r\n").unwrap();
    assert_eq!(lines[start + 1..start + 8], ["Subject: x\r\n", "\r\n", "..\r\n", "...\r\n", "..hidden\r\n", "end\r\n", ".\r\n"]);
}

#[tokio::test]
async fn what_could_speak_smtp_never_reaches_the_wire() {
    let (port, received) = server(GOOD).await;
    let smtp = Smtp::new(settings(port)).unwrap();
    for raw in [&b"a\n.\nMAIL FROM:<x>\r\n"[..], b"a\r.\r\n", b"a\r\n.\nb\r\n", b"a\0b\r\n", b"a\r\nb", b"\r"] {
        let outcome = smtp.send(&channel(), &OutgoingEmail { raw: Bytes::copy_from_slice(raw), ..message() }).await;
        assert_eq!(outcome.class, Outcome::PermanentContent, "{raw:?}");
    }
    let long = [vec![b'x'; 999], b"\r\n".to_vec()].concat();
    assert_eq!(smtp.send(&channel(), &OutgoingEmail { raw: long.into(), ..message() }).await.class, Outcome::PermanentContent);
    for to in ["ann@shop.example>\r\nRCPT TO:<eve@shop.example", "ann", "", "ann @shop.example", "ann@shop.example\n"] {
        let outcome = smtp.send(&channel(), &OutgoingEmail { to: to.to_owned(), ..message() }).await;
        assert_eq!(outcome.class, Outcome::PermanentRecipient, "{to}");
    }
    assert_eq!(
        smtp.send(&channel(), &OutgoingEmail { from: "a\r\nb@shop.example".to_owned(), ..message() }).await.class,
        Outcome::PermanentContent
    );
    assert!(received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_serves_many_messages_and_is_replaced_when_it_has_gone() {
    for (close_after_message, connections) in [(false, 1), (true, 3)] {
        let (port, received) = server(Script { close_after_message, ..GOOD }).await;
        let smtp = Smtp::new(settings(port)).unwrap();
        for _ in 0..3 {
            assert_eq!(smtp.send(&channel(), &message()).await.class, Outcome::Accepted);
        }
        let count = |what: &str| received.lock().unwrap().iter().filter(|l| l.starts_with(what)).count();
        assert_eq!((count("<connected>"), count("DATA")), (connections, 3));
    }
}

fn login(password: impl Fn() -> String + Send + Sync + 'static) -> Login {
    Login { user: "user".to_owned(), password: Arc::new(move || password().into()) }
}

#[tokio::test]
async fn a_new_connection_logs_in_with_the_password_of_its_time() {
    let (port, received) = server(GOOD).await;
    let asked = Mutex::new(0);
    let credentials = login(move || {
        let mut asked = asked.lock().unwrap();
        *asked += 1;
        format!("password-{asked}")
    });
    // Without TLS, which `Smtp::new` refuses, so that the server of this test can read along.
    let smtp = Smtp { settings: SmtpSettings { credentials: Some(credentials), ..settings(port) }, ..Smtp::new(settings(port)).unwrap() };
    // `\0user\0password-1`, and `-2`
    for shown in ["AHVzZXIAcGFzc3dvcmQtMQ==", "AHVzZXIAcGFzc3dvcmQtMg=="] {
        assert_eq!(smtp.send(&channel(), &message()).await.class, Outcome::Auth, "this server refuses everybody");
        let lines = received.lock().unwrap().clone();
        let said = lines.iter().rfind(|line| line.starts_with("AUTH PLAIN ")).unwrap();
        assert_eq!(said.trim_end().trim_start_matches("AUTH PLAIN "), shown);
    }
}

#[tokio::test]
async fn starttls_is_never_left_out() {
    let (port, received) = server(GOOD).await;
    let smtp = Smtp::new(SmtpSettings { tls: Tls::Starttls, ..settings(port) }).unwrap();
    let outcome = smtp.send(&channel(), &message()).await;
    assert_eq!((outcome.class, outcome.reason.as_str()), (Outcome::Transient, "starttls: the server lacks what is needed"));
    assert!(!received.lock().unwrap().iter().any(|l| l.starts_with("MAIL")));
}

#[test]
fn credentials_need_tls_and_do_not_print() {
    let credentials = Some(login(|| "hunter2".to_owned()));
    let with = |tls| Smtp::new(SmtpSettings { credentials: credentials.clone(), tls, ..settings(25) });
    assert_eq!(with(Tls::None).err(), Some(SmtpSetupError::InsecureCredentials));
    assert!(!format!("{:?}", with(Tls::Tls).unwrap()).contains("hunter2"));
}
