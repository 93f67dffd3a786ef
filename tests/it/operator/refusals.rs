//! `waypost doctor`: what would lose state is named with what to do about it, and no role starts before that is done.

use waypost_types::{PartitionId, Role};

use super::Site;

pub(super) fn what_would_lose_state_is_named_and_stops_a_start(site: &Site<'_>) {
    let content = |said: &str| said.lines().last().is_some_and(|line| line.starts_with("0 refused"));
    let said = site.tell(&["doctor"]);
    assert!(content(&said), "{said}");
    assert!(site.shop.stop("segmenter").success());
    let key = site.held.keys.meta(PartitionId { role: Role::Segmenter, index: 1 });
    site.held.ask(&["EXPIRE", &key, "86400"]);
    let finding = format!("redis keys with a time to live: found 1 of those looked at, wanted none; PERSIST {key}");
    let said = site.ends(&["doctor"], 1);
    assert!(said.contains(&format!("refused: {finding}")) && said.contains("\n1 refused"), "{said}");
    let (ended, said) = site.shop.start_in_vain("refused-segmenter", "segmenter");
    assert_eq!(ended.code(), Some(1), "{said}");
    assert!(said.contains(&finding) && said.contains("the start-up check refused"), "{said}");
    // as it was told
    site.held.ask(&["PERSIST", &key]);
    let said = site.tell(&["doctor"]);
    assert!(content(&said), "{said}");
    site.start("segmenter", Role::Segmenter);
}
