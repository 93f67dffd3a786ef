//! Two processes of a role: partitions move to the one that comes, and back from the one that goes; those that do not
//! move are left alone; nothing is lost and nothing doubled.

use std::collections::BTreeSet;

use crate::{shop::Shop, stack::alone, under_faults::Crowd};

const ROLE: &str = "segmenter";

/// Partitions that a process names in lines of its log behind the first `from` bytes.
fn named(shop: &Shop, process: &str, from: usize, said: &str) -> BTreeSet<u32> {
    let line = format!("membership: {said} role={ROLE} partitions=[");
    let log = shop.log(process);
    let lists = log[from..].lines().filter_map(|text| text.split_once(&line)).filter_map(|(_, rest)| rest.split_once(']'));
    lists.flat_map(|(list, _)| list.split(", ").filter_map(|number| number.parse().ok())).collect()
}

/// How the second process ends.
#[derive(Clone, Copy, Debug)]
enum Ends {
    Terminated,
    Killed,
}

#[test]
fn a_second_process_takes_its_share_and_gives_it_back_and_the_rest_goes_on() {
    let alone = alone("rebalance");
    let shop = &alone.shop;
    let mut crowd = Crowd::of(shop);
    let all: BTreeSet<u32> = (0..4).collect();
    shop.until("the first process to have all", || (named(shop, ROLE, 0, "assigned") == all).then_some(()));
    for (second, ends) in [("segmenter-b", Ends::Terminated), ("segmenter-c", Ends::Killed)] {
        let from = shop.log(ROLE).len();
        let ordered = crowd.touch();
        shop.start_as(second, ROLE);
        crowd.order(ordered);
        // people come all the while
        let moved = shop.until("the second process to have a share", || {
            crowd.touch();
            let has = named(shop, second, 0, "assigned");
            (!has.is_empty() && has == named(shop, ROLE, from, "to be given back")).then_some(has)
        });
        assert!(moved.len() < all.len(), "{ends:?}: everything moved");
        assert_eq!(named(shop, ROLE, from, "assigned"), BTreeSet::new(), "{ends:?}: the first process was disturbed");
        // both work: profiles lie anywhere
        for fresh in [(); 6].map(|()| crowd.touch()) {
            crowd.reminded(fresh);
        }
        let pending = crowd.touch();
        match ends {
            Ends::Terminated => assert!(shop.stop(second).success()),
            Ends::Killed => shop.kill(second),
        }
        crowd.order(pending);
        shop.until("the first process to have its share again", || {
            crowd.touch();
            (named(shop, ROLE, from, "assigned") == moved).then_some(())
        });
        assert_eq!(named(shop, ROLE, from, "to be given back"), moved, "{ends:?}: more was given back");
        assert_eq!(named(shop, ROLE, from, "lost"), BTreeSet::new(), "{ends:?}");
        let fresh = crowd.touch();
        crowd.reminded(fresh);
    }
    crowd.settle();
    // Nobody who was calling died: all is known.
    assert_eq!(crowd.judge(), Vec::<String>::new());
}
