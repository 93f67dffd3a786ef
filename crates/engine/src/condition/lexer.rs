//! Text to tokens.

use super::error::{ConditionError, LIMIT_EXCEEDED, SYNTAX};

/// One token with its byte range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) range: (usize, usize),
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Int(i64),
    /// Millionths.
    Decimal(i64),
    Text(String),
    Name(String),
    Symbol(&'static str),
    End,
}

// Longer ones first.
const SYMBOLS: [&str; 22] =
    ["==", "!=", "<=", ">=", "&&", "||", "(", ")", "[", "]", ",", ".", "?", ":", "<", ">", "!", "+", "-", "*", "/", "%"];

/// Line and character of a byte offset, both from 1.
pub(super) fn place(source: &str, offset: usize) -> (u32, u32) {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// All tokens, the last of which is [`TokenKind::End`].
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, ConditionError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = source[at..].chars().next() {
        if matches!(first, ' ' | '\t' | '\r' | '\n') {
            at += 1;
            continue;
        }
        let rest = &source[at..];
        let raw = rest.starts_with("r\"") || rest.starts_with("r'");
        let (kind, length) = if first == '"' || first == '\'' || raw {
            text(source, at, raw)?
        } else if first.is_ascii_digit() {
            number(source, at)?
        } else if first.is_ascii_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            (TokenKind::Name(rest[..length].to_owned()), length)
        } else if let Some(symbol) = SYMBOLS.into_iter().find(|s| rest.starts_with(s)) {
            (TokenKind::Symbol(symbol), symbol.len())
        } else {
            let meant = match first {
                '=' => Some("=="),
                '&' => Some("&&"),
                '|' => Some("||"),
                '“' | '”' | '„' | '‘' | '’' => Some("\""),
                _ => None,
            };
            return Err(ConditionError::new(SYNTAX, place(source, at), format!("`{first}` means nothing here")).suggest(meant));
        };
        tokens.push(Token { kind, range: (at, at + length) });
        at += length;
    }
    tokens.push(Token { kind: TokenKind::End, range: (at, at) });
    Ok(tokens)
}

fn number(source: &str, at: usize) -> Result<(TokenKind, usize), ConditionError> {
    let rest = &source[at..];
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let limit = |message: &str| ConditionError::new(LIMIT_EXCEEDED, place(source, at), message.to_owned());
    let whole = digits(rest);
    let fraction = match rest[whole..].strip_prefix('.') {
        Some(after) => digits(after),
        None => 0,
    };
    let length = if fraction > 0 { whole + 1 + fraction } else { whole };
    if rest[length..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        let message = "a number is digits, with at most one point; a duration is a text, as in `\"60d\"`";
        return Err(ConditionError::new(SYNTAX, place(source, at), message));
    }
    if fraction == 0 {
        let number = rest[..whole].parse().map_err(|_| limit("an int has 64 bits"))?;
        return Ok((TokenKind::Int(number), length));
    }
    if fraction > 6 {
        return Err(limit("at most six digits behind the point"));
    }
    let millionths = format!("{}{:0<6}", &rest[..whole], &rest[whole + 1..length]);
    let number = millionths.parse().map_err(|_| limit("a decimal has 64 bits in millionths"))?;
    Ok((TokenKind::Decimal(number), length))
}

fn text(source: &str, at: usize, raw: bool) -> Result<(TokenKind, usize), ConditionError> {
    let error = |offset: usize, message: &str| ConditionError::new(SYNTAX, place(source, offset), message.to_owned());
    let start = at + usize::from(raw);
    let mut chars = source[start..].char_indices();
    let Some((_, quote)) = chars.next() else { return Err(error(at, "a text begins here")) };
    let mut out = String::new();
    while let Some((offset, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((TokenKind::Text(out), start + offset + 1 - at)),
            '\n' => return Err(error(at, "the text that begins here does not end on its line")),
            '\\' if !raw => {
                let escaped = chars.next().map(|(_, c)| c);
                out.push(match escaped {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some(c @ ('\\' | '"' | '\'' | '`' | '?')) => c,
                    Some('u') => {
                        let digits: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                        let code = (digits.len() == 4).then(|| u32::from_str_radix(&digits, 16).ok()).flatten();
                        let unknown = || error(start + offset, "`\\u` is followed by four hexadecimal digits");
                        code.and_then(char::from_u32).ok_or_else(unknown)?
                    }
                    _ => {
                        return Err(error(
                            start + offset,
                            "escapes are \\n \\t \\r \\\\ \\\" \\' \\uXXXX; a pattern is best written r\"…\"",
                        ));
                    }
                });
            }
            c => out.push(c),
        }
    }
    Err(error(at, "the text that begins here does not end"))
}
