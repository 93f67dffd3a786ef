//! Stored bodies for people: as YAML, and compared line by line.

use serde_json::Value as Json;

/// Above this many cells the comparison gives up on finding common lines.
const CELLS_MAX: usize = 4_000_000;
/// Unchanged lines shown around a change.
const CONTEXT: usize = 3;

/// A stored body as YAML, texts of many lines as blocks.
pub fn to_yaml(body: &[u8]) -> String {
    let Ok(json) = serde_json::from_slice::<Json>(body) else { return String::from_utf8_lossy(body).into_owned() };
    let mut out = String::new();
    write(&mut out, &json, 0);
    out
}

/// Writes `value` as the block that stands at `indent`, ending with a line's end.
fn write(out: &mut String, value: &Json, indent: usize) {
    match value {
        Json::Object(map) if !map.is_empty() => {
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 || !out.ends_with("- ") {
                    pad(out, indent);
                }
                out.push_str(&word(key));
                out.push(':');
                follow(out, value, indent);
            }
        }
        Json::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 || !out.ends_with("- ") {
                    pad(out, indent);
                }
                out.push_str("- ");
                write(out, item, indent + 2);
            }
        }
        Json::String(text) => {
            out.push_str(&word(text));
            out.push('\n');
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
            out.push_str(&value.to_string());
            out.push('\n');
        }
    }
}

/// Writes the value behind a key.
fn follow(out: &mut String, value: &Json, indent: usize) {
    match value {
        Json::Object(map) if !map.is_empty() => {
            out.push('\n');
            write(out, value, indent + 2);
        }
        Json::Array(items) if !items.is_empty() => {
            out.push('\n');
            write(out, value, indent + 2);
        }
        Json::String(text) if block_fits(text) => {
            out.push_str(if text.ends_with('\n') { " |\n" } else { " |-\n" });
            for line in text.lines() {
                if !line.is_empty() {
                    pad(out, indent + 2);
                }
                out.push_str(line);
                out.push('\n');
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) | Json::Object(_) => {
            out.push(' ');
            write(out, value, indent);
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// Whether a text reads back unchanged from a literal block.
fn block_fits(text: &str) -> bool {
    let inner = text.strip_suffix('\n').unwrap_or(text);
    inner.contains('\n')
        && !inner.starts_with([' ', '\n'])
        && !inner.ends_with('\n')
        && !text.contains(|c: char| c.is_control() && c != '\n')
}

/// A scalar: plain where that cannot be taken for anything else, quoted otherwise.
fn word(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b' ' | b'@' | b'/'))
        && !text.ends_with(' ')
        && !matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if plain { text.to_owned() } else { Json::String(text.to_owned()).to_string() }
}

/// The lines that differ, marked `-` and `+`, with some around them; empty where nothing differs.
pub fn diff(old: &str, new: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (middle_a, middle_b) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    let mut marked: Vec<(char, &str)> = a[..head].iter().map(|l| (' ', *l)).collect();
    marked.extend(compare(middle_a, middle_b));
    marked.extend(a[a.len() - tail..].iter().map(|l| (' ', *l)));
    let changed: Vec<usize> = marked.iter().enumerate().filter(|(_, (m, _))| *m != ' ').map(|(i, _)| i).collect();
    let mut out = String::new();
    let mut last = None;
    for (index, (mark, line)) in marked.iter().enumerate() {
        let from = index.saturating_sub(CONTEXT);
        let near = changed.partition_point(|c| *c < from);
        if changed.get(near).is_none_or(|c| *c > index + CONTEXT) {
            continue;
        }
        if last.is_some_and(|l| l + 1 != index) {
            out.push_str("...\n");
        }
        last = Some(index);
        out.push(*mark);
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// Longest common subsequence, as marks.
fn compare<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<(char, &'a str)> {
    if a.len().saturating_mul(b.len()) > CELLS_MAX {
        return a.iter().map(|l| ('-', *l)).chain(b.iter().map(|l| ('+', *l))).collect();
    }
    let width = b.len() + 1;
    let mut common = vec![0_u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i * width + j] =
                if a[i] == b[j] { common[(i + 1) * width + j + 1] + 1 } else { common[(i + 1) * width + j].max(common[i * width + j + 1]) };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut marked = Vec::new();
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            marked.push((' ', a[i]));
            i += 1;
            j += 1;
        } else if j == b.len() || (i < a.len() && common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            marked.push(('-', a[i]));
            i += 1;
        } else {
            marked.push(('+', b[j]));
            j += 1;
        }
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_read_as_yaml() {
        let body = br#"{"kind":"Topic","spec":{"list":[{"a":1,"b":[]},"x: y"],"text":"one\ntwo\n","flag":true}}"#;
        let yaml = "kind: Topic\nspec:\n  list:\n    - a: 1\n      b: []\n    - \"x: y\"\n  text: |\n    one\n    two\n  flag: true\n";
        assert_eq!(to_yaml(body), yaml);
    }

    #[test]
    fn only_changes_and_their_neighbours_are_shown() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        assert_eq!(diff(old, old), "");
        assert_eq!(diff(old, "1\n2\n3\n4\nfive\n6\n7\n8\n9\n"), " 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
        assert_eq!(diff("", "a\n"), "+a\n");
    }
}
