//! Manifests and what they name, from files and folders.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use waypost_proto::control::File;

/// What was found under the paths given.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// `.yaml` and `.yml`.
    pub(crate) manifests: Vec<File>,
    /// `.mjml` and `.html`.
    pub(crate) attachments: Vec<File>,
}

/// Reads files and folders, in order of their names; `*.journey-test.yaml` stays here.
///
/// # Errors
/// A path that cannot be read, or nothing to apply.
pub(crate) fn find(paths: &[PathBuf]) -> anyhow::Result<Found> {
    let mut found = Found::default();
    for path in paths {
        if path.is_dir() {
            collect(path, &mut found)?;
        } else {
            add(path, &mut found)?;
            // A single manifest may name bodies beside it.
            for entry in sorted(path.parent().unwrap_or_else(|| Path::new(".")))? {
                if is(&entry, &["mjml", "html"]) {
                    add(&entry, &mut found)?;
                }
            }
        }
    }
    if found.manifests.is_empty() {
        bail!("no .yaml files under {}", paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "));
    }
    Ok(found)
}

fn collect(folder: &Path, found: &mut Found) -> anyhow::Result<()> {
    for path in sorted(folder)? {
        if path.is_dir() {
            collect(&path, found)?;
        } else {
            add(&path, found)?;
        }
    }
    Ok(())
}

fn sorted(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

fn add(path: &Path, found: &mut Found) -> anyhow::Result<()> {
    let into = if is(path, &["yaml", "yml"]) && !path.to_string_lossy().ends_with(".journey-test.yaml") {
        &mut found.manifests
    } else if is(path, &["mjml", "html"]) {
        &mut found.attachments
    } else {
        return Ok(());
    };
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    into.push(File { path: path.display().to_string(), text });
    Ok(())
}

fn is(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x))
}
