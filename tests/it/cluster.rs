//! All roles on a Redis Cluster, of which a master goes away and comes back.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use waypost_redis::Keys;
use waypost_tests::{
    chaos::resp::{self, Reply},
    process::{Process, free_port},
};
use waypost_types::{PartitionId, Role};

use crate::{
    public::RUNTIME,
    shop::said,
    stack::{self, eventually},
};

const NAME: &str = "cluster";
/// Slots of every cluster.
const SLOTS: usize = 16_384;

/// A master.
struct Node {
    port: u16,
    bus: u16,
    folder: PathBuf,
    process: Option<Process>,
}

impl Node {
    fn start(&mut self) {
        let mut server = Command::new(stack::variable("WAYPOST_TEST_REDIS_SERVER"));
        let line = format!(
            "--port {} --cluster-port {} --cluster-enabled yes --cluster-node-timeout 2000 --bind 127.0.0.1 --save  --appendonly yes \
             --appendfsync everysec --maxmemory 1gb --maxmemory-policy noeviction",
            self.port, self.bus
        );
        server.args(line.split(' ')).arg("--dir").arg(&self.folder);
        self.process = Some(Process::start(&mut server, &self.folder.join("log")).unwrap());
    }

    fn ask(&self, line: &str) -> Option<Reply> {
        RUNTIME.block_on(resp::ask(self.port, &line.split(' ').collect::<Vec<_>>())).ok()
    }
}

fn whole(nodes: &[Node]) {
    for node in nodes {
        eventually("a whole cluster", || node.ask("CLUSTER INFO").filter(|says| says.text().contains("cluster_state:ok")));
    }
}

/// Three masters that share all slots.
fn start(folder: &Path) -> Vec<Node> {
    let mut nodes = Vec::new();
    for index in 0..3 {
        let folder = folder.join(index.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let mut node = Node { port: free_port(), bus: free_port(), folder, process: None };
        node.start();
        let (first, last) = (SLOTS * index / 3, SLOTS * (index + 1) / 3 - 1);
        eventually("a node", || node.ask(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")).filter(|says| says.text() == "OK"));
        node.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1)).unwrap();
        nodes.push(node);
    }
    for Node { port, bus, .. } in &nodes[1..] {
        nodes[0].ask(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}")).unwrap();
    }
    whole(&nodes);
    nodes
}

#[test]
fn an_event_becomes_a_message_with_the_states_on_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let mut nodes = start(folder.path());
    let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect::<Vec<_>>().join(",");
    let further = [("WAYPOST_REDIS_URL", "redis://nowhere.invalid".to_owned()), ("WAYPOST_REDIS_CLUSTER", addresses)];
    let beside = stack::beside(NAME, further.map(|(name, value)| (name.to_owned(), value)).to_vec());
    let shop = &beside.shop;
    let address = shop.person("spread");
    shop.touch(&json!({"userId": "spread"}), "k-spread");
    shop.mail(&address, "remind k-spread");

    let meta = Keys::new(shop.prefix(), &[]).meta(PartitionId { role: Role::Identity, index: 0 });
    let slot: usize = nodes[0].ask(&format!("CLUSTER KEYSLOT {meta}")).unwrap().text().parse().unwrap();
    let master = (0..3).find(|index| slot < SLOTS * (index + 1) / 3).unwrap();
    assert_eq!(nodes[master].ask(&format!("EXISTS {meta}")).unwrap().text(), "1");
    nodes[master].process.take().unwrap().kill();
    // the door takes what comes, and nobody loses it
    shop.order(&json!({"userId": "spread"}), "o-spread");
    let doctor = shop.run(&["doctor"]);
    let away = format!("127.0.0.1:{}: cannot connect", nodes[master].port);
    assert!(!doctor.status.success() && said(&doctor).contains(&away), "{}", said(&doctor));
    nodes[master].start();
    whole(&nodes);
    shop.ended("cart-recovery", "k-spread");

    for args in [&["backup", "--out", &folder.path().join("backup").display().to_string()][..], &["doctor"]] {
        let output = shop.run(args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
    }
}
