//! HTML around the template's own: compiled from MJML, with the preheader, its targets checked.

use super::{CONTENT_REFUSED, LIMIT, MAX_OUTPUT, RenderError};

const TARGETS: [&str; 5] = ["href", "src", "action", "background", "formaction"];
const SCHEMES: [&str; 4] = ["https:", "http:", "mailto:", "tel:"];

/// Compiles MJML in which every value already stands escaped; MJML keeps entities as they are.
pub(super) fn from_mjml(source: &str) -> Result<String, RenderError> {
    let refused = || RenderError::new(CONTENT_REFUSED, "mjml");
    let parsed = caught(|| mrml::parse(source)).ok_or_else(refused)?.map_err(|_| refused())?;
    let html = parsed.element.render(&options()).map_err(|_| RenderError::new(CONTENT_REFUSED, "mjml"))?;
    if html.len() > MAX_OUTPUT { Err(RenderError::new(LIMIT, "mjml")) } else { Ok(html) }
}

/// Says what is wrong with MJML, and at which byte.
pub(super) fn mjml_error(source: &str) -> Option<(usize, String)> {
    let error = match caught(|| mrml::parse(source)) {
        Some(Ok(parsed)) => return parsed.element.render(&options()).err().map(|e| (0, e.to_string())),
        Some(Err(error)) => error,
        None => return Some((0, "a `>` in a text stands too near a letter that is not ASCII: write `&gt;`".to_owned())),
    };
    let text = error.to_string();
    let at = text.rsplit(' ').next().and_then(|span| span.split("..").next()).and_then(|start| start.parse().ok());
    Some((at.unwrap_or(0), text))
}

// The parser looks two bytes back from a `>` in a text, and panics where that is the middle of a character.
fn caught<T>(parse: impl FnOnce() -> T + std::panic::UnwindSafe) -> Option<T> {
    std::panic::catch_unwind(parse).ok()
}

// Without the default fonts: a mail loads nothing that its template does not name.
fn options() -> mrml::prelude::render::RenderOptions {
    mrml::prelude::render::RenderOptions { fonts: [].into(), ..Default::default() }
}

/// The preheader as hidden text at the start of the body.
pub(super) fn with_preheader(html: String, preheader: &str) -> String {
    let at = find_ignoring_case(&html, "<body", 0).and_then(|start| html[start..].find('>').map(|end| start + end + 1)).unwrap_or(0);
    let mut hidden =
        String::from(r#"<div style="display:none;font-size:1px;line-height:1px;max-height:0;max-width:0;opacity:0;overflow:hidden;">"#);
    escape(preheader, &mut hidden);
    hidden.push_str("</div>");
    let mut html = html;
    html.insert_str(at, &hidden);
    html
}

/// Whatever a link or image points to must have a scheme that a mail client may follow: a value in
/// an attribute cannot become `javascript:`.
pub(super) fn check_targets(html: &str) -> Result<(), RenderError> {
    for attribute in TARGETS {
        let mut from = 0;
        while let Some(start) = find_ignoring_case(html, attribute, from) {
            from = start + attribute.len();
            let before = html[..start].chars().next_back();
            let Some(value) = value_of(&html[from..]) else { continue };
            if !before.is_some_and(|c| c.is_whitespace() || matches!(c, '"' | '\'' | '/')) {
                continue;
            }
            let target: String = unescape(value).chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
            let target = target.to_ascii_lowercase();
            if !(target.starts_with('#') || SCHEMES.iter().any(|scheme| target.len() > scheme.len() && target.starts_with(scheme))) {
                return Err(RenderError::new(CONTENT_REFUSED, attribute));
            }
        }
    }
    Ok(())
}

// The value behind `=`, quoted or not; none if this is no attribute.
fn value_of(after: &str) -> Option<&str> {
    let value = after.trim_start().strip_prefix('=')?.trim_start();
    match value.chars().next()? {
        quote @ ('"' | '\'') => value[1..].split(quote).next(),
        _ => value.split(|c: char| c.is_whitespace() || c == '>').next(),
    }
}

/// Where `needle` (ASCII, lower case) stands in `text` at or after `from`.
pub(super) fn find_ignoring_case(text: &str, needle: &str, from: usize) -> Option<usize> {
    let (bytes, needle) = (text.as_bytes(), needle.as_bytes());
    (from..(bytes.len() + 1).checked_sub(needle.len())?).find(|&at| bytes[at..at + needle.len()].eq_ignore_ascii_case(needle))
}

/// Appends `text` so that it means itself in HTML text and in quoted attributes.
pub(super) fn escape(text: &str, into: &mut String) {
    for c in text.chars() {
        match c {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\'' => into.push_str("&#39;"),
            // No text in HTML; what is left of it could not be sent.
            '\0' => {}
            c => into.push(c),
        }
    }
}

/// Entities as characters: the named ones in common use, and all numeric ones.
pub(super) fn unescape(text: &str) -> String {
    let mut into = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        into.push_str(&rest[..at]);
        rest = &rest[at..];
        let entity = rest[1..].find(';').filter(|end| *end <= 10).and_then(|end| entity(&rest[1..=end]).map(|c| (c, end + 2)));
        if let Some((c, length)) = entity {
            into.push(c);
            rest = &rest[length..];
        } else {
            into.push('&');
            rest = &rest[1..];
        }
    }
    into.push_str(rest);
    into
}

fn entity(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code);
    }
    let known = [
        ("amp", '&'),
        ("lt", '<'),
        ("gt", '>'),
        ("quot", '"'),
        ("apos", '\''),
        ("nbsp", '\u{a0}'),
        ("zwnj", '\u{200c}'),
        ("shy", '\u{ad}'),
        ("copy", '©'),
        ("reg", '®'),
        ("euro", '€'),
        ("pound", '£'),
        ("ndash", '–'),
        ("mdash", '—'),
        ("hellip", '…'),
        ("rsquo", '’'),
        ("lsquo", '‘'),
        ("rdquo", '”'),
        ("ldquo", '“'),
        ("times", '×'),
        ("middot", '·'),
        ("bull", '•'),
        ("rarr", '→'),
        ("colon", ':'),
        ("tab", '\t'),
        ("newline", '\n'),
        ("Tab", '\t'),
        ("NewLine", '\n'),
    ];
    known.iter().find(|(n, _)| *n == name).map(|(_, c)| *c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_targets_a_mail_client_may_follow_pass() {
        for good in [
            r#"<a href="https://shop.example/a?b=1&amp;c">"#,
            "<a href='mailto:x@shop.example'>",
            "<img src=https://shop.example/i.png>",
            "<p>href = none</p>",
            r##"<a href="#top">"##,
        ] {
            assert_eq!(check_targets(good), Ok(()), "{good}");
        }
        for bad in [
            r#"<a href="javascript:alert(1)">"#,
            r#"<a HREF=" java&#10;script:alert(1)">"#,
            r#"<a href="&#106;avascript:alert(1)">"#,
            r#"<a class="x"href="data:text/html,x">"#,
            r#"<a href="">"#,
            r#"<a href="/cart">"#,
            r#"<img src="vbscript:x">"#,
        ] {
            assert!(check_targets(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_preheader_stands_first_in_the_body() {
        let html = with_preheader("<html><body class=\"a\"><p>x</p></body></html>".to_owned(), "a < b");
        assert!(html.contains("<body class=\"a\"><div style=\"display:none"), "{html}");
        assert!(html.contains("a &lt; b</div><p>"), "{html}");
    }

    #[test]
    fn a_text_that_its_parser_trips_over_is_refused() {
        let mjml = |text: &str| {
            format!("<mjml><mj-body><mj-section><mj-column><mj-text>{text}</mj-text></mj-column></mj-section></mj-body></mjml>")
        };
        for text in ["5 €>", "é >"] {
            assert!(mjml_error(&mjml(text)).is_some_and(|(_, why)| why.contains("&gt;")), "{text}");
            assert_eq!(from_mjml(&mjml(text)), Err(RenderError::new(CONTENT_REFUSED, "mjml")), "{text}");
        }
        assert_eq!(mjml_error(&mjml("5 €&gt; é")), None);
    }

    #[test]
    fn entities_come_back() {
        let mut escaped = String::new();
        escape("<a href=\"x\">'&'</a>", &mut escaped);
        assert_eq!(unescape(&escaped), "<a href=\"x\">'&'</a>");
        assert_eq!(unescape("a &amp b &unknown; &#x41;&"), "a &amp b &unknown; A&");
    }
}
