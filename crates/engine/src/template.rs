//! Templates (PRODUCT §8): checked when published, their variables frozen when a send is decided,
//! rendered before the attempt. Rendering is a pure function: same variables, same bytes.
//!
//! MiniJinja runs first, with HTML escaping, and MJML is compiled from what it wrote: loops may span
//! sections, and an escaped value can neither open a tag nor leave an attribute. Nothing is loaded;
//! what fuel does not bound (repeated text, `set` chains) is refused when published.

mod check;
mod environment;
mod format;
mod html;
mod scan;
mod text;
mod variables;

use waypost_types::Value;

use crate::definitions::{Policy, Template};

pub use self::{
    check::{check, uses_postal_address, uses_unsubscribe},
    variables::{Fields, VariablesError, variables},
};

/// Something wrong with a template, found before it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `TEMPLATE_SYNTAX`, `TEMPLATE_FIELD_UNDECLARED`, …
    pub code: &'static str,
    /// Line in the part it was found in, from 1.
    pub line: u32,
    /// For people; begins with the part (`subject`, `mjml`, …).
    pub message: String,
}

/// Addresses that the functions of a template lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// `unsubscribe_url()`: with the sealed token of this person and topic.
    pub unsubscribe_url: String,
    /// `cart_url(key)`: the shop's restore address.
    pub restore_url: Option<String>,
    /// `product_url(line)`, where the line has no url of its own: prefix before the product id.
    pub product_url: Option<String>,
}

/// A rendered e-mail, without headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// One line.
    pub subject: String,
    /// Preview text; it stands hidden in the HTML already.
    pub preheader: Option<String>,
    /// The HTML part.
    pub html: String,
    /// Derived from it.
    pub text: String,
}

/// Gate 11 says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} at {path}")]
pub struct RenderError {
    /// `RENDER_MISSING_FIELD`, `RENDER_LIMIT` or `CONTENT_REFUSED`.
    pub code: &'static str,
    /// The field, or the part and its line. No values.
    pub path: String,
}

/// Bytes of one source.
pub const MAX_SOURCE: usize = 256 * 1024;
/// Bytes of one rendered part.
pub const MAX_OUTPUT: usize = 512 * 1024;
/// Bytes of the frozen variables.
pub const MAX_VARIABLES: usize = 32 * 1024;
/// Items of a list.
pub const MAX_LIST: usize = 200;
const FUEL: u64 = 1_000_000;
const MAX_SUBJECT: usize = 998;

const MISSING_FIELD: &str = "RENDER_MISSING_FIELD";
const LIMIT: &str = "RENDER_LIMIT";
const CONTENT_REFUSED: &str = "CONTENT_REFUSED";

/// Renders the e-mail of `template` with the variables frozen at the decision.
///
/// # Errors
/// [`RenderError`]: nothing may be sent.
pub fn render_email(template: &Template, variables: &Value, links: &Links, policy: &Policy) -> Result<Email, RenderError> {
    let body = template.email.as_ref().ok_or_else(|| RenderError::new(CONTENT_REFUSED, "channels.email"))?;
    let renderer = environment::Renderer::new(links, policy, variables)?;
    let renderer = match &template.action {
        None => renderer,
        Some((label, url)) => {
            let label = renderer.line("action.label", label)?;
            let url = renderer.line("action.url", url)?;
            renderer.with_action(&label, &url)
        }
    };
    let subject = renderer.line("subject", &body.subject)?;
    if subject.is_empty() {
        return Err(RenderError::new(CONTENT_REFUSED, "subject"));
    }
    if subject.len() > MAX_SUBJECT {
        return Err(RenderError::new(LIMIT, "subject"));
    }
    let preheader = body.preheader.as_ref().map(|source| renderer.line("preheader", source)).transpose()?;
    let part = check::part(body.mjml);
    let written = renderer.html(part, &body.source)?;
    let html = if body.mjml { html::from_mjml(&written)? } else { written };
    html::check_targets(&html)?;
    let text = text::from_html(&html);
    let html = match &preheader {
        Some(preheader) => html::with_preheader(html, preheader),
        None => html,
    };
    if html.len() > MAX_OUTPUT {
        return Err(RenderError::new(LIMIT, part));
    }
    Ok(Email { subject, preheader, html, text })
}

// === impl RenderError ===

impl RenderError {
    fn new(code: &'static str, path: impl Into<String>) -> Self {
        Self { code, path: path.into() }
    }
}

#[cfg(test)]
mod tests;
