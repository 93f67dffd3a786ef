//! Whether a new version of a schema may stand beside the earlier ones, by level.
//!
//! *Reads* means Avro's schema resolution: data of the writer's schema can always be resolved to the
//! reader's, whatever the data. What resolves only for some data (a union branch or an enum symbol
//! that the reader lacks) does not count, as in the registries.

use apache_avro::{
    Schema,
    schema_compatibility::{Compatibility, SchemaCompatibility},
};

use super::{Level, Verdict};

/// Checks `new` against `earlier`, oldest first.
pub fn check(level: Level, new: &Schema, earlier: &[&Schema]) -> Verdict {
    let (backward, forward, all) = match level {
        Level::None => (false, false, false),
        Level::Backward => (true, false, false),
        Level::BackwardTransitive => (true, false, true),
        Level::Forward => (false, true, false),
        Level::ForwardTransitive => (false, true, true),
        Level::Full => (true, true, false),
        Level::FullTransitive => (true, true, true),
    };
    let from = if all { 0 } else { earlier.len().saturating_sub(1) };
    let mut reasons = Vec::new();
    for (index, old) in earlier.iter().enumerate().skip(from) {
        let version = index + 1;
        if backward && let Some(why) = refusal(old, new) {
            reasons.push(format!("the new version cannot read data of version {version}: {why}"));
        }
        if forward && let Some(why) = refusal(new, old) {
            reasons.push(format!("version {version} cannot read data of the new version: {why}"));
        }
    }
    Verdict { reasons }
}

fn refusal(writer: &Schema, reader: &Schema) -> Option<String> {
    match SchemaCompatibility::can_read(writer, reader) {
        Ok(Compatibility::Full) => None,
        Ok(Compatibility::Partial) => Some("only some values can be read".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Level::{Backward, Forward, Full, FullTransitive, None},
        *,
    };

    fn record(fields: &str) -> Schema {
        Schema::parse_str(&format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)).unwrap()
    }

    const A: &str = r#"{"name":"a","type":"string"}"#;
    const B_OPTIONAL: &str = r#"{"name":"b","type":"string","default":""}"#;
    const B: &str = r#"{"name":"b","type":"string"}"#;

    fn allowed(level: Level, new: &Schema, earlier: &[&Schema]) -> bool {
        check(level, new, earlier).is_compatible()
    }

    #[test]
    fn levels_allow_what_their_table_says() {
        let one = record(A);
        let optional = record(&format!("{A},{B_OPTIONAL}"));
        let required = record(&format!("{A},{B}"));
        for (what, new, old, expected) in [
            ("add optional", &optional, &one, [(Backward, true), (Forward, true), (Full, true), (FullTransitive, true)]),
            ("delete optional", &one, &optional, [(Backward, true), (Forward, true), (Full, true), (FullTransitive, true)]),
            ("add required", &required, &one, [(Backward, false), (Forward, true), (Full, false), (None, true)]),
            ("delete required", &one, &required, [(Backward, true), (Forward, false), (Full, false), (None, true)]),
        ] {
            for (level, answer) in expected {
                assert_eq!(allowed(level, new, &[old]), answer, "{what} under {level}");
            }
        }
    }

    #[test]
    fn transitive_levels_look_at_every_version() {
        let text = record(r#"{"name":"b","type":"string","default":""}"#);
        let none = record("");
        let number = record(r#"{"name":"b","type":"long","default":0}"#);
        assert!(allowed(Full, &number, &[&text, &none]));
        let verdict = check(FullTransitive, &number, &[&text, &none]);
        assert_eq!(verdict.reasons.len(), 2, "{verdict:?}");
        assert!(verdict.reasons[0].contains("version 1"), "{verdict:?}");
    }

    #[test]
    fn a_reader_that_reads_only_some_values_is_refused() {
        let both = record(r#"{"name":"a","type":["null","string"]}"#);
        let only_text = record(A);
        assert!(!allowed(Backward, &only_text, &[&both]));
        assert!(allowed(Forward, &only_text, &[&both]));
    }
}
