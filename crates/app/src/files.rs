//! A folder of manifests and what they name, in the form of the control API.

use std::{fs, path::Path};

use anyhow::Context as _;
use waypost_proto::control::File;

/// Manifests, then attachments, of a folder, in order of their names.
///
/// # Errors
/// A folder or file that cannot be read.
pub(crate) fn read(folder: &Path) -> anyhow::Result<(Vec<File>, Vec<File>)> {
    let (mut manifests, mut attachments) = (Vec::new(), Vec::new());
    collect(folder, &mut manifests, &mut attachments)?;
    Ok((manifests, attachments))
}

fn collect(folder: &Path, manifests: &mut Vec<File>, attachments: &mut Vec<File>) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, manifests, attachments)?;
            continue;
        }
        let into = match path.extension().and_then(|e| e.to_str()) {
            Some("yaml" | "yml") => &mut *manifests,
            Some("mjml" | "html") => &mut *attachments,
            Some(_) | None => continue,
        };
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        into.push(File { path: path.display().to_string(), text });
    }
    Ok(())
}
