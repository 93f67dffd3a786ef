//! What was committed within a window, read from the store's append-only file when the run is over: that costs the run nothing, and is
//! what the store has done, whoever asked for it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use waypost_types::Role;

use crate::servers::Servers;

/// How often it is looked how far the file has grown.
const EVERY: Duration = Duration::from_millis(100);

/// Notes how far the file is, until it is told to stop.
#[derive(Debug)]
pub(crate) struct StoreLog {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// How far it was when.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// By number: a rewrite begins another, and deletes those before, which are held open for that.
    files: BTreeMap<u64, File>,
    /// Number of the newest file, and its length.
    looks: Vec<(Instant, (u64, u64))>,
}

/// What was written for one role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) commits: u64,
    /// Set and deleted.
    pub(crate) entities: u64,
}

/// By role.
pub(crate) type ByRole = BTreeMap<Role, Written>;

/// Commands as the file has them: each a list of words.
struct Commands<R> {
    from: R,
    /// How far it has been read.
    at: u64,
    words: Vec<Vec<u8>>,
}

// === impl StoreLog ===

impl StoreLog {
    pub(crate) fn follow(servers: &Servers) -> Self {
        let folder: PathBuf = servers.folder.join("redis/appendonlydir");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            seen.look(&folder);
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(EVERY);
                seen.look(&folder);
            }
            seen
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> anyhow::Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the look at the store's file ended early"))
    }
}

// === impl Seen ===

impl Seen {
    fn look(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Some(number) = number(&entry.file_name().to_string_lossy()) else { continue };
            if !self.files.contains_key(&number)
                && let Ok(file) = File::open(entry.path())
            {
                self.files.insert(number, file);
            }
        }
        if let Some((number, file)) = self.files.last_key_value()
            && let Ok(data) = file.metadata()
        {
            self.looks.push((Instant::now(), (*number, data.len())));
        }
    }

    /// What an installation wrote between two instants; none where there is no such file.
    pub(crate) fn written(&self, prefix: &str, from: Instant, to: Instant) -> anyhow::Result<Option<ByRole>> {
        let before = self.looks.iter().rev().find(|(at, _)| *at <= from).or_else(|| self.looks.first());
        let behind = self.looks.iter().find(|(at, _)| *at >= to).or_else(|| self.looks.last());
        let (Some((_, from)), Some((_, to))) = (before, behind) else { return Ok(None) };
        let mut all = ByRole::new();
        for (number, mut file) in self.files.range(from.0..=to.0) {
            let begin = if *number == from.0 { from.1 } else { 0 };
            let end = if *number == to.0 { to.1 } else { file.metadata()?.len() };
            file.seek(SeekFrom::Start(0))?;
            let mut commands = Commands::of(BufReader::with_capacity(1 << 20, file));
            while commands.at < end && commands.next().context("the store's append-only file")? {
                if commands.at > begin && commands.at <= end {
                    count(&commands.words, prefix, &mut all);
                }
            }
        }
        Ok(Some(all))
    }
}

/// `appendonly.aof.3.incr.aof`: 3; what a rewrite began with is none.
fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".incr.aof")?.rsplit('.').next()?.parse().ok()
}

/// Of commits the fields of the partition's meta and of its buckets; see `commit_writes` of `crates/redis/src/store.rs`.
fn count(words: &[Vec<u8>], prefix: &str, all: &mut ByRole) {
    let [command, key, field, ..] = words else { return };
    let key = String::from_utf8_lossy(key);
    let Some((name, rest)) = key.strip_prefix(&format!("{{{prefix}wp1:")).and_then(|stem| stem.split_once(':')) else { return };
    let Some(role) = Role::KEYED.into_iter().find(|role| role.as_str() == name) else { return };
    let (fields, is_state) = ((words.len() - 2) as u64, rest.contains(":s:"));
    let written = all.entry(role).or_default();
    match command.as_slice() {
        b"HSET" if is_state => written.entities += fields / 2,
        b"HDEL" if is_state => written.entities += fields,
        b"HSET" if rest.ends_with(":m") && field == b"off" => written.commits += 1,
        _ => {}
    }
}

// === impl Commands ===

impl<R: BufRead> Commands<R> {
    const fn of(from: R) -> Self {
        Self { from, at: 0, words: Vec::new() }
    }

    /// Reads the next one into `words`; whether there was one.
    fn next(&mut self) -> io::Result<bool> {
        let Some(count) = self.head(b'*')? else { return Ok(false) };
        self.words.resize_with(count, Vec::new);
        for place in 0..count {
            let length = self.head(b'$')?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let word = &mut self.words[place];
            word.resize(length + 2, 0);
            self.from.read_exact(word)?;
            word.truncate(length);
            self.at += length as u64 + 2;
        }
        Ok(true)
    }

    /// The number of a line that begins so; none at the end.
    fn head(&mut self, mark: u8) -> io::Result<Option<usize>> {
        let mut line = String::new();
        let read = self.from.by_ref().take(32).read_line(&mut line)?;
        if read == 0 {
            return Ok(None);
        }
        self.at += read as u64;
        let number = line.strip_prefix(char::from(mark)).and_then(|line| line.trim_end().parse().ok());
        number.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{line:?} at {}", self.at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        format!("*{}\r\n{}", words.len(), words.concat())
    }

    #[test]
    fn commits_and_their_entities_are_counted_within_a_window_and_over_a_rewrite() {
        let folder = tempfile::tempdir().unwrap();
        let meta = |p: &str| command(&["HSET", &format!("{{b.wp1:segmenter:0}}:{p}:m"), "off", "7", "clk", "3"]);
        let state = command(&["HSET", "{b.wp1:segmenter:0}:1:s:a", "x", "blob\r\n*9", "y", ""]);
        let gone = command(&["HDEL", "{b.wp1:segmenter:0}:1:s:a", "x"]);
        let claim = command(&["HSET", "{b.wp1:identity:0}:1:m", "own", "me"]);
        let other = command(&["HSET", "{other.wp1:identity:0}:1:m", "off", "1"]);
        let write = |number: u64, text: &[&String]| {
            let text: Vec<&str> = text.iter().map(|part| part.as_str()).collect();
            fs::write(folder.path().join(format!("appendonly.aof.{number}.incr.aof")), text.concat()).unwrap();
        };
        fs::write(folder.path().join("appendonly.aof.1.base.rdb"), "REDIS").unwrap();
        let (mut seen, begin) = (Seen::default(), Instant::now());
        let mut at = |second: u64| {
            seen.look(folder.path());
            let last = seen.looks.len() - 1;
            seen.looks[last].0 = begin + Duration::from_secs(second);
        };
        write(1, &[&state, &meta("1")]);
        at(1);
        write(1, &[&state, &meta("1"), &other, &claim, &state, &meta("2")]);
        at(2);
        write(2, &[&gone, &meta("1")]);
        at(3);
        let of = |from: u64, to: u64| {
            let written = seen.written("b.", begin + Duration::from_secs(from), begin + Duration::from_secs(to)).unwrap().unwrap();
            let Written { commits, entities } = written.get(&Role::Segmenter).copied().unwrap_or_default();
            (commits, entities)
        };
        assert_eq!([of(1, 2), of(1, 3), of(2, 3), of(3, 3)], [(1, 2), (2, 3), (1, 1), (0, 0)]);
        assert_eq!(Seen::default().written("b.", begin, begin).unwrap(), None);
    }
}
