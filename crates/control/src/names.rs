//! Resource names of the API, read strictly.

use uuid::Uuid;

use crate::status::Refusal;

/// Characters of a short line.
const LINE_MAX: usize = 200;

/// The workspace of `workspaces/{workspace}`.
pub(crate) fn workspace(parent: &str) -> Result<&str, Refusal> {
    match parent.split('/').collect::<Vec<_>>()[..] {
        ["workspaces", workspace] if !workspace.is_empty() => Ok(workspace),
        _ => Err(wrong(parent, "workspaces/{workspace}")),
    }
}

/// Workspace and last part of `workspaces/{workspace}/{collection}/{name}`.
pub(crate) fn child<'a>(name: &'a str, collection: &str) -> Result<(&'a str, &'a str), Refusal> {
    match name.split('/').collect::<Vec<_>>()[..] {
        ["workspaces", workspace, c, child] if c == collection && !workspace.is_empty() && !child.is_empty() => Ok((workspace, child)),
        _ => Err(wrong(name, &format!("workspaces/{{workspace}}/{collection}/{{name}}"))),
    }
}

/// Workspace, kind and name of `workspaces/{workspace}/definitions/{kind}/{name}`.
pub(crate) fn definition(name: &str) -> Result<(&str, &str, &str), Refusal> {
    match name.split('/').collect::<Vec<_>>()[..] {
        ["workspaces", workspace, "definitions", kind, child] if !workspace.is_empty() => Ok((workspace, kind, child)),
        _ => Err(wrong(name, "workspaces/{workspace}/definitions/{kind}/{name}")),
    }
}

/// The workspace that a name begins with, whatever follows; empty where it begins otherwise. What the others take is never of
/// another workspace than this says.
pub(crate) fn workspace_of(name: &str) -> &str {
    name.strip_prefix("workspaces/").and_then(|rest| rest.split('/').next()).unwrap_or_default()
}

/// The id of a request that may come again.
pub(crate) fn request_id(text: &str) -> Result<Uuid, Refusal> {
    let wrong = || Refusal::Invalid("INVALID_REQUEST_ID", "request_id is a UUID, drawn at random for each request".to_owned());
    Uuid::try_parse(text).ok().filter(|uuid| !uuid.is_nil()).ok_or_else(wrong)
}

/// What people say of what they do, in a field of a request; a wrong one is refused under `code`.
pub(crate) fn line(field: &str, code: &'static str, text: &str, is_optional: bool) -> Result<String, Refusal> {
    let text = text.trim();
    let wrong = |message: String| Err(Refusal::Invalid(code, message));
    if text.is_empty() && !is_optional {
        return wrong(format!("say why in `{field}`: it is all that is left to know of it later"));
    }
    if is_short(text) { Ok(text.to_owned()) } else { wrong(format!("`{field}` is one line of at most {LINE_MAX} characters")) }
}

/// Whether it is one short line.
pub(crate) fn is_short(text: &str) -> bool {
    text.chars().count() <= LINE_MAX && !text.chars().any(char::is_control)
}

fn wrong(name: &str, form: &str) -> Refusal {
    Refusal::Invalid("INVALID_NAME", format!("`{name}` is not a resource name of the form `{form}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_say_is_one_short_line_and_a_wrong_one_is_named_by_its_field() {
        let said = |text: &str, is_optional| line("reason", "INVALID_REASON", text, is_optional);
        assert_eq!(said(" test data ", false).ok().as_deref(), Some("test data"));
        assert!(said("", true).is_ok());
        for bad in ["", " ", "two\nlines", &"x".repeat(201)] {
            let refusal = said(bad, false).unwrap_err();
            assert!(refusal.reason() == "INVALID_REASON" && refusal.message().contains("`reason`"), "{bad}");
        }
    }

    #[test]
    fn names_are_read_strictly() {
        assert_eq!(workspace("workspaces/default").ok(), Some("default"));
        assert_eq!(child("workspaces/w/journeys/j", "journeys").ok(), Some(("w", "j")));
        assert_eq!(definition("workspaces/w/definitions/Journey/j").ok(), Some(("w", "Journey", "j")));
        for bad in ["", "workspaces", "workspaces/", "default", "workspaces/a/b"] {
            assert!(workspace(bad).is_err(), "{bad}");
        }
        assert!(child("workspaces/w/sources/s", "journeys").is_err());
        for (name, of) in [("workspaces/w", "w"), ("workspaces/w/journeys/j", "w"), ("workspaces/", ""), ("w", ""), ("workspaces//w", "")] {
            assert_eq!(workspace_of(name), of, "{name}");
        }
    }
}
