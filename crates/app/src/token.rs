//! `waypost token`: a static token for the control API, and the entry of the access file that knows it.

use std::{io::Write as _, path::Path, process::ExitCode};

use anyhow::{Context as _, ensure};
use waypost_control::access::{token, token_hash};
use waypost_runtime::{host::OsEntropy, ports::Entropy as _};

use crate::{cli::Token, screen};

/// Makes one. The token itself is told once, or written to a file that nobody else reads; the entry holds its hash alone.
pub(crate) fn run(args: &Token) -> anyhow::Result<ExitCode> {
    let mut random = [0; 32];
    for chunk in random.chunks_mut(8) {
        chunk.copy_from_slice(&OsEntropy.next().to_be_bytes());
    }
    let token = token(&random);
    let entry = entry(args, &hex::encode(token_hash(&token)))?;
    match &args.out {
        Some(path) => {
            keep(path, &token).with_context(|| format!("--out {}", path.display()))?;
            screen(&entry, false);
        }
        None => screen(&format!("# The token, shown this once: {token}\n# Its entry in control.access_file:\n{entry}"), false),
    }
    Ok(ExitCode::SUCCESS)
}

fn entry(args: &Token, hash: &str) -> anyhow::Result<String> {
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\');
    ensure!(plain(&args.name), "--name `{}`: plain letters without spaces and quotes are wanted", args.name);
    for workspace in &args.workspace {
        ensure!(plain(workspace), "--workspace `{workspace}`: a workspace's name is wanted, or * for all");
    }
    let list = |words: Vec<&str>| words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let roles = list(args.role.iter().map(|role| role.as_str()).collect());
    let workspaces = list(args.workspace.iter().map(String::as_str).collect());
    Ok(format!("[[token]]\nname = \"{}\"\nhash = \"{hash}\"\nroles = [{roles}]\nworkspaces = [{workspaces}]", args.name))
}

/// A new file that its owner alone reads; one that is there is never replaced.
fn keep(path: &Path, token: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{token}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use waypost_control::access::{Authority, AuthoritySettings, Role};

    use super::*;

    fn args(out: Option<&Path>) -> Token {
        let (role, workspace) = (vec![Role::Publisher, Role::Operator], vec!["shop".to_owned(), "test".to_owned()]);
        Token { name: "ci".to_owned(), role, workspace, out: out.map(Into::into) }
    }

    #[test]
    fn the_entry_is_one_that_the_control_api_takes() {
        let folder = tempfile::tempdir().unwrap();
        let (file, secret) = (folder.path().join("access.toml"), folder.path().join("token"));
        let text = entry(&args(None), &hex::encode(token_hash("secret"))).unwrap();
        std::fs::write(&file, text).unwrap();
        assert!(Authority::open(AuthoritySettings::file(file)).is_ok());
        run(&args(Some(&secret))).unwrap();
        assert!(std::fs::read_to_string(&secret).unwrap().starts_with("wpt_"));
        assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(run(&args(Some(&secret))).is_err(), "a token that is there is not replaced");
        assert!(entry(&Token { name: "a\"b".to_owned(), ..args(None) }, "00").is_err());
    }
}
