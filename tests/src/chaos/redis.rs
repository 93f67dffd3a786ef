//! Two Redis servers, a master and its replica, and everything that can befall them.
//!
//! The replica follows over a link, so that what the master has acknowledged can be kept from it; processes reach
//! the master over links of their own, which are led to the new one after a failover.

use std::{fs, io, path::PathBuf, process::Command, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};

use super::{
    link::{Link, Mode},
    process::{Process, free_port},
    resp,
    settings::Settings,
};

/// Both servers.
#[derive(Debug)]
pub struct Redis {
    server: String,
    nodes: [Node; 2],
    master: usize,
    // From the replica to its master.
    following: Link,
    seats: Vec<Arc<Link>>,
    backups: Vec<PathBuf>,
    folder: PathBuf,
    // Of each partition, where its offset stands.
    metas: Vec<String>,
}

#[derive(Debug)]
struct Node {
    port: u16,
    folder: PathBuf,
    process: Option<Process>,
}

const PATIENCE: Duration = Duration::from_mins(1);

// === impl Redis ===

impl Redis {
    /// Starts both and opens a link for each of `seats` seats.
    ///
    /// # Errors
    /// If one does not come up.
    pub async fn start(settings: &Settings, seats: usize) -> anyhow::Result<Self> {
        let folder = settings.folder.join("redis-backups");
        fs::create_dir_all(&folder)?;
        let node = |name: &str| Node { port: free_port(), folder: settings.folder.join(name), process: None };
        let nodes = [node("redis-1"), node("redis-2")];
        let following = Link::open(nodes[0].port).await?;
        let mut links = Vec::new();
        for _ in 0..seats {
            links.push(Arc::new(Link::open(nodes[0].port).await?));
        }
        let server = settings.tools.redis.clone();
        let mut redis = Self { server, nodes, master: 0, following, seats: links, backups: Vec::new(), folder, metas: Vec::new() };
        redis.run(0, true, false).await?;
        redis.replicate().await?;
        Ok(redis)
    }

    /// From now on commits that are lost are counted, by these keys of the partitions.
    pub fn watch(&mut self, metas: Vec<String>) {
        self.metas = metas;
    }

    /// Offsets of all partitions, as the master has them.
    async fn offsets(&self) -> anyhow::Result<Vec<u64>> {
        let mut offsets = Vec::new();
        for meta in &self.metas {
            offsets.push(resp::ask(self.port(), &["HGET", meta, "off"]).await?.text().parse().unwrap_or(0));
        }
        Ok(offsets)
    }

    /// How many partitions do not stand where they did.
    async fn went_back(&self, before: &[u64]) -> anyhow::Result<usize> {
        let after = self.offsets().await?;
        Ok(before.iter().zip(after).filter(|(before, after)| after < *before).count())
    }

    /// Links of the seats.
    pub fn links(&self) -> Vec<Arc<Link>> {
        self.seats.clone()
    }

    /// Port of the master, past all links.
    pub const fn port(&self) -> u16 {
        self.nodes[self.master].port
    }

    async fn run(&mut self, index: usize, append_only: bool, follows: bool) -> anyhow::Result<()> {
        let node = &mut self.nodes[index];
        fs::create_dir_all(&node.folder)?;
        let mut run = Command::new(&self.server);
        let folder = node.folder.display().to_string();
        run.args(["--port", &node.port.to_string(), "--bind", "127.0.0.1", "--dir", &folder, "--save", "", "--appendfsync", "everysec"]);
        run.args(["--appendonly", if append_only { "yes" } else { "no" }, "--maxmemory", "1gb", "--maxmemory-policy", "noeviction"]);
        run.args([
            "--min-replicas-to-write",
            "1",
            "--min-replicas-max-lag",
            "10",
            "--repl-diskless-sync-delay",
            "0",
            "--repl-ping-replica-period",
            "1",
        ]);
        // An append-only file that was cut is loaded up to the cut.
        run.args(["--aof-load-truncated", "yes", "--repl-timeout", "20"]);
        if follows {
            run.args(["--replicaof", "127.0.0.1", &self.following.port().to_string()]);
        }
        node.process = Some(Process::start(&mut run, &node.folder.with_extension("log"))?);
        let (port, log) = (node.port, node.folder.with_extension("log"));
        wait(&format!("Redis on {port}; see {}", log.display()), || async move {
            resp::ask(port, &["PING"]).await.is_ok_and(|reply| reply.text() == "PONG")
        })
        .await
    }

    fn kill(&mut self, index: usize) {
        if let Some(process) = self.nodes[index].process.take() {
            process.kill();
        }
    }

    fn wipe(&self, index: usize) -> io::Result<()> {
        match fs::remove_dir_all(&self.nodes[index].folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The one that is no master starts anew as a replica; waits until it has everything.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn replicate(&mut self) -> anyhow::Result<()> {
        let other = 1 - self.master;
        self.kill(other);
        self.wipe(other)?;
        self.following.heal();
        self.following.lead_to(self.port());
        self.run(other, true, true).await?;
        self.in_step().await
    }

    /// Until the replica follows.
    async fn in_step(&self) -> anyhow::Result<()> {
        let port = self.port();
        wait("the replica", || async move {
            let info = resp::ask(port, &["INFO", "replication"]).await.map(|r| r.text()).unwrap_or_default();
            info.contains("state=online")
        })
        .await
    }

    /// The server is killed and starts again with what it has on disk.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn restart(&mut self, pause: Duration) -> anyhow::Result<()> {
        self.kill(self.master);
        tokio::time::sleep(pause).await;
        self.run(self.master, true, false).await?;
        self.in_step().await
    }

    /// The server is killed, its append-only file loses its last bytes, and it starts again: what it had
    /// acknowledged last is gone. How many partitions went back.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn lose_tail(&mut self, bytes: u64, pause: Duration) -> anyhow::Result<usize> {
        let before = self.offsets().await?;
        self.kill(self.master);
        let folder = self.nodes[self.master].folder.join("appendonlydir");
        let mut growing = None;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(".incr.aof") {
                growing = growing.max(Some(path));
            }
        }
        let file = fs::OpenOptions::new().write(true).open(growing.context("no append-only file")?)?;
        let length = file.metadata()?.len();
        file.set_len(length - bytes.min(length))?;
        tokio::time::sleep(pause).await;
        self.run(self.master, true, false).await?;
        let gone = self.went_back(&before).await?;
        self.in_step().await?;
        Ok(gone)
    }

    /// The replica hears nothing for a while, then the master dies and the replica is promoted: what the master
    /// acknowledged meanwhile is gone. The old one comes back as a replica after a pause. How many partitions went back.
    ///
    /// # Errors
    /// If a server does not come up.
    pub async fn failover(&mut self, deaf: Duration, pause: Duration) -> anyhow::Result<usize> {
        self.following.set(Mode::Silent);
        tokio::time::sleep(deaf).await;
        let before = self.offsets().await?;
        let old = self.master;
        self.kill(old);
        self.promote().await?;
        let gone = self.went_back(&before).await?;
        for seat in &self.seats {
            seat.lead_to(self.nodes[self.master].port);
        }
        tokio::time::sleep(pause).await;
        self.replicate().await?;
        Ok(gone)
    }

    /// Both are masters for a while: `there` of the seats go over to the promoted one, the others write to the old
    /// one until it is shut down. How many partitions went back by that.
    ///
    /// # Errors
    /// If a server does not come up.
    pub async fn split(&mut self, there: &[usize], lasts: Duration, pause: Duration) -> anyhow::Result<usize> {
        let old = self.master;
        self.promote().await?;
        // The promoted one may write without a replica while this lasts, or only one of the two would.
        for node in &self.nodes {
            resp::ask(node.port, &["CONFIG", "SET", "min-replicas-to-write", "0"]).await?;
        }
        for seat in there {
            self.seats[*seat].lead_to(self.nodes[self.master].port);
        }
        tokio::time::sleep(lasts).await;
        let new = std::mem::replace(&mut self.master, old);
        let before = self.offsets().await;
        self.master = new;
        let gone = self.went_back(&before?).await?;
        self.kill(old);
        for seat in &self.seats {
            seat.lead_to(self.nodes[self.master].port);
        }
        tokio::time::sleep(pause).await;
        self.replicate().await?;
        resp::ask(self.port(), &["CONFIG", "SET", "min-replicas-to-write", "1"]).await?;
        Ok(gone)
    }

    async fn promote(&mut self) -> anyhow::Result<()> {
        // What stands in its sockets must not reach it any more.
        self.following.set(Mode::Refused);
        let new = 1 - self.master;
        let said = resp::ask(self.nodes[new].port, &["REPLICAOF", "NO", "ONE"]).await?;
        ensure!(said.text() == "OK", "the replica was not promoted: {}", said.text());
        self.master = new;
        Ok(())
    }

    /// Takes a backup and keeps it.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn back_up(&mut self) -> anyhow::Result<()> {
        let said = resp::ask(self.port(), &["SAVE"]).await?;
        ensure!(said.text() == "OK", "no backup: {}", said.text());
        let kept = self.folder.join(format!("{}.rdb", self.backups.len()));
        fs::copy(self.nodes[self.master].folder.join("dump.rdb"), &kept)?;
        self.backups.push(kept);
        Ok(())
    }

    /// The master loses everything and starts from the backup before the latest `back`. How many partitions went back.
    ///
    /// # Errors
    /// If there is none, or the server does not come up.
    pub async fn restore(&mut self, back: usize) -> anyhow::Result<usize> {
        let chosen = self.backups.len().saturating_sub(1 + back);
        let Some(backup) = self.backups.get(chosen).cloned() else { bail!("no backup yet") };
        let before = self.offsets().await?;
        let master = self.master;
        self.kill(master);
        self.wipe(master)?;
        fs::create_dir_all(&self.nodes[master].folder)?;
        fs::copy(backup, self.nodes[master].folder.join("dump.rdb"))?;
        // With an append-only file asked for, the server would not read the dump.
        self.run(master, false, false).await?;
        let gone = self.went_back(&before).await?;
        resp::ask(self.port(), &["CONFIG", "SET", "appendonly", "yes"]).await?;
        let port = self.port();
        wait("the append-only file", || async move {
            let info = resp::ask(port, &["INFO", "persistence"]).await.map(|r| r.text()).unwrap_or_default();
            info.contains("aof_enabled:1") && info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
        })
        .await?;
        self.in_step().await?;
        Ok(gone)
    }

    /// Deletes a field of a hash, behind everybody's back.
    ///
    /// # Errors
    /// If the server does not answer, or there was no such field.
    pub async fn drop_field(&self, key: &str, field: &[u8]) -> anyhow::Result<()> {
        let said = resp::ask(self.port(), &[b"HDEL", key.as_bytes(), field]).await?;
        ensure!(said.text() == "1", "no field to drop in {key}: {}", said.text());
        Ok(())
    }
}

async fn wait<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) -> anyhow::Result<()> {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !look().await {
        if tokio::time::Instant::now() > until {
            bail!("waited {} s for {what}", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
