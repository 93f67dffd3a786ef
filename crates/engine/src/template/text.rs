//! The plain text of an HTML mail: what a reader without HTML is shown.

use super::html::{find_ignoring_case, unescape};

const SKIPPED: [&str; 4] = ["head", "style", "script", "title"];
const BLOCKS: [&str; 17] =
    ["p", "div", "br", "tr", "table", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "section", "blockquote"];

/// Text with line breaks where blocks end, and link targets in brackets behind their words.
pub(super) fn from_html(html: &str) -> String {
    let mut out = Lines::default();
    let mut link: Option<(String, usize)> = None;
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        out.words(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with("<!--") {
            rest = rest.find("-->").map_or("", |end| &rest[end + 3..]);
            continue;
        }
        let end = tag_end(rest);
        let tag = &rest[1..end];
        let closing = tag.starts_with('/');
        let name: String =
            tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        rest = rest.get(end + 1..).unwrap_or("");
        if !closing && SKIPPED.contains(&name.as_str()) && !tag.ends_with('/') {
            let close = format!("</{name}");
            rest = find_ignoring_case(rest, &close, 0).map_or("", |at| &rest[at..]);
            continue;
        }
        match name.as_str() {
            "a" if closing => {
                if let Some((target, start)) = link.take() {
                    out.target(&target, start);
                }
            }
            "a" => link = attribute(tag, "href").map(|target| (target, out.text.len())),
            "img" => {
                if let Some(alt) = attribute(tag, "alt") {
                    out.words(&alt);
                }
            }
            "td" | "th" => out.space = true,
            "li" if !closing => {
                out.line();
                out.words("- ");
            }
            name if BLOCKS.contains(&name) => out.line(),
            _ => {}
        }
    }
    out.words(rest);
    out.finish()
}

// The `>` that ends the tag, not one inside a quoted value.
fn tag_end(rest: &str) -> usize {
    let mut quote = None;
    for (at, c) in rest.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (None, '>') => return at,
            _ => {}
        }
    }
    rest.len()
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let at = find_ignoring_case(tag, &format!(" {name}="), 0)? + name.len() + 2;
    let value = &tag[at..];
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    value[1..].split(quote).next().map(unescape)
}

#[derive(Default)]
struct Lines {
    text: String,
    space: bool,
}

impl Lines {
    fn words(&mut self, raw: &str) {
        for c in unescape(raw).chars() {
            // What mail templates put in to fill the preview line.
            if matches!(c, '\u{200c}' | '\u{ad}' | '\u{200b}' | '\u{feff}') {
            } else if c.is_whitespace() {
                self.space = true;
            } else {
                if self.space && !self.text.is_empty() && !self.text.ends_with('\n') {
                    self.text.push(' ');
                }
                self.space = false;
                self.text.push(c);
            }
        }
    }

    fn line(&mut self) {
        self.space = false;
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    // A link whose words are its target, or that has no words, is written once.
    fn target(&mut self, target: &str, start: usize) {
        let words = self.text.get(start..).unwrap_or("").trim().to_owned();
        if target.starts_with('#') || words == target {
            return;
        }
        self.space = !words.is_empty();
        self.words(&if words.is_empty() { target.to_owned() } else { format!("({target})") });
    }

    fn finish(self) -> String {
        let mut text = self.text.trim().to_owned();
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_words_lines_and_targets() {
        let html = "<html><head><title>no</title><style>p{}</style></head><body><!-- [if mso]>no<![endif] -->\
                    <h1>Hi  Ann &amp; Bo</h1><p>Your <b>cart</b>:<br/>2&nbsp;× mug</p><ul><li>one</li><li>two</li></ul>\
                    <p><a href=\"https://shop.example/?a=1&amp;b=2\">Back</a> <a href='https://shop.example'>https://shop.example</a></p></body></html>";
        assert_eq!(
            from_html(html),
            "Hi Ann & Bo\n\nYour cart:\n2 × mug\n\n- one\n\n- two\n\nBack (https://shop.example/?a=1&b=2) https://shop.example\n"
        );
    }

    #[test]
    fn broken_html_is_still_text() {
        for html in ["", "<", "<a href=\"", "a < b", "<!-- never closed", "<style>never closed", "<td>x"] {
            let _text: String = from_html(html);
        }
    }
}
