//! Backups of one job, each in a folder that has its time as name.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use waypost_types::Timestamp;

use super::backup::ENDING;

/// `2026-11-23T04-17-00`: names sort as times do, and stand in every file system.
const SHAPE: &str = "0000-00-00T00-00-00";

/// The folder of a backup that begins now.
pub(super) fn folder(now: Timestamp) -> String {
    now.to_string().chars().take(SHAPE.len()).map(|c| if c == ':' { '-' } else { c }).collect()
}

/// Removes the backups in `under` that began before; those that went. A folder of another name, or one with anything else in it,
/// is somebody's own and stays.
pub(super) fn thin(under: &Path, before: Timestamp) -> anyhow::Result<Vec<PathBuf>> {
    let before = folder(before);
    let mut gone = Vec::new();
    for entry in fs::read_dir(under).with_context(|| format!("--under {}", under.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if is_backup(name) && *name < *before && remove(&path).with_context(|| format!("removing {}", path.display()))? {
            gone.push(path);
        }
    }
    gone.sort();
    Ok(gone)
}

fn is_backup(name: &str) -> bool {
    let fits = |(found, shape): (char, char)| if shape == '0' { found.is_ascii_digit() } else { found == shape };
    name.len() == SHAPE.len() && name.chars().zip(SHAPE.chars()).all(fits)
}

/// Whether it held backups alone, and is gone.
fn remove(folder: &Path) -> io::Result<bool> {
    let files: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    if !files.iter().all(|file| file.extension().is_some_and(|ending| ending == ENDING)) {
        return Ok(false);
    }
    for file in &files {
        fs::remove_file(file)?;
    }
    fs::remove_dir(folder)?;
    Ok(true)
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
        make("2026-11-20T04-00-00", &["identity-0.wpbackup", "notes.txt"]);
        make("2026-11-22T04-00-00", &["identity-0.wpbackup"]);
        make("2026-11-01-by-hand", &["identity-0.wpbackup"]);
        let gone = thin(under.path(), Timestamp::from_millis(now.millis() - 86_400_000)).unwrap();
        assert_eq!(gone, [under.path().join("2026-11-19T04-00-00")]);
        assert_eq!(fs::read_dir(under.path()).unwrap().count(), 3);
        assert!(thin(&under.path().join("none"), now).is_err());
    }
}
