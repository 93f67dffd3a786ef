//! `edit`: a definition in somebody's own editor, checked, compared and applied; what is refused is not lost.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use waypost_engine::manifest::to_yaml;
use waypost_proto::control as pb;

use crate::{
    commands::{Done, Session, described},
    output,
};

/// Where neither $VISUAL nor $EDITOR says which.
const EDITOR: &str = "vi";
/// What stands above the manifest.
const HEAD: &str = "# Save and leave the editor to apply this. A file that was not changed changes nothing.\n";
/// Somebody else may change other definitions between our look and our write; looked again so often.
const TRIES: usize = 5;

// === impl Session ===

impl Session {
    pub(crate) async fn edit(&self, definition: &str) -> anyhow::Result<Done> {
        let known = self.known(definition).await?;
        let base = known.draft.unwrap_or(known.shown);
        let name = format!("{}/{}", base.kind.to_lowercase(), base.name.rsplit('/').next().unwrap_or_default());
        let archived = matches!(base.state(), pb::DefinitionState::Archived | pb::DefinitionState::Pinned);
        ensure!(!archived, "{name} is archived: apply a manifest to bring it back (`waypostctl get -o yaml` shows its last one)");
        let text = format!("{HEAD}{}", to_yaml(base.manifest.as_bytes()));
        let file = write(&name, &text)?;
        run(&file)?;
        let edited = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        if edited == text {
            remove(&file);
            return Ok(Done { stdout: format!("{name} unchanged"), ..Done::default() });
        }
        match self.put(&base, &file, edited).await {
            Ok(change) => {
                remove(&file);
                let done = || format!("{}{name} {}", change.diff, described(&change));
                Ok(self.show(&json!({"changes": [output::change(&change)]}), done, || vec![name.clone()]))
            }
            Err(error) => {
                tell(&format!("your text is kept in {}: mend it, then `waypostctl apply -f` it", file.display()));
                Err(error)
            }
        }
    }

    /// Applies the edited text if nobody has changed its definition since; what that changed, with its diff.
    async fn put(&self, base: &pb::Definition, file: &Path, edited: String) -> anyhow::Result<pb::Change> {
        let manifests = vec![pb::File { path: file.display().to_string(), text: edited }];
        let asked = pb::DiffDefinitionsRequest { parent: self.parent.clone(), manifests: manifests.clone(), attachments: Vec::new() };
        let changes = self.definitions().diff_definitions(asked).await?.into_inner().changes;
        let [compared] = &changes[..] else { bail!("the file has {} definitions, and one is edited at a time", changes.len()) };
        let own = base.name.rsplit('/').next() == Some(&compared.name) && base.kind == compared.kind;
        ensure!(own, "the file defines {}/{} now: edit keeps kind and name", compared.kind, compared.name);
        for _ in 0..TRIES {
            let etag = self.etag_with(base).await?;
            let apply = pb::ApplyDefinitionsRequest {
                parent: self.parent.clone(),
                manifests: manifests.clone(),
                attachments: Vec::new(),
                validate_only: false,
                etag,
                prune: false,
            };
            match self.definitions().apply_definitions(apply).await {
                Ok(answer) => {
                    let change = answer.into_inner().changes.into_iter().next().unwrap_or_default();
                    return Ok(pb::Change { diff: compared.diff.clone(), ..change });
                }
                Err(status) if status.code() == tonic::Code::Aborted => {}
                Err(status) => return Err(status.into()),
            }
        }
        bail!("others change definitions all the time, and no moment was found between them: try again")
    }

    /// The etag of a set in which the definition is still what it was when it was fetched.
    async fn etag_with(&self, base: &pb::Definition) -> anyhow::Result<String> {
        let file = pb::File { path: "fetched.yaml".to_owned(), text: to_yaml(base.manifest.as_bytes()) };
        let request = pb::ApplyDefinitionsRequest {
            parent: self.parent.clone(),
            manifests: vec![file],
            attachments: Vec::new(),
            validate_only: true,
            etag: String::new(),
            prune: false,
        };
        let answer = self.definitions().apply_definitions(request).await?.into_inner();
        let same = |change: &pb::Change| change.what() == pb::change::What::Unchanged && change.version == base.version;
        ensure!(answer.changes.iter().all(same), "somebody else has changed it since it was fetched (etag {}): edit it again", base.etag);
        Ok(answer.etag)
    }
}

/// A new file that nobody else may read.
fn write(name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let prefix = format!("waypost-{}-", name.replace('/', "-"));
    let mut file = tempfile::Builder::new().prefix(&prefix).suffix(".yaml").tempfile().context("cannot make a temporary file")?;
    file.write_all(text.as_bytes()).and_then(|()| file.flush()).context("cannot write a temporary file")?;
    Ok(file.into_temp_path().keep()?)
}

/// Lets somebody edit it. Variables may hold words for the editor too, as `code --wait`.
fn run(file: &Path) -> anyhow::Result<()> {
    let said = |name: &str| std::env::vars().find(|(variable, value)| variable == name && !value.trim().is_empty()).map(|(_, value)| value);
    let editor = said("VISUAL").or_else(|| said("EDITOR")).unwrap_or_else(|| EDITOR.to_owned());
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$@\"")).arg(&editor).arg(file).status();
    let status = status.with_context(|| format!("cannot start the editor `{editor}`: set EDITOR"))?;
    ensure!(status.success(), "the editor `{editor}` failed ({status}), so nothing was changed; the text is in {}", file.display());
    Ok(())
}

fn remove(file: &Path) {
    if let Err(error) = fs::remove_file(file) {
        tell(&format!("{} is left behind: {error}", file.display()));
    }
}

fn tell(text: &str) {
    // Whoever has closed standard error hears nothing.
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_file_is_nobody_else_s_and_reads_back() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = write("journey/cart", "a: 1\n").unwrap();
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!((mode & 0o777, fs::read_to_string(&file).unwrap().as_str()), (0o600, "a: 1\n"));
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with("waypost-journey-cart-") && file.extension().is_some_and(|e| e == "yaml"), "{name}");
        remove(&file);
        assert!(!file.exists());
    }
}
