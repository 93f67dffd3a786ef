//! An upgrade and the way back, role by role, while people shop: release N, then N+1, then N again over one log and one Redis.
//!
//! What is N: the binary that `WAYPOST_OLD_BIN` names, which deploy/local/upgrade.sh builds of an earlier commit; without it this
//! one, which then says and behaves as if it knew only the first engine.

use std::time::Duration;

use crate::{
    shop::{ROLES, Release, Shop, old_binary, said},
    stack::alone_before,
    under_faults::Crowd,
};

/// Replaces every process by one of `to`, as a rollout does: the new one comes before the old one goes where the role has
/// partitions, so that both releases own some of them at once. Doors have a port of their own here and are replaced at once.
fn roll(shop: &Shop, crowd: &mut Crowd<'_>, names: [&'static str; 6], to: Release, phase: &str) -> [&'static str; 6] {
    // Each process has a log of its own.
    let now = ROLES.map(|role| &*format!("{role}-{phase}").leak());
    for (role, (old, fresh)) in ROLES.into_iter().zip(names.into_iter().zip(now)) {
        let ordered = crowd.touch();
        crowd.order(ordered);
        let [first, pending, ..] = [(); 4].map(|()| crowd.touch());
        if matches!(role, "ingest" | "control") {
            end(shop, old);
            shop.start_of(to, fresh, role);
        } else {
            shop.start_of(to, fresh, role);
            // as a rollout waits for readiness: it has joined, and owns what was given to it
            shop.until(&format!("{fresh} to be ready"), || (shop.admin(fresh, "/readyz").status == 200).then_some(()));
            let among_both = crowd.touch();
            crowd.reminded(among_both);
            end(shop, old);
        }
        crowd.order(pending);
        crowd.reminded(first);
    }
    shop.wait_for_control();
    shop.wait_for_ingest();
    now
}

fn end(shop: &Shop, name: &str) {
    let status = shop.stop(name);
    assert!(status.success(), "{name}: {status}");
}

/// Nothing is wrong with log and state, as a release sees them.
fn sound(shop: &Shop, release: Release) {
    let doctor = shop.run_of(release, &["doctor"]);
    assert!(doctor.status.success(), "{release:?}: {}", said(&doctor));
}

#[test]
fn an_upgrade_and_the_way_back_lose_nothing_and_double_nothing() {
    let alone = alone_before("upgrade");
    let shop = &alone.shop;
    let mut crowd = Crowd::of(shop);
    shop.sink.answer_after(Duration::from_millis(200));
    let before = crowd.touch();
    crowd.reminded(before);

    let names = roll(shop, &mut crowd, ROLES, Release::This, "upgraded");
    sound(shop, Release::This);
    let names = roll(shop, &mut crowd, names, Release::Before, "back");
    sound(shop, Release::Before);
    if old_binary().is_none() {
        let refused = shop.run(&["engine", "activate", "2", "--as", "ana"]);
        let words = said(&refused);
        assert!(!refused.status.success() && words.contains("has engines 1 to 1"), "{words}");
    }
    // What both wrote is read by either: the carts of all phases come to their ends.
    crowd.settle();
    assert_eq!(crowd.judge(), Vec::<String>::new(), "every process ended in good order, so no call is in doubt");
    // And forward again, for good.
    roll(shop, &mut crowd, names, Release::This, "again");
    crowd.settle();
    assert_eq!(crowd.judge(), Vec::<String>::new());
    sound(shop, Release::This);
    // A release that was built may know what this one knows; this one, made to behave as an older, does not.
    if old_binary().is_none() {
        runs_are_commanded_when_nobody_is_older(shop);
    }
}

/// A command about a run is a record at which a process of the release before would halt: it is refused while there is one, in any
/// role, and accepted when the last is gone.
fn runs_are_commanded_when_nobody_is_older(shop: &Shop) {
    shop.person("commanded");
    let who = "user_id:commanded";
    shop.until("the person to be known", || shop.ask(&["run", "list", who]).status.success().then_some(()));
    let begin = ["run", "start", who, "cart-recovery", "--key", "k-commanded"];
    shop.until("the last of the rollout to be forgotten", || {
        shop.ask(&[&begin[..], &["--dry-run"]].concat()).status.success().then_some(())
    });
    shop.start_of(Release::Before, "sender-late", "sender");
    shop.until("the late one to be ready", || (shop.admin("sender-late", "/readyz").status == 200).then_some(()));
    let why = shop.until("the API to hear of it", || {
        let refused = shop.ask(&[&begin[..], &["--dry-run"]].concat());
        (!refused.status.success()).then(|| said(&refused))
    });
    let cancel = said(&shop.ask(&["run", "cancel", who, "--journey", "cart-recovery"]));
    for words in [&why, &cancel, &said(&shop.ask(&begin))] {
        assert!(words.contains("roll out a binary that has engine 3, then ask again"), "{words}");
    }
    assert!(why.contains("has engines 1 to 1 and would halt at this"), "{why}");
    end(shop, "sender-late");
    shop.until("the command to be accepted", || shop.ask(&begin).status.success().then_some(()));
    let entered = shop.decision("the entry", |row| row["key"] == "k-commanded" && row["what"] == "ENTERED");
    assert_eq!(entered["cause"], "operator");
    assert_eq!(shop.tell_json(&["run", "list", who])["runs"].as_array().map(Vec::len), Some(1), "what was refused began nothing");
}
