//! Limits of the fold at identity, in some worlds so narrow that people run into them (PROTOCOL §12.2, §16.1).

use waypost_engine::identity::Limits;

use crate::chance::Chance;

/// The engine's, or narrower ones. Where people are forgotten ids are not: nobody could tell from the logs which of
/// two events of one id went with its person.
pub(super) fn limits(held: &mut Chance, others: &mut Chance, forgets: bool) -> Limits {
    let mut limits = Limits::default();
    if held.index(2) == 0 {
        limits.held_items = held.small(3);
    }
    match others.index(10) {
        0 => limits.identifiers = 1 + [1, 2, 3][others.index(3)],
        1 => limits.by_class = [1; 6],
        _ => {}
    }
    if !forgets && others.index(4) == 0 {
        limits.seen = 2;
    }
    limits
}
