//! A Redis Cluster of this test's own, whose nodes end with it.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::{Value, cluster::ClusterClient, cluster_async::ClusterConnection};
use waypost_redis::{Rights, Server, set_user};

/// Masters of each cluster.
const MASTERS: usize = 3;
/// Slots of every cluster.
const SLOTS: usize = 16_384;

/// The cluster: three masters, then perhaps a replica of the first.
pub struct OwnCluster {
    /// Each of them.
    pub nodes: Vec<Node>,
    binary: String,
    /// Where its certificates lie, of one that speaks TLS, also among its nodes.
    certificates: Option<PathBuf>,
    folder: tempfile::TempDir,
}

/// Where a node listens: to clients, to nodes, and to clients over TLS, which the others are told then.
#[derive(Clone, Copy)]
struct Ports([u16; 3]);

/// One server.
pub struct Node {
    /// Where it listens, on this machine, without TLS.
    pub port: u16,
    ports: Ports,
    folder: PathBuf,
    process: Child,
    // Its standard input is a pipe that nobody writes to: it ends the node when the test does, however.
    watchdog: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        for process in [&mut self.process, &mut self.watchdog] {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

impl Node {
    fn start(binary: &str, certificates: Option<&PathBuf>, folder: PathBuf, ports: Ports) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        let Ports([port, bus, tls]) = ports;
        let line = format!(
            "--port {port} --cluster-port {bus} --cluster-enabled yes --cluster-node-timeout 1500 --bind 127.0.0.1 --save  --appendonly yes \
             --appendfsync everysec --maxmemory 1gb --maxmemory-policy noeviction --repl-diskless-sync-delay 0"
        );
        let over_tls = certificates.map(|folder| {
            let at = folder.display();
            format!(
                "--tls-port {tls} --tls-cluster yes --tls-replication yes --tls-cert-file {at}/server.pem --tls-key-file {at}/server.key \
                 --tls-ca-cert-file {at}/ca.pem"
            )
        });
        let further = over_tls.iter().flat_map(|line| line.split(' '));
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let process =
            Command::new(binary).args(line.split(' ').chain(further)).arg("--dir").arg(&folder).stdin(Stdio::null()).stdout(log).spawn();
        let process = process.unwrap();
        let watchdog = Command::new("sh").args(["-c", "read -r _; kill -9 $0", &process.id().to_string()]).stdin(Stdio::piped()).spawn();
        Self { port, ports, folder, process, watchdog: watchdog.unwrap() }
    }

    /// Asks it something.
    pub async fn try_ask(&self, line: &str) -> redis::RedisResult<Value> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        command.query_async(&mut connection).await
    }

    /// The same, of one that answers.
    pub async fn ask(&self, line: &str) -> Value {
        self.try_ask(line).await.unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// What it says of itself.
    pub async fn text(&self, line: &str) -> String {
        redis::from_redis_value(self.ask(line).await).unwrap()
    }

    /// Its name in the cluster.
    pub async fn id(&self) -> String {
        self.text("CLUSTER MYID").await
    }

    /// As settings name it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// It is gone at once, and says goodbye to nobody.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl OwnCluster {
    /// Starts three masters that share all slots.
    pub async fn start(binary: &str) -> Self {
        Self::start_over(None, binary).await
    }

    /// The same, which speaks TLS as well, with the certificates that lie there.
    pub async fn start_over(certificates: Option<PathBuf>, binary: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Self { nodes: Vec::new(), binary: binary.to_owned(), certificates, folder };
        for index in 0..MASTERS {
            cluster.add().await;
            let (first, last) = (SLOTS * index / MASTERS, SLOTS * (index + 1) / MASTERS - 1);
            cluster.nodes[index].ask(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await;
            cluster.nodes[index].ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1)).await;
        }
        cluster.meet(1).await;
        cluster.meet(2).await;
        cluster.settle().await;
        cluster
    }

    /// One that belongs to nobody yet, on free ports.
    async fn add(&mut self) {
        let index = self.nodes.len();
        for _ in 0..3 {
            let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
            let ports = Ports(free.map(|listener| listener.local_addr().unwrap().port()));
            let node = Node::start(&self.binary, self.certificates.as_ref(), self.folder.path().join(index.to_string()), ports);
            if answers(&node).await {
                self.nodes.push(node);
                return;
            }
        }
        panic!("no Redis node starts: see {}", std::fs::read_to_string(self.folder.path().join(format!("{index}/log"))).unwrap());
    }

    async fn meet(&self, index: usize) {
        let Ports([port, bus, tls]) = self.nodes[index].ports;
        let port = if self.certificates.is_some() { tls } else { port };
        self.nodes[0].ask(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}")).await;
    }

    /// All nodes know all others and serve all slots.
    pub async fn settle(&self) {
        let known = format!("cluster_known_nodes:{}\r", self.nodes.len());
        for node in &self.nodes {
            until("the cluster is whole", async || {
                let Ok(says) = node.try_ask("CLUSTER INFO").await else { return false };
                let says: String = redis::from_redis_value(says).unwrap();
                says.contains("cluster_state:ok") && says.contains(&known)
            })
            .await;
        }
    }

    /// A replica of the first master, which has all that it has.
    pub async fn add_replica(&mut self) {
        self.add().await;
        self.meet(MASTERS).await;
        self.settle().await;
        let master = self.nodes[0].id().await;
        let replica = &self.nodes[MASTERS];
        until("it knows its master", async || replica.try_ask(&format!("CLUSTER REPLICATE {master}")).await.is_ok()).await;
        until("it has what its master has", async || replica.text("INFO replication").await.contains("master_link_status:up")).await;
        self.settle().await;
    }

    /// Starts a node that was killed, with what it has on disk.
    pub async fn restart(&mut self, index: usize) {
        let Node { ports, ref folder, .. } = self.nodes[index];
        self.nodes[index] = Node::start(&self.binary, self.certificates.as_ref(), folder.clone(), ports);
        assert!(answers(&self.nodes[index]).await);
        self.settle().await;
    }

    /// The node that says of itself that the slot is its own.
    pub async fn master_of(&self, slot: u16) -> usize {
        for (index, node) in self.nodes.iter().enumerate() {
            // a master answers for its own keys alone
            if let Ok(Value::Array(rows)) = node.try_ask("CLUSTER SLOTS").await {
                for row in rows {
                    let Value::Array(row) = row else { panic!("{row:?}") };
                    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = row.as_slice() else { panic!("{row:?}") };
                    if (*first..=*last).contains(&i64::from(slot)) && master[1] == Value::Int(node.port.into()) {
                        return index;
                    }
                }
            }
        }
        panic!("nobody serves slot {slot}")
    }

    /// Nodes as settings name them.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// The same, to who speaks TLS.
    pub fn addresses_over_tls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.ports.0[2])).collect()
    }

    /// The cluster, to who may do everything.
    pub fn server(&self) -> Server {
        Server { cluster: self.addresses(), ..Server::at("redis://nowhere.invalid") }
    }

    /// The cluster, to a user with exactly these rights at each node.
    pub async fn guest(&self, name: &str, prefix: &str, rights: Rights) -> Server {
        for node in &self.nodes {
            node.ask(&set_user(name, prefix, rights, true).unwrap()).await;
            node.ask(&format!("ACL SETUSER {name} >secret")).await;
        }
        let file = self.folder.path().join("password");
        std::fs::write(&file, "secret").unwrap();
        Server { username: Some(name.to_owned()), password_file: Some(file), ..self.server() }
    }

    /// Another client's connection to all of it.
    pub async fn connection(&self) -> ClusterConnection {
        let urls = self.nodes.iter().map(|node| format!("redis://127.0.0.1:{}", node.port));
        ClusterClient::new(urls).unwrap().get_async_connection().await.unwrap()
    }
}

async fn answers(node: &Node) -> bool {
    for _ in 0..100 {
        if node.try_ask("PING").await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

/// Waits for something that comes by itself.
pub async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..400 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("still not: {what}");
}
