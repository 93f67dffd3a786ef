//! What an operator does with the installation itself, as commands of the shipped binary beside or between its
//! processes. One installation for all of it, in an order in which each part leaves it at work.

mod engines;
mod gaps;
mod refolds;
mod refusals;
mod skips;

use serde_json::{Value as Json, json};
use waypost_types::{PartitionId, Role};

use crate::{
    redis::Held,
    shop::{Shop, said},
    stack::alone,
};

/// Partitions of each role here.
const PARTITIONS: u32 = 4;

/// The installation, and what it holds.
struct Site<'a> {
    shop: &'a Shop,
    held: Held,
}

// === impl Site ===

impl Site<'_> {
    /// Runs a command of `waypost` that must succeed; what it said.
    fn tell(&self, arguments: &[&str]) -> String {
        self.ends(arguments, 0)
    }

    /// Runs one that must end with this code; what it said, to either side.
    fn ends(&self, arguments: &[&str], code: i32) -> String {
        let output = self.shop.run(arguments);
        assert_eq!(output.status.code(), Some(code), "waypost {arguments:?}: {}", said(&output));
        [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat()
    }

    /// Runs one that must be refused with these words.
    fn refused(&self, arguments: &[&str], words: &str) {
        let said = self.ends(arguments, 1);
        assert!(said.contains(words), "waypost {arguments:?}: no `{words}` in: {said}");
    }

    /// Partitions of a role.
    fn of(role: Role) -> impl Iterator<Item = PartitionId> {
        (0..PARTITIONS).map(move |index| PartitionId { role, index })
    }

    /// Offset behind everything in a partition's log.
    fn end(&self, partition: PartitionId) -> u64 {
        self.shop.topic(partition.role.inbox().unwrap()).end(partition.index)
    }

    /// Until a role has committed all that stands in its logs.
    fn idle(&self, role: Role) {
        self.shop.until(&format!("{role} to have nothing to do"), || {
            Self::of(role).all(|partition| self.held.off(partition) == self.end(partition)).then_some(())
        });
    }

    /// Starts a role and waits until it leads all its partitions and has nothing to do.
    fn start(&self, name: &'static str, role: Role) {
        let ends: Vec<u64> = Self::of(role).map(|partition| self.end(partition)).collect();
        self.shop.start(name);
        // whoever leads says so in the log
        self.shop.until(&format!("{role} to lead"), || Self::of(role).zip(&ends).all(|(p, end)| self.end(p) > *end).then_some(()));
        self.idle(role);
    }

    /// Somebody unknown fills a cart, from a browser of its own.
    fn stranger(&self, number: u32) -> String {
        let cart = format!("k-stranger-{number}");
        self.shop.touch(&json!({"anonymousId": format!("cookie-{number}")}), &cart);
        cart
    }

    /// Carts of these that have come to the journey.
    fn entered(&self, carts: &[String]) -> usize {
        let rows = self.shop.decisions.rows(&self.shop.registry);
        let entered = |cart: &&String| rows.iter().any(|row| row["what"] == "ENTERED" && row["key"] == cart.as_str());
        carts.iter().filter(entered).count()
    }

    /// Lines of the audit topic about something.
    fn audit(&self, subject: &str) -> Vec<Json> {
        self.shop.audit().into_iter().filter(|line| line["subject"] == subject).collect()
    }
}

#[test]
fn each_command_of_an_operator_does_what_it_says_and_refuses_what_it_should() {
    let alone = alone("operator");
    let site = Site { held: Held::under(alone.shop.prefix()), shop: &alone.shop };
    refusals::what_would_lose_state_is_named_and_stops_a_start(&site);
    skips::a_record_that_kills_is_set_aside_by_two_people(&site);
    skips::what_is_folded_already_is_not_skipped(&site);
    engines::a_later_engine_comes_into_force_where_every_process_has_it(&site);
    refolds::a_stopped_installation_folds_to_the_same_bytes(&site);
    gaps::records_that_a_log_lost_are_put_back_from_the_source(&site);
}
