//! The drill of PROTOCOL §13.3: state is backed up beside running processes, an older backup is put in its place
//! under them, and everything comes to the same end: same decisions, nothing sent twice.

use std::{collections::BTreeMap, time::Duration};

use waypost_types::{PartitionId, Role};

use crate::{
    public::header,
    redis::Held,
    shop::{Shop, said},
    stack::alone,
    under_faults::Crowd,
};

/// Runs a command of `waypost` that must succeed; what it said.
fn tell(shop: &Shop, arguments: &[&str]) -> String {
    let output = shop.run(arguments);
    assert!(output.status.success(), "waypost {arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs one that must be refused; what it said.
fn refused(shop: &Shop, arguments: &[&str]) -> String {
    let output = shop.run(arguments);
    assert!(!output.status.success(), "waypost {arguments:?}: {}", said(&output));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_older_backup_restored_under_running_processes_changes_nothing() {
    let alone = alone("backups");
    let shop = &alone.shop;
    let mut crowd = Crowd::of(shop);
    shop.sink.answer_after(Duration::from_millis(100));
    let [first, ..] = [(); 4].map(|()| crowd.touch());
    crowd.reminded(first);
    let said = tell(shop, &["backup", "--out", "older"]);
    assert!(said.contains("16 partitions backed up"), "{said}");
    assert!(refused(shop, &["backup", "--out", "older"]).contains("is there already"));
    // what is decided, sent and stopped now is folded again after the restore
    let pending = [(); 4].map(|()| crowd.touch());
    crowd.order(pending[0]);
    let [second, ..] = [(); 3].map(|()| crowd.touch());
    crowd.reminded(second);
    tell(shop, &["backup", "--out", "newer", "--role", "sender", "--partition", "1"]);
    assert!(refused(shop, &["restore", "--from", "newer/sender-1.wpbackup", "--role", "identity"]).contains("not asked for"));
    assert!(refused(shop, &["restore", "--from", "older"]).contains("--yes"));
    assert!(tell(shop, &["restore", "--from", "older", "--dry-run"]).contains("nothing was changed"));
    let said = tell(shop, &["restore", "--from", "older", "--yes"]);
    assert!(said.contains("16 partitions restored"), "{said}");
    crowd.order(pending[1]);
    let fresh = crowd.touch();
    crowd.reminded(fresh);
    // one role alone, a second time, to a state between
    tell(shop, &["restore", "--from", "newer", "--role", "sender", "--yes"]);
    crowd.settle();
    let unknown = crowd.judge();
    assert!(unknown.len() <= 3, "calls that were under way at a restore: {unknown:?}");
    // what was published again is what was published before
    let mut told: BTreeMap<(u32, String, String), Vec<u8>> = BTreeMap::new();
    let mut again = 0;
    for row in shop.decisions.raw() {
        let payload = row.payload.to_vec();
        let place = (row.partition, header(&row, "ce_source"), header(&row, "ce_sequence"));
        if let Some(before) = told.get(&place) {
            again += 1;
            assert!(*before == payload, "another decision under the number of an older one: {place:?}");
        } else {
            told.insert(place, payload);
        }
    }
    assert!(again > 0, "nothing was folded again, so nothing was shown");
    // and every log, folded by itself, gives what is stored
    for role in ["identity", "segmenter", "orchestrator", "sender"] {
        for partition in ["0", "1", "2", "3"] {
            let said = tell(shop, &["refold", "--role", role, "--partition", partition]);
            assert!(said.contains("the same: "), "{role}/{partition}: {said}");
        }
    }
    let said = tell(shop, &["refold", "--role", "orchestrator", "--partition", "2", "--from", "older"]);
    assert!(said.contains("the same: "), "{said}");
    assert!(tell(shop, &["repair", "--list"]).contains("0 gaps"));

    // State that is gone is a loss, and no new installation.
    let (held, gone) = (Held::under(shop.prefix()), PartitionId { role: Role::Orchestrator, index: 2 });
    assert!(shop.stop("orchestrator").success());
    let mut words = vec!["DEL".to_owned()];
    words.extend(held.keys.all(gone));
    held.ask(&words);
    let said = refused(shop, &["init"]);
    assert!(said.contains("orchestrator/2 is the first") && said.contains("waypost restore"), "{said}");
    let said = tell(shop, &["init", "--fold-again", "--as", "ann"]);
    assert!(said.contains("the state of 1 partitions created"), "{said}");
    let told = shop.tell(&["audit", "list", "--act", "state.fold-again"]);
    assert!(told.contains("ann") && told.contains("partitions/orchestrator/2"), "{told}");
    shop.start("orchestrator");
    shop.until("what was lost to be folded again", || {
        let refold = shop.run(&["refold", "--role", "orchestrator", "--partition", "2"]);
        refold.status.success().then_some(())
    });
}
