//! What is made of files, made again when they change: access, certificates. A new content that is of no use leaves the old
//! one in force and says so once.

use std::{
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use zeroize::Zeroizing;

/// A file larger than this is not what was meant.
const SIZE_MAX: u64 = 1 << 20;
/// How often the files are looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// What lies in a file; wiped when it is let go.
pub type Content = Zeroizing<Vec<u8>>;

type Make<T> = Box<dyn Fn(&[Content]) -> Result<T, String> + Send + Sync>;

/// A value made of files.
pub struct Reread<T> {
    what: &'static str,
    paths: Vec<PathBuf>,
    make: Make<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    // Not the contents: among them are keys.
    seen: blake3::Hash,
    looked: Instant,
}

// === impl Reread ===

impl<T> fmt::Debug for Reread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reread").field("what", &self.what).field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl<T> Reread<T> {
    /// Reads the files for the first time. `what` names the setting, for the log.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn open(
        what: &'static str,
        paths: Vec<PathBuf>,
        make: impl Fn(&[Content]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let contents = read(&paths)?;
        let value = Arc::new(make(&contents).map_err(|why| format!("{}: {why}", listed(&paths)))?);
        let state = State { value, seen: seen(&contents), looked: Instant::now() };
        Ok(Self { what, paths, make: Box::new(make), state: Mutex::new(state) })
    }

    /// The value of the files as they are now, or were a second ago.
    pub fn current(&self) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK {
            self.look(&mut state);
        }
        Arc::clone(&state.value)
    }

    fn look(&self, state: &mut State<T>) {
        state.looked = Instant::now();
        let kept = |why: &str| tracing::warn!(what = self.what, why, "the changed file is of no use: what it said before stays in force");
        let contents = match read(&self.paths) {
            Ok(contents) => contents,
            Err(why) => {
                // Told once: the hash of no content at all.
                if state.seen != seen(&[]) {
                    kept(&why);
                }
                state.seen = seen(&[]);
                return;
            }
        };
        let now = seen(&contents);
        if now == state.seen {
            return;
        }
        state.seen = now;
        match (self.make)(&contents) {
            Ok(value) => {
                state.value = Arc::new(value);
                tracing::info!(what = self.what, "read again");
            }
            Err(why) => kept(&format!("{}: {why}", listed(&self.paths))),
        }
    }
}

fn read(paths: &[PathBuf]) -> Result<Vec<Content>, String> {
    let one = |path: &PathBuf| {
        let at = path.display();
        let size = fs::metadata(path).map_err(|e| format!("{at}: {e}"))?.len();
        if size > SIZE_MAX {
            Err(format!("{at} has {size} bytes; at most {SIZE_MAX} are read"))
        } else {
            fs::read(path).map(Content::new).map_err(|e| format!("{at}: {e}"))
        }
    };
    paths.iter().map(one).collect()
}

fn seen(contents: &[Content]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for content in contents {
        hasher.update(&(content.len() as u64).to_le_bytes()).update(content);
    }
    hasher.finalize()
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_read_again_and_a_broken_one_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        fs::write(&path, "1").unwrap();
        let number = |contents: &[Content]| String::from_utf8_lossy(&contents[0]).parse::<u32>().map_err(|e| e.to_string());
        let number = Reread::open("a number", vec![path.clone()], number).unwrap();
        assert_eq!(*number.current(), 1);
        for (content, expected) in [(Some("2"), 2), (Some("two"), 2), (None, 2), (Some("3"), 3)] {
            match content {
                Some(content) => fs::write(&path, content).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            tokio::time::advance(LOOK).await;
            assert_eq!(*number.current(), expected, "{content:?}");
        }
        assert!(Reread::open("a number", vec![folder.path().join("none")], |_| Ok(())).unwrap_err().contains("none"));
    }
}
