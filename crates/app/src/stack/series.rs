//! Backups of one job, each in a folder that has its time as name.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use waypost_types::Timestamp;

use super::backup::{ENDING, UNFINISHED};

/// `2026-11-23T04-17-00`: names sort as times do, and stand in every file system.
const SHAPE: &str = "0000-00-00T00-00-00";

/// The folder of a backup that begins now.
pub(super) fn folder(now: Timestamp) -> String {
    now.to_string().chars().take(SHAPE.len()).map(|c| if c == ':' { '-' } else { c }).collect()
}

/// What became of backups that are too old.
#[derive(Debug, Default)]
pub(super) struct Thinned {
    /// Those that went.
    pub(super) gone: Vec<PathBuf>,
    /// Those that stay, and what else is in them.
    pub(super) kept: Vec<(PathBuf, PathBuf)>,
}

/// Removes the backups in `under` that began before. A folder of another name, or one with anything else in it, is somebody's own and
/// stays.
pub(super) fn thin(under: &Path, before: Timestamp) -> anyhow::Result<Thinned> {
    let before = folder(before);
    let mut thinned = Thinned::default();
    for entry in fs::read_dir(under).with_context(|| format!("--under {}", under.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !is_backup(name) || *name >= *before {
            continue;
        }
        match remove(&path).with_context(|| format!("removing {}", path.display()))? {
            None => thinned.gone.push(path),
            Some(other) => thinned.kept.push((path, other)),
        }
    }
    thinned.gone.sort();
    thinned.kept.sort();
    Ok(thinned)
}

fn is_backup(name: &str) -> bool {
    let fits = |(found, shape): (char, char)| if shape == '0' { found.is_ascii_digit() } else { found == shape };
    name.len() == SHAPE.len() && name.chars().zip(SHAPE.chars()).all(fits)
}

/// Removes it if it holds backups alone, whole ones and those that were cut short; else the name of something else in it.
fn remove(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    files.sort();
    let is_ours = |file: &PathBuf| file.extension().is_some_and(|ending| ending == ENDING || ending == UNFINISHED);
    if let Some(other) = files.iter().find(|file| !is_ours(file)) {
        return Ok(Some(other.file_name().map(PathBuf::from).unwrap_or_default()));
    }
    for file in &files {
        fs::remove_file(file)?;
    }
    fs::remove_dir(folder)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_backups_of_the_series_go() {
        let now = Timestamp::from_millis(1_795_406_400_000);
        assert_eq!(folder(now), "2026-11-23T04-00-00");
        let under = tempfile::tempdir().unwrap();
        let make = |name: &str, files: &[&str]| {
            let folder = under.path().join(name);
            fs::create_dir(&folder).unwrap();
            for file in files {
                fs::write(folder.join(file), "x").unwrap();
            }
        };
        make("2026-11-19T04-00-00", &["identity-0.wpbackup", "sender-0.wpbackup"]);
        // a job that was killed as it wrote the second
        make("2026-11-19T05-00-00", &["identity-0.wpbackup", "identity-1.unfinished"]);
        make("2026-11-20T04-00-00", &["identity-0.wpbackup", "notes.txt"]);
        make("2026-11-22T04-00-00", &["identity-0.wpbackup"]);
        make("2026-11-01-by-hand", &["identity-0.wpbackup"]);
        let thinned = thin(under.path(), Timestamp::from_millis(now.millis() - 86_400_000)).unwrap();
        assert_eq!(thinned.gone, ["2026-11-19T04-00-00", "2026-11-19T05-00-00"].map(|name| under.path().join(name)));
        assert_eq!(thinned.kept, [(under.path().join("2026-11-20T04-00-00"), PathBuf::from("notes.txt"))]);
        assert_eq!(fs::read_dir(under.path()).unwrap().count(), 3);
        assert!(thin(&under.path().join("none"), now).is_err());
    }
}
