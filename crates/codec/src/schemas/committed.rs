//! The committed schemas of the public topics: `schemas/<subject>/v<N>.avsc`, append-only.

/// One committed version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// `<topic>-value`, without an installation's prefix.
    pub subject: &'static str,
    /// Counts from 1.
    pub version: u32,
    /// The file.
    pub text: &'static str,
}

macro_rules! committed {
    ($($subject:literal: $($version:literal)+),+ $(,)?) => {
        &[$($(Committed {
            subject: $subject,
            version: $version,
            text: include_str!(concat!("../../../../schemas/", $subject, "/v", $version, ".avsc")),
        }),+),+]
    };
}

/// All versions of all subjects, each subject's oldest first.
pub const fn committed() -> &'static [Committed] {
    committed! {
        "waypost.events.v1-value": 1,
        "waypost.segment-changes.v1-value": 1,
        "waypost.decisions.v1-value": 1,
        "waypost.messages.v1-value": 1,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::Path};

    use super::*;
    use crate::schemas::{Level, Schema, compatibility};

    #[test]
    fn every_version_is_fully_compatible_with_all_earlier_ones() {
        let mut subjects: BTreeMap<&str, Vec<Schema>> = BTreeMap::new();
        for c in committed() {
            let new = Schema::parse(0, c.text).unwrap();
            let earlier = subjects.entry(c.subject).or_default();
            assert_eq!(usize::try_from(c.version).unwrap(), earlier.len() + 1, "{}", c.subject);
            let all: Vec<_> = earlier.iter().map(|s| &s.avro).collect();
            let verdict = compatibility::check(Level::FullTransitive, &new.avro, &all);
            assert!(verdict.is_compatible(), "{} v{}: {:?}", c.subject, c.version, verdict.reasons);
            earlier.push(new);
        }
    }

    #[test]
    fn every_file_is_listed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
        let mut files = Vec::new();
        for subject in fs::read_dir(&root).unwrap().map(Result::unwrap).filter(|e| e.path().is_dir()) {
            for file in fs::read_dir(subject.path()).unwrap().map(Result::unwrap) {
                files.push(format!("{}/{}", subject.file_name().to_string_lossy(), file.file_name().to_string_lossy()));
            }
        }
        files.sort();
        let mut listed: Vec<_> = committed().iter().map(|c| format!("{}/v{}.avsc", c.subject, c.version)).collect();
        listed.sort();
        assert_eq!(files, listed);
    }
}
