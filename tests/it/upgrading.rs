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
}
