//! The `{{ }}`, `{% %}` and `{# #}` of a template, as words and signs: enough to refuse by name what
//! MiniJinja would only refuse, or not, while rendering.

/// One tag of the template language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// `{{ }}`, else `{% %}`.
    pub(super) prints: bool,
    /// Where it begins.
    pub(super) start: usize,
    /// Behind its end.
    pub(super) end: usize,
    /// What stands in it.
    pub(super) tokens: Vec<Token>,
}

/// One word or sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name or keyword.
    Word(String),
    /// A text or number; its content does not matter here.
    Literal,
    /// Any other character.
    Sign(char),
}

/// The tags of `source` in order; comments are left out. A tag that does not end, ends the list: the
/// parser says so.
pub(super) fn tags(source: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut from = 0;
    while let Some((start, kind)) = opening(source, from) {
        if kind == '#' {
            let Some(end) = source[start..].find("#}") else { break };
            from = start + end + 2;
            continue;
        }
        let close = if kind == '{' { "}}" } else { "%}" };
        let Some((end, tokens)) = content(source, start + 2, close) else { break };
        tags.push(Tag { prints: kind == '{', start, end, tokens });
        from = end;
    }
    tags
}

/// `source` without its tags: `x` for what is printed, nothing for statements and comments. Line
/// breaks stay, so that lines keep their numbers.
pub(super) fn stripped(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut from = 0;
    while let Some((start, kind)) = opening(source, from) {
        let end = match kind {
            '#' => source[start..].find("#}").map(|end| start + end + 2),
            '{' => content(source, start + 2, "}}").map(|(end, _)| end),
            _ => content(source, start + 2, "%}").map(|(end, _)| end),
        };
        let Some(end) = end else { break };
        out.push_str(&source[from..start]);
        if kind == '{' {
            out.push('x');
        }
        out.extend(source[start..end].chars().filter(|c| *c == '\n'));
        from = end;
    }
    out.push_str(&source[from..]);
    out
}

/// The line of a byte, from 1.
pub(super) fn line_of(source: &str, at: usize) -> u32 {
    let newlines = source.bytes().take(at).filter(|b| *b == b'\n').count();
    u32::try_from(newlines + 1).unwrap_or(u32::MAX)
}

fn opening(source: &str, from: usize) -> Option<(usize, char)> {
    let bytes = source.as_bytes();
    (from..bytes.len().saturating_sub(1)).find_map(|at| match (bytes[at], bytes[at + 1]) {
        (b'{', kind @ (b'{' | b'%' | b'#')) => Some((at, char::from(kind))),
        _ => None,
    })
}

fn content(source: &str, from: usize, close: &str) -> Option<(usize, Vec<Token>)> {
    let mut tokens = Vec::new();
    let mut at = from;
    loop {
        let rest = source.get(at..)?;
        // A map literal may end right before the tag does; the outer end is the one that counts.
        if rest.starts_with(close) {
            return Some((at + close.len(), tokens));
        }
        let c = rest.chars().next()?;
        if c == '"' || c == '\'' {
            let mut escaped = false;
            let end = rest.char_indices().skip(1).find(|(_, x)| {
                let ends = *x == c && !escaped;
                escaped = *x == '\\' && !escaped;
                ends
            });
            at += end?.0 + 1;
            tokens.push(Token::Literal);
        } else if c.is_alphabetic() || c == '_' {
            let word: String = rest.chars().take_while(|x| x.is_alphanumeric() || *x == '_').collect();
            at += word.len();
            tokens.push(Token::Word(word));
        } else if c.is_ascii_digit() {
            at += rest.chars().take_while(char::is_ascii_digit).count();
            tokens.push(Token::Literal);
        } else {
            at += c.len_utf8();
            if !c.is_whitespace() {
                tokens.push(Token::Sign(c));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_words_and_signs() {
        let found = tags("a {# {{ no }} #}{{ x.y|join('}}') }} {%- if a > 1 -%}b{% endif %}");
        assert_eq!(found.len(), 3);
        assert!(found[0].prints && found[0].tokens.contains(&Token::Word("join".to_owned())), "{found:?}");
        assert_eq!(found[1].tokens.iter().filter(|t| matches!(t, Token::Word(_))).count(), 2);
    }

    #[test]
    fn stripping_keeps_the_lines() {
        assert_eq!(stripped("a{# x\n #}b{{ \"{%\" }}\n{% for x in\n y %}c{% endfor %}"), "a\nbx\n\nc");
    }

    #[test]
    fn what_does_not_end_is_left_to_the_parser() {
        for source in ["{{", "{{ 'x", "{% if", "{#", "{", "{{ \"\\", "é{{ é"] {
            assert_eq!(tags(source), [], "{source}");
            let _text = stripped(source);
        }
    }
}
