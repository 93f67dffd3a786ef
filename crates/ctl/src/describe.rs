//! `describe`: a definition for people: its versions, what is in force, what the draft changes, and what is in it.

use anyhow::Context as _;
use serde_json::{Value, json};
use waypost_engine::manifest::{diff, to_yaml};
use waypost_proto::control as pb;

use crate::{
    commands::{Done, Session},
    journey, output,
};

/// What is known of a definition.
pub(crate) struct Known {
    /// In force, or else the newest.
    pub(crate) shown: pb::Definition,
    /// Not in force yet.
    pub(crate) draft: Option<pb::Definition>,
    versions: Vec<pb::Definition>,
}

/// Kind and name of `journey/cart-recovery`.
///
/// # Errors
/// What to write instead.
pub(crate) fn kind_and_name(text: &str) -> anyhow::Result<(&str, &str)> {
    let parts = text.split_once('/').filter(|(kind, name)| !kind.is_empty() && !name.is_empty() && !name.contains('/'));
    parts.with_context(|| format!("`{text}` names no definition: write kind and name, as journey/cart-recovery"))
}

// === impl Session ===

impl Session {
    /// What is known of a definition.
    pub(crate) async fn known(&self, definition: &str) -> anyhow::Result<Known> {
        let (kind, name) = kind_and_name(definition)?;
        let asked = pb::GetDefinitionRequest { name: format!("{}/definitions/{kind}/{name}", self.parent), read_mask: None };
        let shown = self.definitions().get_definition(asked).await?.into_inner();
        let mut versions = self.of_kind(kind).await?;
        versions.retain(|version| version.name == shown.name);
        versions.sort_by_key(|version| version.version);
        let draft = versions.iter().find(|version| version.state() == pb::DefinitionState::Draft).cloned();
        Ok(Known { shown, draft, versions })
    }

    async fn of_kind(&self, kind: &str) -> anyhow::Result<Vec<pb::Definition>> {
        let mut request =
            pb::ListDefinitionsRequest { parent: self.parent.clone(), kind: kind.to_owned(), ..pb::ListDefinitionsRequest::default() };
        let mut all = Vec::new();
        loop {
            let page = self.definitions().list_definitions(request.clone()).await?.into_inner();
            all.extend(page.definitions);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    pub(crate) async fn describe(&self, definition: &str) -> anyhow::Result<Done> {
        let known = self.known(definition).await?;
        let manifest: Value = serde_json::from_str(&known.shown.manifest).unwrap_or_default();
        let wanted = journey::templates(&manifest);
        let mut templates = if wanted.is_empty() { Vec::new() } else { self.of_kind("Template").await? };
        templates.retain(|template| wanted.iter().any(|name| short(template) == name));
        let (found, missing) = (&templates, wanted.iter().filter(|name| !templates.iter().any(|t| short(t) == **name)));
        let missing: Vec<_> = missing.cloned().collect();
        let json = json!({
            "definition": output::definition(&known.shown),
            "versions": known.versions.iter().map(version).collect::<Vec<_>>(),
            "draftDiff": draft_diff(&known),
            "templates": found.iter().map(version).collect::<Vec<_>>(),
        });
        Ok(self.show(&json, || text(&known, &manifest, &templates, &missing), || vec![known.shown.name.clone()]))
    }
}

fn short(definition: &pb::Definition) -> &str {
    definition.name.rsplit('/').next().unwrap_or_default()
}

fn version(definition: &pb::Definition) -> Value {
    json!({"name": definition.name, "version": definition.version, "state": output::state(definition.state), "etag": definition.etag,
        "contentHash": definition.content_hash})
}

/// What publishing would change; none where there is no draft, or nothing that it would replace.
fn draft_diff(known: &Known) -> Option<String> {
    let draft = known.draft.as_ref().filter(|draft| draft.version != known.shown.version)?;
    Some(diff(&to_yaml(known.shown.manifest.as_bytes()), &to_yaml(draft.manifest.as_bytes())))
}

fn in_force(known: &Known) -> String {
    match known.shown.state() {
        pb::DefinitionState::Active => format!("version {}", known.shown.version),
        pb::DefinitionState::Paused => format!("version {}, paused: nobody enters, messages wait", known.shown.version),
        pb::DefinitionState::Killed => "nothing; nobody enters, and whoever is in it leaves".to_owned(),
        pb::DefinitionState::Draft => "nothing; only a draft is there".to_owned(),
        pb::DefinitionState::Pinned | pb::DefinitionState::Archived => "nothing; nobody enters any more, runs finish".to_owned(),
        pb::DefinitionState::Unspecified => "unknown".to_owned(),
    }
}

fn text(known: &Known, manifest: &Value, templates: &[pb::Definition], missing: &[String]) -> String {
    let shown = &known.shown;
    let mut lines = vec![
        format!("Name:      {}", short(shown)),
        format!("Kind:      {}", shown.kind),
        format!("State:     {}", output::state(shown.state)),
        format!("In force:  {}", in_force(known)),
        format!("Etag:      {}", shown.etag),
        format!("Content:   {}", shown.content_hash),
    ];
    let labels = manifest["metadata"]["labels"].as_object().into_iter().flatten();
    let labels: Vec<_> = labels.map(|(name, value)| format!("{name}={}", journey::plain(value))).collect();
    if !labels.is_empty() {
        lines.push(format!("Labels:    {}", labels.join(", ")));
    }
    let versions = known.versions.iter().map(|v| format!("{} {}", v.version, output::state(v.state)));
    lines.push(format!("Versions:  {}", versions.collect::<Vec<_>>().join(", ")));
    if let (Some(draft), Some(changes)) = (&known.draft, draft_diff(known)) {
        lines.push(format!("Draft:     version {}, which publishing puts in force:", draft.version));
        lines.extend(changes.lines().map(|line| format!("  {line}")));
    }
    lines.push(String::new());
    if shown.kind == "Journey" {
        lines.extend(journey::outline(manifest));
    } else {
        lines.push("Spec:".to_owned());
        lines.extend(output::yaml(&manifest["spec"]).lines().map(|line| format!("  {line}")));
    }
    if !templates.is_empty() || !missing.is_empty() {
        lines.push("Templates:".to_owned());
        lines.extend(templates.iter().map(|t| format!("  {}  version {}  {}", short(t), t.version, output::state(t.state))));
        lines.extend(missing.iter().map(|name| format!("  {name}  is not there")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(version: u32, state: pb::DefinitionState, title: &str) -> pb::Definition {
        let manifest = json!({"kind": "Topic", "metadata": {"name": "news", "labels": {"team": "crm"}}, "spec": {"title": title}});
        pb::Definition {
            name: "workspaces/w/definitions/Topic/news".into(),
            kind: "Topic".into(),
            version,
            state: state.into(),
            manifest: manifest.to_string(),
            etag: "\"e\"".into(),
            content_hash: "h".into(),
        }
    }

    #[test]
    fn names_have_a_kind() {
        assert_eq!(kind_and_name("journey/cart").unwrap(), ("journey", "cart"));
        for wrong in ["cart", "journey/", "/cart", "a/b/c"] {
            assert!(kind_and_name(wrong).unwrap_err().to_string().contains("journey/cart-recovery"), "{wrong}");
        }
    }

    #[test]
    fn a_description_says_what_is_in_force_and_what_the_draft_changes() {
        let (shown, draft) = (definition(1, pb::DefinitionState::Active, "News"), definition(2, pb::DefinitionState::Draft, "Newer"));
        let known = Known { versions: vec![shown.clone(), draft.clone()], shown, draft: Some(draft) };
        let manifest = serde_json::from_str(&known.shown.manifest).unwrap();
        let text = text(&known, &manifest, &[], &["none".to_owned()]);
        for wanted in ["In force:  version 1", "1 active, 2 draft", "-  title: News", "+  title: Newer", "team=crm", "none  is not there"] {
            assert!(text.contains(wanted), "no `{wanted}` in:\n{text}");
        }
        let only = definition(1, pb::DefinitionState::Draft, "News");
        let known = Known { versions: vec![only.clone()], shown: only.clone(), draft: Some(only) };
        assert_eq!((draft_diff(&known), in_force(&known).starts_with("nothing")), (None, true));
    }
}
