//! The nearest known name to an unknown one.

/// The candidate with the fewest edits, if they are few for a name of this length.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let allowed = (name.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= allowed)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

// Insertions, deletions, replacements, and swaps of neighbours; letter case costs nothing.
fn edits(a: &str, b: &str) -> usize {
    let lower = |text: &str| text.chars().take(64).flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (a, b) = (lower(a), lower(b));
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut count = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                count = count.min(before[j - 2] + 1);
            }
            row.push(count);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let names = ["order_count", "last_order_at", "first_order_at", "ltv"];
        for (name, expected) in [
            ("order_cuont", Some("order_count")),
            ("last_order", Some("last_order_at")),
            ("LTV", Some("ltv")),
            ("shoe_size", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, names).as_deref(), expected, "{name}");
        }
    }
}
