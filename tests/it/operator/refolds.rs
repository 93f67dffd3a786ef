//! `waypost refold` of an installation that has run, and been stopped: the log gives what Redis holds, to the byte; where
//! Redis holds anything else, it says what.

use waypost_types::{PartitionId, Role};

use super::Site;
use crate::shop::ROLES;

const KEYED: [&str; 4] = ["identity", "segmenter", "orchestrator", "sender"];

pub(super) fn a_stopped_installation_folds_to_the_same_bytes(site: &Site<'_>) {
    let shop = site.shop;
    site.tell(&["backup", "--out", "halfway"]);
    // some of it is sent, and acknowledged back to the profile
    let address = shop.person("refolded");
    shop.touch(&serde_json::json!({"userId": "refolded"}), "k-refolded");
    shop.mail(&address, "remind k-refolded");
    for role in ROLES.iter().rev() {
        assert!(shop.stop(role).success(), "{role}");
    }
    for (index, role) in KEYED.iter().enumerate() {
        // another partition of each
        let partition = index.to_string();
        let said = site.tell(&["refold", "--role", role, "--partition", &partition]);
        assert!(said.contains("folding offsets 0 to ") && said.contains("the same: "), "{said}");
    }
    for role in ["segmenter", "orchestrator"] {
        let said = site.tell(&["refold", "--role", role, "--partition", "0", "--from", "halfway"]);
        assert!(!said.contains("folding offsets 0 to ") && said.contains("the same: "), "{said}");
    }

    // one byte of one entity
    let partition = Site::of(Role::Segmenter).find(|partition| site.held.entity(*partition).is_some()).expect("somebody is stored");
    let PartitionId { index, .. } = partition;
    let index = index.to_string();
    let refold: &[&str] = &["refold", "--role", "segmenter", "--partition", &index];
    let (key, field, value) = site.held.entity(partition).unwrap();
    let mut changed = value.clone();
    *changed.last_mut().unwrap() ^= 1;
    site.held.ask(&[b"HSET".as_slice(), key.as_bytes(), &field, &changed]);
    let said = site.ends(refold, 1);
    let named = said.lines().filter(|line| line.starts_with("entity ")).collect::<Vec<_>>();
    // a field is workspace, kind and key; the key is what is told
    let hex = field.iter().skip(5).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    assert!(named.len() == 1 && named[0].contains(&hex) && named[0].contains("the log gives"), "{hex}: {said}");
    assert!(said.contains("1 differences: restore this partition from a backup"), "{said}");
    // nobody takes such a state for a good one
    site.refused(&["backup", "--out", "spoilt", "--role", "segmenter", "--partition", &index], "is not whole in Redis");
    // a lost field is told as well
    site.held.ask(&[b"HDEL".as_slice(), key.as_bytes(), &field]);
    assert!(site.ends(refold, 1).contains("Redis holds absent"));
    site.held.ask(&[b"HSET".as_slice(), key.as_bytes(), &field, &value]);
    site.tell(refold);

    // what it cannot do it says with 2, so that 1 always means different
    assert!(site.ends(&["refold", "--role", "ingest", "--partition", "0"], 2).contains("owns no partitions"));
    assert!(site.ends(&["refold", "--role", "sender", "--partition", "7"], 2).contains("partitions are 0 to 3"));
    assert!(site.ends(&["refold", "--role", "sender", "--partition", "0", "--to", "99999999"], 2).contains("has only come to"));
    assert!(site.ends(&["refold", "--role", "sender", "--partition", "0", "--from", "nowhere"], 2).contains("nowhere"));
}
