//! `waypost dev`: everything in one process, in memory.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use crate::{
    http::Request,
    stack::{eventually, root, variable},
};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn waypost() -> Command {
    let mut command = Command::new(variable("WAYPOST_BIN"));
    command.current_dir(root());
    command
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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
        let (told, logged) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "seed {seed}: {told}\n{logged}");
        let warned = told.lines().chain(logged.lines()).find(|line| line.contains("WARN"));
        assert_eq!(warned, None, "seed {seed}: nothing is wrong with a shop that works");
        assert!(told.contains("every one of 60 shoppers got exactly the messages"), "{told}");
    }
}

#[test]
fn it_stays_up_and_answers_at_every_address_it_names() {
    let mail = tempfile::tempdir().unwrap();
    let (door, control) = (free_port(), free_port());
    let child = waypost()
        .args(["dev", "--listen", &format!("127.0.0.1:{door}"), "--control", &format!("127.0.0.1:{control}"), "--mail"])
        .arg(mail.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let mut key = String::new();
    for line in BufReader::new(running.0.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains("source `web`") {
            key = line.split_whitespace().last().unwrap().to_owned();
        }
        if line.contains("Ctrl-C") {
            break;
        }
    }
    let body = r#"{"event": "Product Added", "userId": "u1", "properties": {"cart_id": "k1", "product_id": "p1", "price": "89.00"}}"#;
    assert_eq!(Request::post("/v1/track", body).key(&key).send(door).unwrap().status, 200);
    for path in ["/mail", "/subjects", "/livez"] {
        assert_eq!(Request::get(path).send(door).unwrap().status, 200, "{path}");
    }
    eventually("an explained run", || {
        let server = format!("http://127.0.0.1:{control}");
        let output = Command::new(variable("WAYPOSTCTL_BIN"))
            .args(["--server", &server, "explain", "user_id:u1", "cart-recovery"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).contains("ENTERED").then_some(())
    });
}
