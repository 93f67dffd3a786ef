//! First figures of a running stack (`make up`, then `make figures`): how long an order takes to end a run, and
//! how many events a second go through everything. A reading, not a benchmark: one machine, no baseline.
#![expect(clippy::print_stdout, reason = "it prints figures")]
#![expect(clippy::disallowed_methods, reason = "wall time is what is measured")]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use waypost_codec::public::Decision;
use waypost_kafka::{Connection, KafkaLog};
use waypost_runtime::{
    host::SystemClock,
    ports::{Clock as _, Log},
    progress::Directory,
};
use waypost_types::{PartitionId, Role};

const ORDERS: usize = 200;
const EVENTS: u32 = 100_000;
const BATCHES: u32 = EVENTS / BATCH;
const BATCH: u32 = 100;

struct Door {
    stream: BufReader<TcpStream>,
    key: String,
}

impl Door {
    fn open(address: &str, key: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the door is open: run `make up`");
        stream.set_nodelay(true).expect("a socket");
        Self { stream: BufReader::new(stream), key: key.to_owned() }
    }

    fn post(&mut self, path: &str, body: &str) {
        let body = body.replacen('{', &format!("{{\"writeKey\":\"{}\",", self.key), 1);
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        self.stream.get_mut().write_all(format!("{head}{body}").as_bytes()).expect("the door takes it");
        let mut status = String::new();
        self.stream.read_line(&mut status).expect("an answer");
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a header");
            if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = n.trim().parse().expect("a length");
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).expect("a body");
        assert!(status.contains("200"), "{status}{}", String::from_utf8_lossy(&answer));
    }
}

fn setting(name: &str) -> String {
    let found = std::env::vars().find(|(n, _)| n == name);
    found.unwrap_or_else(|| panic!("{name} is not set: run `make figures`")).1
}

#[tokio::main]
async fn main() {
    let (address, key) = (setting("WAYPOST_INGEST_LISTEN"), setting("WRITE_KEY"));
    let log: Arc<dyn Log> = Arc::new(KafkaLog::new(&Connection::new(setting("WAYPOST_KAFKA_BROKERS"))).expect("brokers"));
    latency(&log, &address, &key).await;
    throughput(&log, &address, &key).await;
}

async fn latency(log: &Arc<dyn Log>, address: &str, key: &str) {
    let (seen, mut exits) = tokio::sync::mpsc::channel::<(String, Instant)>(10_000);
    for partition in 0..8 {
        let from = log.watermarks(Decision::TOPIC, partition).await.expect("the topic").1;
        let mut tail = log.tail(Decision::TOPIC, partition, from).await.expect("a tail");
        let seen = seen.clone();
        tokio::spawn(async move {
            while let Ok(record) = tail.next().await {
                let Some(row) = record.as_ref().and_then(|r| r.payload.get(5..)).and_then(Decision::decode) else { continue };
                if row.what == "EXITED" && row.reason == "GOAL" {
                    drop(seen.send((row.key, Instant::now())).await);
                }
            }
        });
    }
    let mut door = Door::open(address, key);
    let run = SystemClock.now().millis();
    let mut waits = Vec::new();
    for i in 0..ORDERS {
        let (user, cart) = (format!("f{run}-{i}"), format!("fk{run}-{i}"));
        door.post(
            "/v1/track",
            &format!(
                r#"{{"event":"Product Added","userId":"{user}","properties":{{"cart_id":"{cart}","product_id":"p1","price":"50.00"}}}}"#
            ),
        );
        tokio::time::sleep(Duration::from_millis(40)).await;
        let ordered = Instant::now();
        door.post("/v1/track", &format!(r#"{{"event":"Order Completed","userId":"{user}","properties":{{"order_id":"fo{run}-{i}","total":"50.00","cart_id":"{cart}"}}}}"#));
        let exited = tokio::time::timeout(Duration::from_secs(10), async {
            while let Some((key, at)) = exits.recv().await {
                if key == cart {
                    return at;
                }
            }
            Instant::now()
        });
        waits.push(exited.await.expect("the run exits").duration_since(ordered));
    }
    waits.sort();
    let at = |p: usize| waits[(waits.len() * p / 100).min(waits.len() - 1)].as_secs_f64() * 1000.0;
    println!(
        "order at the door → run exited, read back from Kafka, {ORDERS} orders one by one: p50 {:.1} ms, p99 {:.1} ms",
        at(50),
        at(99)
    );
}

async fn throughput(log: &Arc<dyn Log>, address: &str, key: &str) {
    let run = SystemClock.now().millis();
    let bodies: Vec<String> = (0..BATCHES)
        .map(|b| {
            let items: Vec<String> = (0..BATCH)
                .map(|i| {
                    let n = b * BATCH + i;
                    let visitor = n % 20_000;
                    if n.is_multiple_of(40) {
                        format!(r#"{{"type":"track","event":"Product Added","anonymousId":"t{run}-{visitor}","messageId":"m{run}-{n}","properties":{{"cart_id":"c{visitor}","product_id":"p{}","price":"20.00"}}}}"#, n % 500)
                    } else {
                        format!(r#"{{"type":"track","event":"Product Viewed","anonymousId":"t{run}-{visitor}","messageId":"m{run}-{n}","properties":{{"product_id":"p{}","category":"Shoes","price":"20.00"}}}}"#, n % 500)
                    }
                })
                .collect();
            format!(r#"{{"batch":[{}]}}"#, items.join(","))
        })
        .collect();
    let directory = Directory::follow(Arc::clone(log), "");
    let began = Instant::now();
    let posting: Vec<_> = bodies
        .chunks(bodies.len().div_ceil(4))
        .map(|part| {
            let (part, address, key) = (part.to_vec(), address.to_owned(), key.to_owned());
            tokio::task::spawn_blocking(move || {
                let mut door = Door::open(&address, &key);
                for body in part {
                    door.post("/v1/batch", &body);
                }
            })
        })
        .collect();
    for part in posting {
        part.await.expect("a poster");
    }
    let accepted = began.elapsed();
    // Folded when every keyed role has come to the ends that its upstream's end implies; asked twice, because ends move.
    let mut still = 0;
    let mut last = BTreeMap::new();
    while still < 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut ends = BTreeMap::new();
        let mut behind = false;
        for role in [Role::Identity, Role::Segmenter, Role::Orchestrator] {
            for owner in directory.owners(SystemClock.now()).into_iter().filter(|o| o.progress.partition.role == role) {
                let PartitionId { index, .. } = owner.progress.partition;
                let end = log.watermarks(role.inbox().expect("keyed"), index).await.expect("watermarks").1;
                behind |= owner.progress.next + 3 < end;
                ends.insert(owner.progress.partition, end / 8);
            }
        }
        still = if !behind && !ends.is_empty() && ends == last { still + 1 } else { 0 };
        last = ends;
    }
    let folded = began.elapsed().saturating_sub(Duration::from_millis(200));
    let rate = |d: Duration| f64::from(EVENTS) / d.as_secs_f64();
    println!(
        "{EVENTS} events in batches of {BATCH} over 4 connections: acknowledged at {:.0}/s, through all three folds at {:.0}/s",
        rate(accepted),
        rate(folded)
    );
}
