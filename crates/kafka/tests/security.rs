//! TLS and users, on a real Kafka: who is let in, who is not, and what is said of it; and passwords that change meanwhile.

#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]
#![expect(clippy::disallowed_methods, reason = "where the test servers are stands in the environment; time is the outside's")]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use waypost_kafka::{Certificate, Connection, KafkaLog, Mechanism, Sasl, Tls, TokenFile};
use waypost_memory::contract::{fresh_prefix, server};
use waypost_runtime::ports::{Append, Consumer, Log, Membership, Producer, Subscription, Tail, TopicSpec};

/// The secured doors of the test broker.
struct Doors {
    folder: PathBuf,
    files: tempfile::TempDir,
}

impl Doors {
    /// None, and a line that says so, where the broker of this run has none.
    fn find() -> Option<Self> {
        let folder = variable("WAYPOST_TEST_TLS");
        if folder.is_empty() {
            println!("skipped: the Kafka of this run has neither TLS nor users");
            return None;
        }
        Some(Self { folder: folder.into(), files: tempfile::tempdir().unwrap() })
    }

    fn password(&self) -> String {
        fs::read_to_string(self.folder.join("password")).unwrap().trim().to_owned()
    }

    /// A file with this text.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.files.path().join(name);
        fs::write(&path, format!("{text}\n")).unwrap();
        path
    }

    fn tls(&self) -> Tls {
        Tls { ca_file: Some(self.folder.join("ca.pem")), certificate: None }
    }

    fn certificate(&self) -> Certificate {
        Certificate { cert_file: self.folder.join("client.pem"), key_file: self.folder.join("client.key") }
    }

    fn user(&self, mechanism: Mechanism, password: &str) -> Sasl {
        let password_file = self.file("password", password);
        Sasl::Password { mechanism, username: "waypost".into(), password_file }
    }

    /// Who shows a token that nobody has signed, with this lifetime in seconds.
    fn bearer(&self, lifetime: i64) -> Sasl {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let claims = format!(r#"{{"sub": "waypost", "iat": {now}, "exp": {}}}"#, now + lifetime);
        let token = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg": "none"}"#), URL_SAFE_NO_PAD.encode(claims));
        Sasl::Token(Arc::new(TokenFile(self.file("token", &token))))
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make test`"))
}

fn plaintext() -> KafkaLog {
    KafkaLog::new(&Connection::new(server("WAYPOST_TEST_KAFKA"))).unwrap()
}

fn sasl_ssl(doors: &Doors, sasl: Sasl) -> Connection {
    Connection::new(variable("WAYPOST_TEST_KAFKA_SASL_SSL")).tls(doors.tls()).sasl(sasl)
}

async fn create(log: &KafkaLog) -> String {
    let name = format!("{}security", fresh_prefix());
    log.create(&[TopicSpec { name: name.clone(), partitions: 1, replication: 1, settings: Vec::new() }]).await.unwrap();
    name
}

fn record(topic: &str, payload: &'static str) -> Append {
    Append { topic: topic.to_owned(), partition: 0, key: None, headers: Vec::new(), payload: Bytes::from_static(payload.as_bytes()) }
}

async fn within<T>(seconds: u64, what: &str, doing: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), doing).await.unwrap_or_else(|_| panic!("{what}: not within {seconds} s"))
}

/// Produces a record and reads it back.
async fn goes_through(connection: &Connection, topic: &str) {
    let log = KafkaLog::new(connection).unwrap();
    let producer = log.producer().unwrap();
    let offset = within(20, "an append", producer.append(record(topic, "hello"))).await.unwrap();
    let mut tail = log.tail(topic, 0, offset).await.unwrap();
    let delivery = within(20, "a record", next(&mut *tail)).await;
    assert_eq!((delivery.0, &delivery.1[..]), (offset, &b"hello"[..]));
    assert_eq!(log.watermarks(topic, 0).await.unwrap(), (0, offset + 1));
}

/// The next record: offset and payload.
async fn next(tail: &mut dyn Tail) -> (u64, Bytes) {
    loop {
        if let Some(delivery) = tail.next().await.unwrap() {
            return (delivery.offset, delivery.payload);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_to_prove_who_one_is_goes_through() {
    let Some(doors) = Doors::find() else { return };
    let certificate = Tls { certificate: Some(doors.certificate()), ..doors.tls() };
    let password = doors.password();
    let mut last = None;
    for connection in [
        Connection::new(variable("WAYPOST_TEST_KAFKA_SSL")).tls(certificate),
        sasl_ssl(&doors, doors.user(Mechanism::Plain, &password)),
        sasl_ssl(&doors, doors.user(Mechanism::ScramSha256, &password)),
        sasl_ssl(&doors, doors.user(Mechanism::ScramSha512, &password)),
        Connection::new(variable("WAYPOST_TEST_KAFKA_SASL")).sasl(doors.user(Mechanism::ScramSha512, &password)),
    ] {
        let topic = create(&KafkaLog::new(&connection).unwrap()).await;
        goes_through(&connection, &topic).await;
        last = Some(topic);
    }
    let bearer = sasl_ssl(&doors, doors.bearer(600));
    let log = KafkaLog::new(&bearer).unwrap();
    assert!(log.describe(&last.unwrap()).await.unwrap().is_some());
    goes_through(&bearer, &create(&log).await).await;
}

/// What is said of a question that brokers refuse, which takes no longer than a question may.
async fn refusal(connection: &Connection, secret: &str) -> String {
    let began = Instant::now();
    let error = match KafkaLog::new(connection) {
        Ok(log) => log.watermarks("any", 0).await.unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(began.elapsed() < Duration::from_secs(8), "{error} after {:?}", began.elapsed());
    assert!(!error.contains(secret), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_is_told_the_setting_at_fault() {
    let Some(doors) = Doors::find() else { return };
    let ssl = |brokers: &str, tls: Tls| Connection::new(brokers).tls(tls);
    let (asking, password) = (variable("WAYPOST_TEST_KAFKA_SSL"), doors.password());
    let certificate = Some(doors.certificate());
    let stranger = Tls { ca_file: Some(doors.folder.join("other-ca.pem")), certificate: certificate.clone() };
    let public = Tls { ca_file: None, certificate: certificate.clone() };
    let garbled = Tls { ca_file: Some(doors.file("garbled", "no certificate")), certificate: None };
    let elsewhere = asking.replace("127.0.0.1", "localhost");
    for (connection, says) in [
        (ssl(&asking, stranger), "kafka.ca_file"),
        (ssl(&asking, public), "kafka.ca_file"),
        (ssl(&asking, garbled), "kafka.ca_file"),
        (ssl(&asking, doors.tls()), "kafka.cert_file"),
        (ssl(&elsewhere, Tls { certificate, ..doors.tls() }), "the names in kafka.brokers"),
        (sasl_ssl(&doors, doors.bearer(-600)), "kafka.token_file"),
    ] {
        let refusal = refusal(&connection, &password).await;
        assert!(refusal.contains(says), "{says}: {refusal}");
    }
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let refusal = refusal(&sasl_ssl(&doors, doors.user(mechanism, "canary-4711")), "canary").await;
        assert!(refusal.contains("kafka.password_file") && refusal.contains("kafka.username"), "{mechanism:?}: {refusal}");
    }
    let garbled = Sasl::Token(Arc::new(TokenFile(doors.file("token", "canary"))));
    let refusal = refusal(&sasl_ssl(&doors, garbled), "canary").await;
    assert!(refusal.contains("kafka.token_file") && refusal.contains("no JSON web token"), "{refusal}");
}

/// Gives a user of the broker a password.
fn give_password(user: &str, password: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local/stack.sh");
    let mut child = Command::new(script).args(["scram", user]).stdin(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    assert!(child.wait().unwrap().success());
}

/// The next record of a member of a role's group, which begins at the beginning of whatever it is given.
async fn taken(consumer: &mut Box<dyn Consumer>) -> Bytes {
    loop {
        while let Some(news) = consumer.membership() {
            if let Membership::Assign { partitions, starts } = news {
                let answer = partitions.iter().map(|partition| (*partition, Some(0))).collect();
                if starts.send(answer).is_err() {
                    // nobody looked for two seconds
                    for partition in partitions {
                        consumer.seek(partition, 0).unwrap();
                    }
                }
            }
        }
        if let Some(delivery) = consumer.take(0) {
            return delivery.payload;
        }
        drop(tokio::time::timeout(Duration::from_millis(100), consumer.ready()).await);
    }
}

/// Appends by this producer, or by whichever comes after it.
async fn append(log: &KafkaLog, mut producer: Arc<dyn Producer>, topic: &str, payload: &'static str) {
    while producer.append(record(topic, payload)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(500)).await;
        producer = log.producer().unwrap();
    }
}

/// The broker asks each of its clients again and again who it is, every four seconds, and ends what cannot say it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_was_changed_is_read_again_by_every_client() {
    let Some(doors) = Doors::find() else { return };
    let user = format!("user-{}", fresh_prefix().trim_end_matches('.'));
    give_password(&user, "before");
    let file = doors.file("rotated", "before");
    let sasl = Sasl::Password { mechanism: Mechanism::ScramSha512, username: user.clone(), password_file: file.clone() };
    let log = KafkaLog::new(&Connection::new(variable("WAYPOST_TEST_KAFKA_SASL")).sasl(sasl)).unwrap();
    let topic = create(&log).await;
    let producer = log.producer().unwrap();
    within(20, "an append", producer.append(record(&topic, "one"))).await.unwrap();
    let mut tail = log.tail(&topic, 0, 0).await.unwrap();
    let mut subscription: Box<dyn Subscription> = log.subscribe(&topic, &format!("{topic}.door")).await.unwrap();
    let mut consumer = log.consumer(&topic, &format!("{topic}.role")).await.unwrap();
    assert_eq!(within(20, "the tail", next(&mut *tail)).await.1, "one");
    assert_eq!(within(20, "the subscription", subscription.next()).await.unwrap().payload, "one");
    assert_eq!(within(20, "the member", taken(&mut consumer)).await, "one");

    give_password(&user, "after");
    // all of them have been asked again, and had no answer
    tokio::time::sleep(Duration::from_secs(6)).await;
    fs::write(&file, "after\n").unwrap();
    within(60, "an append", append(&log, producer, &topic, "two")).await;
    assert_eq!(within(60, "the tail", next(&mut *tail)).await.1, "two");
    loop {
        // what was not committed comes again
        let payload = within(60, "the subscription", subscription.next()).await.unwrap().payload;
        if payload == "two" {
            break;
        }
    }
    while within(60, "the member", taken(&mut consumer)).await != "two" {}
    assert_eq!(log.watermarks(&topic, 0).await.unwrap(), (0, 2));
}

/// Its clients are not asked for a token before they need one, and nobody waits for the second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_renewed_is_shown_in_time() {
    let Some(doors) = Doors::find() else { return };
    let topic = create(&plaintext()).await;
    let sasl = doors.bearer(5);
    let log = KafkaLog::new(&sasl_ssl(&doors, sasl)).unwrap();
    let mut tail = log.tail(&topic, 0, 0).await.unwrap();
    let producer = log.producer().unwrap();
    within(20, "an append", producer.append(record(&topic, "one"))).await.unwrap();
    assert_eq!(within(20, "the tail", next(&mut *tail)).await.1, "one");
    // into the same file, before the first one ends
    drop(doors.bearer(600));
    tokio::time::sleep(Duration::from_secs(7)).await;
    within(20, "an append", producer.append(record(&topic, "two"))).await.unwrap();
    assert_eq!(within(20, "the tail", next(&mut *tail)).await.1, "two");
    assert_eq!(log.watermarks(&topic, 0).await.unwrap(), (0, 2));
}
