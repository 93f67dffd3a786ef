//! What is refused when a template is published, with part and line.

use super::{
    Finding, MAX_SOURCE, environment, html,
    scan::{self, Tag, Token},
};
use crate::definitions::Template;

const SYNTAX: &str = "TEMPLATE_SYNTAX";
const UNDECLARED: &str = "TEMPLATE_FIELD_UNDECLARED";
const REFUSED: &str = "TEMPLATE_CONTENT_REFUSED";
const TOO_LARGE: &str = "TEMPLATE_TOO_LARGE";
const NOT_YET: &str = "NOT_YET_SUPPORTED";

const ROOTS: [&str; 4] = ["profile", "event", "entry", "run"];
const LATER_ROOTS: [&str; 2] = ["vars", "global"];
const STATEMENTS: [&str; 6] = ["for", "endfor", "if", "elif", "else", "endif"];
const LATER_STATEMENTS: [&str; 9] = ["set", "endset", "with", "endwith", "include", "raw", "endraw", "filter", "endfilter"];
const LATER_FILTERS: [&str; 2] = ["in_zone", "image"];
const LATER_FUNCTIONS: [&str; 8] = ["products", "review_url", "reorder_url", "coupon", "preferences_url", "optin_url", "view_url", "t"];

/// Everything wrong with `template`, in the order of its parts.
pub fn check(template: &Template) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in template.requires.iter().chain(template.optional.keys()) {
        declaration(path, &mut findings);
    }
    let Some(body) = &template.email else {
        findings.push(Finding { code: SYNTAX, line: 1, message: "channels.email: a body is needed".to_owned() });
        return findings;
    };
    if let Some((label, url)) = &template.action {
        one(template, "action.label", label, &mut findings);
        one(template, "action.url", url, &mut findings);
    }
    one(template, "subject", &body.subject, &mut findings);
    if let Some(preheader) = &body.preheader {
        one(template, "preheader", preheader, &mut findings);
    }
    let part = part(body.mjml);
    let before = findings.len();
    one(template, part, &body.source, &mut findings);
    markup(part, &body.source, &mut findings);
    // What cannot be parsed as a template cannot be judged as MJML.
    if body.mjml && !findings[before..].iter().any(|f| f.code == SYNTAX) {
        let stripped = scan::stripped(&body.source);
        if let Some((at, error)) = html::mjml_error(&stripped) {
            findings.push(Finding { code: SYNTAX, line: scan::line_of(&stripped, at), message: format!("mjml: {error}") });
        }
    }
    findings
}

/// Whether the e-mail of `template` leads out: it calls `unsubscribe_url()`.
pub fn uses_unsubscribe(template: &Template) -> bool {
    calls(template, "unsubscribe_url")
}

/// Whether the e-mail of `template` says who sends it: it calls `postal_address()`.
pub fn uses_postal_address(template: &Template) -> bool {
    calls(template, "postal_address")
}

/// Name of the part that holds the body.
pub(super) const fn part(mjml: bool) -> &'static str {
    if mjml { "mjml" } else { "html" }
}

fn calls(template: &Template, function: &str) -> bool {
    let Some(body) = &template.email else { return false };
    let calls = |source: &str| {
        scan::tags(source)
            .iter()
            .any(|tag| tag.tokens.windows(2).any(|pair| matches!(pair, [Token::Word(word), Token::Sign('(')] if word == function)))
    };
    calls(&body.source)
}

fn declaration(path: &str, findings: &mut Vec<Finding>) {
    let mut add = |code, message: String| findings.push(Finding { code, line: 1, message });
    match path.split_once('.') {
        Some((root, _)) if LATER_ROOTS.contains(&root) => add(NOT_YET, format!("requires/optional: `{root}` is not yet supported")),
        Some((root, rest)) if ROOTS.contains(&root) && rest.split('.').all(|name| !name.is_empty()) => {}
        Some(_) | None => add(UNDECLARED, format!("requires/optional: `{path}` is no path under {}", ROOTS.join(", "))),
    }
}

fn one(template: &Template, part: &str, source: &str, findings: &mut Vec<Finding>) {
    let mut add = |code, line, message: String| findings.push(Finding { code, line, message: format!("{part}: {message}") });
    if source.len() > MAX_SOURCE {
        add(TOO_LARGE, 1, format!("longer than {MAX_SOURCE} bytes"));
        return;
    }
    // What we refuse by name first: MiniJinja knows some of it only as an unknown statement.
    let tags = scan::tags(source);
    let mut named = false;
    for tag in &tags {
        for (code, message) in refusals(tag) {
            named = true;
            add(code, scan::line_of(source, tag.start), message);
        }
    }
    let env = environment::empty();
    let parsed = match env.template_from_named_str(part, source) {
        Ok(parsed) => parsed,
        Err(error) => {
            if !named {
                let line = error.line().and_then(|line| u32::try_from(line).ok()).unwrap_or(1);
                add(SYNTAX, line, error.detail().map_or_else(|| error.kind().to_string(), str::to_owned));
            }
            return;
        }
    };
    let mut paths: Vec<String> = parsed.undeclared_variables(true).into_iter().collect();
    paths.sort();
    for path in paths {
        if let Some((code, message)) = undeclared(template, part, &path) {
            add(code, line_of_path(source, &tags, &path), message);
        }
    }
}

// The first tag that names the path.
fn line_of_path(source: &str, tags: &[Tag], path: &str) -> u32 {
    let at = tags.iter().find_map(|tag| {
        let text = &source[tag.start..tag.end];
        text.match_indices(path).find(|(at, _)| {
            let after = text[at + path.len()..].chars().next();
            let before = text[..*at].chars().next_back();
            let part_of_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            !part_of_name(after) && !part_of_name(before) && before != Some('.')
        })?;
        Some(tag.start)
    });
    scan::line_of(source, at.unwrap_or(0))
}

fn undeclared(template: &Template, part: &str, path: &str) -> Option<(&'static str, String)> {
    let (root, rest) = path.split_once('.').unwrap_or((path, ""));
    if rest.is_empty() && (environment::FUNCTIONS.contains(&root) || ["true", "false", "none"].contains(&root)) {
        return None;
    }
    if rest.is_empty() && LATER_FUNCTIONS.contains(&root) {
        return Some((NOT_YET, format!("`{root}()` is not yet supported")));
    }
    if LATER_ROOTS.contains(&root) {
        return Some((NOT_YET, format!("`{root}` is not yet supported")));
    }
    let covered = |declared: &str| path == declared || path.strip_prefix(declared).is_some_and(|rest| rest.starts_with('.'));
    let known = match root {
        "data" => template.data.iter().any(|(name, _)| covered(&format!("data.{name}"))),
        "action" => template.action.is_some() && !part.starts_with("action") && (rest == "label" || rest == "url"),
        _ => template.requires.iter().chain(template.optional.keys()).any(|declared| covered(declared)),
    };
    if known {
        return None;
    }
    let message = match root {
        "data" => format!("`{path}` is not computed under data"),
        "action" => format!("`{path}` is not there: only action.label and action.url, where an action is given"),
        root if ROOTS.contains(&root) => format!("`{path}` is neither in requires nor in optional"),
        root => format!("`{root}` is not known: profile, event, entry, run, data, action or a function"),
    };
    Some((UNDECLARED, message))
}

fn refusals(tag: &Tag) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    // The sign of whitespace control may stand before the statement.
    if let Some(Token::Word(statement)) = tag.tokens.iter().find(|t| !matches!(t, Token::Sign('-' | '+'))).filter(|_| !tag.prints) {
        if LATER_STATEMENTS.contains(&statement.as_str()) {
            found.push((NOT_YET, format!("`{statement}` is not yet supported; compute it under data")));
        } else if !STATEMENTS.contains(&statement.as_str()) {
            found.push((REFUSED, format!("statement `{statement}` is refused; there are for, if, elif, else")));
        }
    }
    for (at, token) in tag.tokens.iter().enumerate() {
        let next = tag.tokens.get(at + 1);
        match (token, next) {
            (Token::Sign('|'), Some(Token::Word(filter))) if filter == "safe" => {
                found.push((REFUSED, "`safe` is refused: values are always escaped".to_owned()));
            }
            (Token::Sign('|'), Some(Token::Word(filter))) if LATER_FILTERS.contains(&filter.as_str()) => {
                found.push((NOT_YET, format!("filter `{filter}` is not yet supported")));
            }
            (Token::Sign('|'), Some(Token::Word(filter))) if !environment::FILTERS.contains(&filter.as_str()) => {
                found.push((REFUSED, format!("no filter `{filter}`; there are {}", environment::FILTERS.join(" "))));
            }
            // Text times a number is text without bound, which fuel does not see.
            (Token::Sign('*'), _) => found.push((REFUSED, "`*` is refused; compute it under data".to_owned())),
            (Token::Word(word), Some(Token::Word(_))) if word == "is" => {
                let negated = matches!(next, Some(Token::Word(not)) if not == "not");
                let test = tag.tokens.get(at + 1 + usize::from(negated));
                if let Some(Token::Word(test)) = test
                    && !environment::TESTS.contains(&test.as_str())
                {
                    found.push((REFUSED, format!("no test `{test}`; there are {}", environment::TESTS.join(" "))));
                }
            }
            _ => {}
        }
    }
    found
}

// Places in markup where escaping does not make a value harmless.
fn markup(part: &str, source: &str, findings: &mut Vec<Finding>) {
    let mut add = |at, message: &str| {
        findings.push(Finding { code: REFUSED, line: scan::line_of(source, at), message: format!("{part}: {message}") });
    };
    for (element, message) in [("<script", "script is refused"), ("<mj-include", "mj-include is refused: nothing is loaded")] {
        if let Some(at) = html::find_ignoring_case(source, element, 0) {
            add(at, message);
        }
    }
    let tags = scan::tags(source);
    for (open, close) in [("<style", "</style"), ("<mj-style", "</mj-style")] {
        let mut from = 0;
        while let Some(start) = html::find_ignoring_case(source, open, from) {
            let end = html::find_ignoring_case(source, close, start).unwrap_or(source.len());
            if let Some(tag) = tags.iter().find(|tag| tag.prints && (start..end).contains(&tag.start)) {
                add(tag.start, "a value in a style sheet is refused");
            }
            from = end.max(start + 1);
        }
    }
    for tag in tags.iter().filter(|tag| tag.prints) {
        let before = source[..tag.start].trim_end();
        let in_tag = before.rfind('<').is_some_and(|open| before.rfind('>').is_none_or(|shut| shut < open));
        if !in_tag {
            continue;
        }
        if before.ends_with('=') {
            add(tag.start, "a value in an attribute needs quotes around it");
        } else if quotes_since_tag(before) {
            add(tag.start, "a value may not stand in a tag outside of an attribute's quotes");
        } else if handler(before) {
            add(tag.start, "a value in an event handler or a style is refused");
        }
    }
}

// Whether `before` stands in a tag outside of quotes.
fn quotes_since_tag(before: &str) -> bool {
    let Some(open) = before.rfind('<') else { return false };
    let mut quote = None;
    for c in before[open..].chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if c == q => quote = None,
            (None | Some(_), _) => {}
        }
    }
    quote.is_none()
}

// Whether the attribute whose value is open is `on…` or `style`.
fn handler(before: &str) -> bool {
    let Some(equals) = before.rfind("=\"").max(before.rfind("='")) else { return false };
    let name: String = before[..equals]
        .chars()
        .rev()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    let name = name.to_ascii_lowercase();
    name.starts_with("on") || name == "style"
}
