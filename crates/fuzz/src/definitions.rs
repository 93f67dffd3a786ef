//! What the definition topic carries: the manifest of a set, and the bodies that it names.

use std::collections::BTreeMap;

use bytes::Bytes;
use waypost_engine::{
    apply::SetManifest,
    library::{Library, Shelf},
    manifest::Manifest,
};
use waypost_types::ContentHash;

use crate::pieces;

const MAX_PIECES: usize = 64;

/// A set, then bodies in the order of its definitions, cut at zero bytes. Each definition is given the hash of its
/// body, or whatever changes in a body would end at the hash.
pub(crate) fn definitions(data: &[u8]) -> bool {
    let parts = pieces(data, MAX_PIECES);
    let bodies: Vec<Bytes> = parts.iter().skip(1).map(|body| Bytes::copy_from_slice(body)).collect();
    for body in &bodies {
        match Manifest::from_body(body, "fuzz") {
            Ok(manifest) => assert_eq!((&manifest.body, manifest.hash), (body, ContentHash::of(body)), "a body is what is stored"),
            Err(problems) => assert!(!problems.is_empty(), "refused without a problem"),
        }
    }
    let Some(mut set) = parts.first().and_then(|set| SetManifest::from_bytes(set)) else { return false };
    assert_eq!(SetManifest::from_bytes(&set.to_bytes()).as_ref(), Some(&set), "what was written reads the same");

    let mut hashes = BTreeMap::new();
    for (definition, body) in set.definitions.iter_mut().zip(&bodies) {
        let new = ContentHash::of(body);
        hashes.insert(hex_of(&definition.hash), hex_of(&new));
        definition.hash = new;
    }
    for template in set.definitions.iter_mut().flat_map(|definition| definition.templates.values_mut()) {
        if let Some(new) = hashes.get(template) {
            template.clone_from(new);
        }
    }
    let library = Library::default();
    let all: Vec<ContentHash> = bodies.into_iter().map(|body| library.insert(body)).collect();
    let stored = set.to_bytes();
    let defv = Library::defv(&set);
    library.insert(stored);
    match library.look_up(&defv) {
        Shelf::Ready(compiled) => {
            assert_eq!(compiled.number, set.number);
            true
        }
        Shelf::Missing(missing) => {
            assert!(!missing.is_empty() && missing.iter().all(|hash| !all.contains(hash)), "a body that is here is missing");
            false
        }
        Shelf::Broken(problems) => {
            assert!(!problems.is_empty(), "refused without a problem");
            false
        }
    }
}

fn hex_of(hash: &ContentHash) -> String {
    hex::encode(hash.as_bytes())
}
