//! `waypost dev`: everything in one process, in memory.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn waypost() -> Command {
    let binary = std::env::vars().find(|(n, _)| n == "WAYPOST_BIN").map(|(_, v)| v);
    let mut command = Command::new(binary.expect("WAYPOST_BIN names the binary; run `make test`"));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn http(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_sample_shop_agrees_with_its_reference() {
    let mail = tempfile::tempdir().unwrap();
    for seed in ["3", "11"] {
        let output = waypost()
            .args(["dev", "--script", "shop", "--shoppers", "60", "--seed", seed, "--listen", "127.0.0.1:0", "--mail"])
            .arg(mail.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "seed {seed}: {told}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(told.contains("every one of 60 shoppers got exactly the messages"), "{told}");
    }
}

#[test]
fn it_stays_up_and_answers_at_every_address_it_names() {
    let mail = tempfile::tempdir().unwrap();
    let (door, control) = (free_address(), free_address());
    let child = waypost()
        .args(["dev", "--listen", &door, "--control", &control, "--mail"])
        .arg(mail.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let told = BufReader::new(running.0.stdout.take().unwrap());
    let mut key = String::new();
    for line in told.lines() {
        let line = line.unwrap();
        if line.contains("source `web`") {
            key = line.split_whitespace().last().unwrap().to_owned();
        }
        if line.contains("Ctrl-C") {
            break;
        }
    }
    let body = r#"{"event": "Product Added", "userId": "u1", "properties": {"cart_id": "k1", "product_id": "p1", "price": "89.00"}}"#;
    let basic = base64(&format!("{key}:"));
    let answer = http(
        &door,
        &format!(
            "POST /v1/track HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\nauthorization: Basic {basic}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    assert!(answer.contains("{\"success\":true}"), "{answer}");
    for path in ["/mail", "/subjects", "/livez"] {
        let answer = http(&door, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let ctl = std::env::vars().find(|(n, _)| n == "WAYPOSTCTL_BIN").map(|(_, v)| v).expect("WAYPOSTCTL_BIN names the binary; run `make test`");
    let explained = (0..100)
        .map(|_| {
            let output = Command::new(&ctl).args(["--server", &format!("http://{control}"), "explain", "user_id:u1", "cart-recovery"]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
        .find(|text| text.contains("ENTERED"));
    assert!(explained.is_some(), "the run was never explained");
}

/// RFC 4648, for one header.
fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0_u32, |all, b| (all << 8) | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let symbol = ALPHABET[(bits >> (18 - 6 * i)) as usize & 63] as char;
            out.push(if i <= chunk.len() { symbol } else { '=' });
        }
    }
    out
}
