//! How many identifiers one person may have (PRODUCT §5.2, PROTOCOL §12.2): a shared cookie must not
//! become a person.

use waypost_types::IdentifierClass;

/// Identifiers of one person, all classes together.
pub(super) const TOTAL: usize = 200;

/// Identifiers of one person by class, strongest first. Custom ones are limited by name, which no
/// count here knows; they fall under the total.
const BY_CLASS: [u32; 6] = [1, 3, 3, 20, 100, 200];

/// The counts of a lone identifier.
pub(super) fn one(class: IdentifierClass) -> Vec<u32> {
    IdentifierClass::ALL.into_iter().map(|c| u32::from(c == class)).collect()
}

/// The counts of two components together.
pub(super) fn sum(a: &[u32], b: &[u32]) -> Vec<u32> {
    let of = |counts: &[u32], class: usize| counts.get(class).copied().unwrap_or(0);
    (0..BY_CLASS.len()).map(|class| of(a, class).saturating_add(of(b, class))).collect()
}

/// Whether two components together would have too many identifiers.
pub(super) fn over(a: &[u32], b: &[u32]) -> bool {
    let sum = sum(a, b);
    sum.iter().zip(BY_CLASS).any(|(count, limit)| *count > limit) || sum.iter().map(|c| *c as usize).sum::<usize>() > TOTAL
}
