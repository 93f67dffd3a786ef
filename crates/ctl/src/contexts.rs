//! Servers by name: the contexts file, and what flags, variables and it say together.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    cli::{Cli, ContextCommand},
    commands::{Done, shown},
    output,
};

/// Where the file lies, unless this variable says so.
const FILE: &str = "WAYPOST_CONTEXTS";
/// The token itself.
const TOKEN: &str = "WAYPOST_TOKEN";

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    context: BTreeMap<String, Context>,
}

/// One server, and how it knows the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workspace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// The token itself, of a variable; never kept.
    #[serde(skip)]
    pub(crate) token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_file: Option<PathBuf>,
}

// === impl Context ===

impl Context {
    /// What the flags and variables of this call say.
    fn given(cli: &Cli) -> Self {
        Self {
            server: cli.server.clone(),
            workspace: cli.workspace.clone(),
            token_file: cli.token_file.clone(),
            token: std::env::vars().find(|(name, value)| name == TOKEN && !value.is_empty()).map(|(_, value)| value),
            ca_file: cli.ca_file.clone(),
            cert_file: cli.cert_file.clone(),
            key_file: cli.key_file.clone(),
        }
    }

    /// What this says, and where it says nothing, what the other does.
    fn over(self, other: Self) -> Self {
        let (token_file, token) = match (self.token_file, self.token) {
            (Some(file), _) => (Some(file), None),
            (None, Some(token)) => (None, Some(token)),
            (None, None) => (other.token_file, other.token),
        };
        Self {
            server: self.server.or(other.server),
            workspace: self.workspace.or(other.workspace),
            token_file,
            token,
            ca_file: self.ca_file.or(other.ca_file),
            cert_file: self.cert_file.or(other.cert_file),
            key_file: self.key_file.or(other.key_file),
        }
    }

    /// With paths that mean the same from any folder.
    fn absolute(self) -> anyhow::Result<Self> {
        let absolute = |path: Option<PathBuf>| path.map(std::path::absolute).transpose();
        Ok(Self {
            token_file: absolute(self.token_file)?,
            ca_file: absolute(self.ca_file)?,
            cert_file: absolute(self.cert_file)?,
            key_file: absolute(self.key_file)?,
            ..self
        })
    }
}

// === impl Contexts ===

impl Contexts {
    /// The file's contexts; none where there is no file.
    fn read(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("{} is no contexts file", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Puts a whole new file in the place of the old one.
    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let new = folder.join(format!(".{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
        let write = || {
            std::fs::create_dir_all(folder)?;
            std::fs::write(&new, toml::to_string(self).map_err(std::io::Error::other)?)?;
            std::fs::rename(&new, path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// What is said by flags and variables, then by the context that is asked for or current.
    fn resolve(&self, cli: &Cli) -> anyhow::Result<Context> {
        let chosen = match cli.context.as_ref().or(self.current.as_ref()) {
            Some(name) => self.named(name)?.clone(),
            None => Context::default(),
        };
        Ok(Context::given(cli).over(chosen))
    }

    fn named(&self, name: &str) -> anyhow::Result<&Context> {
        let known = || self.context.keys().cloned().collect::<Vec<_>>().join(", ");
        self.context.get(name).with_context(|| format!("there is no context `{name}`; there is: {}", known()))
    }
}

/// Which server, workspace and credentials a command is for.
pub(crate) fn resolve(cli: &Cli) -> anyhow::Result<Context> {
    match file() {
        Some(file) => Contexts::read(&file)?.resolve(cli),
        None if cli.context.is_some() => bail!("--context is given, but there is no home folder for the file: set {FILE}"),
        None => Ok(Context::given(cli)),
    }
}

/// `waypostctl context`.
pub(crate) fn run(cli: &Cli, what: &ContextCommand) -> anyhow::Result<Done> {
    let path = file().with_context(|| format!("there is no home folder for the file: set {FILE}"))?;
    let mut contexts = Contexts::read(&path)?;
    let told = match what {
        ContextCommand::List => return Ok(list(cli, &contexts)),
        ContextCommand::Use { name } => {
            contexts.named(name)?;
            contexts.current = Some(name.clone());
            format!("using {name}")
        }
        ContextCommand::Set { name } => {
            let known = contexts.context.remove(name).unwrap_or_default();
            let given = Context { token: None, ..Context::given(cli) };
            contexts.context.insert(name.clone(), given.absolute()?.over(known));
            format!("{name} set")
        }
        ContextCommand::Delete { name } => {
            contexts.named(name)?;
            contexts.context.remove(name);
            contexts.current = contexts.current.filter(|current| current != name);
            format!("{name} deleted")
        }
    };
    contexts.write(&path)?;
    Ok(Done { stdout: told, differs: false })
}

fn list(cli: &Cli, contexts: &Contexts) -> Done {
    let current = cli.context.as_ref().or(contexts.current.as_ref());
    let json: Vec<_> = contexts
        .context
        .iter()
        .map(|(name, c)| json!({"name": name, "current": Some(name) == current, "server": c.server, "workspace": c.workspace}))
        .collect();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let rows = contexts.context.iter().map(|(name, c)| {
        let mark = if Some(name) == current { "*" } else { "" };
        vec![mark.to_owned(), name.clone(), text(&c.server), text(&c.workspace)]
    });
    shown(
        cli.output,
        &json.into(),
        || output::table(&["CURRENT", "NAME", "SERVER", "WORKSPACE"], rows),
        || contexts.context.keys().cloned().collect(),
    )
}

/// The file: as the variable says, else in the folder for settings.
fn file() -> Option<PathBuf> {
    let variable =
        |name: &str| std::env::vars_os().find(|(n, value)| n == name && !value.is_empty()).map(|(_, value)| PathBuf::from(value));
    let settings = || variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    variable(FILE).or_else(|| Some(settings()?.join("waypost").join("config.toml")))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn cli(flags: &[&str]) -> Cli {
        Cli::parse_from([&["waypostctl", "whoami"], flags].concat())
    }

    fn contexts() -> Contexts {
        let text = "current = \"prod\"\n[context.prod]\nserver = \"https://prod.example\"\nworkspace = \"shop\"\ntoken_file = \"/t\"\n\
                    [context.test]\nserver = \"https://test.example\"\n";
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_flag_beats_the_context_and_what_it_does_not_say_the_context_does() {
        let resolve = |flags: &[&str]| contexts().resolve(&cli(flags));
        assert_eq!(resolve(&[]).unwrap(), contexts().context["prod"]);
        let mixed = resolve(&["--server", "http://localhost:1", "-w", "other"]).unwrap();
        assert_eq!((mixed.server.as_deref(), mixed.workspace.as_deref()), (Some("http://localhost:1"), Some("other")));
        assert_eq!(mixed.token_file, Some("/t".into()));
        assert_eq!(resolve(&["--context", "test"]).unwrap(), contexts().context["test"]);
        assert!(resolve(&["--context", "none"]).unwrap_err().to_string().contains("prod, test"));
    }

    #[test]
    fn a_token_of_a_variable_beats_the_file_of_the_context_and_not_that_of_a_flag() {
        let variable = Context { token: Some("secret".to_owned()), ..Context::default() };
        let file = Context { token_file: Some("/t".into()), ..Context::default() };
        assert_eq!(variable.clone().over(file.clone()), variable);
        assert_eq!(Context { token: variable.token, ..file.clone() }.over(Context::default()), file);
    }

    #[test]
    fn a_file_is_written_whole_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("waypost/config.toml");
        assert_eq!(Contexts::read(&path).unwrap(), Contexts::default());
        contexts().write(&path).unwrap();
        assert_eq!(Contexts::read(&path).unwrap(), contexts());
        std::fs::write(&path, "[context.a]\nsrever = \"x\"\n").unwrap();
        assert!(format!("{:#}", Contexts::read(&path).unwrap_err()).contains("srever"));
    }
}
