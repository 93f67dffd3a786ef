//! The servers that all tests share, who may disturb them, and how to wait for something.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{redis::Held, shop::Shop};

/// Long enough for a loaded machine; a test that passes never waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);

static SERVERS: RwLock<()> = RwLock::new(());
static SHARED: Mutex<Option<Arc<Shop>>> = Mutex::new(None);

/// A shop that several tests use at once; nobody kills anything meanwhile.
pub(crate) struct Visit {
    pub(crate) shop: Arc<Shop>,
    _calm: RwLockReadGuard<'static, ()>,
}

/// A shop of its own for a test that kills things; no other runs meanwhile.
pub(crate) struct Alone {
    pub(crate) shop: Shop,
    _storm: RwLockWriteGuard<'static, ()>,
}

/// A shop of its own that works otherwise than the shared one.
pub(crate) struct Beside {
    pub(crate) shop: Shop,
    _calm: RwLockReadGuard<'static, ()>,
}

/// The shop that tests share.
pub(crate) fn visit() -> Visit {
    let calm = SERVERS.read().unwrap_or_else(PoisonError::into_inner);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let shop = Arc::clone(shared.get_or_insert_with(|| Arc::new(Shop::open("shared"))));
    Visit { shop, _calm: calm }
}

/// A fresh shop while nothing else runs.
pub(crate) fn alone(name: &str) -> Alone {
    let storm = storm();
    Alone { shop: Shop::open(name), _storm: storm }
}

/// A fresh shop while nothing else runs, on a Kafka and a Redis that hold nothing of others: after a crash Kafka looks through
/// every log it has, and those of all shops before take minutes.
pub(crate) fn alone_on_empty_servers(name: &str) -> Alone {
    let storm = storm();
    shut_down("kafka");
    fs::remove_dir_all(root().join(variable("STACK_DIR")).join("kafka/data")).unwrap();
    raise();
    Held::under("").ask(&["FLUSHDB"]);
    Alone { shop: Shop::open(name), _storm: storm }
}

/// Nobody else is there from now on, and the shared shop is closed.
fn storm() -> RwLockWriteGuard<'static, ()> {
    let storm = SERVERS.write().unwrap_or_else(PoisonError::into_inner);
    *SHARED.lock().unwrap_or_else(PoisonError::into_inner) = None;
    storm
}

/// A fresh shop of the release before, while nothing else runs.
pub(crate) fn alone_before(name: &str) -> Alone {
    let storm = SERVERS.write().unwrap_or_else(PoisonError::into_inner);
    *SHARED.lock().unwrap_or_else(PoisonError::into_inner) = None;
    Alone { shop: Shop::open_before(name), _storm: storm }
}

/// A fresh shop with further variables, beside the others; nobody kills anything meanwhile.
pub(crate) fn beside(name: &str, further: Vec<(String, String)>) -> Beside {
    let calm = SERVERS.read().unwrap_or_else(PoisonError::into_inner);
    Beside { shop: Shop::open_with(name, further), _calm: calm }
}

/// A variable that `deploy/local/test.sh` sets.
pub(crate) fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: these tests run by `make test` (deploy/local/test.sh -p waypost-tests)"))
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Milliseconds since 1970, as the processes under test see them.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// Polls until there is an answer; the panic says what was waited for.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited {} s for {what}", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(50));
    }
}

/// `kill -9` of a server of the stack.
pub(crate) fn fell(server: &str) {
    end(server, "KILL");
}

/// Stops a server of the stack as its owner would.
pub(crate) fn shut_down(server: &str) {
    end(server, "TERM");
}

fn end(server: &str, by: &str) {
    let folder = root().join(variable("STACK_DIR"));
    assert!(!folder.join("docker").exists(), "a container engine's stack cannot be killed by pid: run without STACK_DOCKER");
    let pid = fs::read_to_string(folder.join(server).join("pid")).unwrap();
    signal(by, pid.trim());
    let proc = format!("/proc/{}/stat", pid.trim());
    eventually("the server's end", || {
        // gone, or waiting for a parent that may never ask
        fs::read_to_string(&proc).map_or(true, |stat| stat.contains(") Z ")).then_some(())
    });
}

/// Whatever was felled is up again, on the same port, with the data it had on disk.
pub(crate) fn raise() {
    let up = Command::new(root().join("deploy/local/stack.sh")).arg("up").stdin(Stdio::null()).output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
}

/// Sends a signal by name.
pub(crate) fn signal(name: &str, pid: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_owned()]).stderr(Stdio::null()).status().unwrap();
    assert!(sent.success(), "kill -{name} {pid}");
}
