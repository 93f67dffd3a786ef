//! Figures of one hour in few bytes: most hours are over and only asked for, and two years have many.

/// Pairs of a word's number and its amount, as varints in the order of the words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packed(Box<[u8]>);

// === impl Packed ===

impl Packed {
    pub(super) fn of(mut figures: Vec<(u32, i64)>) -> Self {
        figures.sort_unstable();
        let mut bytes = Vec::with_capacity(figures.len() * 4);
        for (word, amount) in figures {
            write(&mut bytes, u64::from(word));
            write(&mut bytes, ((amount << 1) ^ (amount >> 63)).cast_unsigned());
        }
        Self(bytes.into())
    }

    pub(super) fn add(&mut self, word: u32, amount: i64) {
        let mut figures: Vec<_> = self.iter().collect();
        match figures.iter_mut().find(|(known, _)| *known == word) {
            Some((_, sum)) => *sum = sum.saturating_add(amount),
            None => figures.push((word, amount)),
        }
        *self = Self::of(figures);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let word = u32::try_from(read(&mut rest)?).ok()?;
            let zigzag = read(&mut rest)?;
            Some((word, (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()))
        })
    }
}

fn write(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    into.push((number & 0x7f) as u8);
}

fn read(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_back_and_add_up() {
        let mut packed = Packed::default();
        for (word, amount) in [(3, 1), (0, i64::MAX), (300, -5), (3, 1), (0, 1), (70_000, i64::MIN)] {
            packed.add(word, amount);
        }
        assert_eq!(packed.iter().collect::<Vec<_>>(), [(0, i64::MAX), (3, 2), (300, -5), (70_000, i64::MIN)]);
    }
}
