//! The dead letters between two places, oldest first, a few at a time: however many there are, only these are in memory.

use waypost_runtime::ports::{LogError, Offset, Tail};

use crate::letters::{Letter, Letters};

/// Bytes of letters that are in memory at once, roughly.
const BYTES_MAX: usize = 8 << 20;

/// Where it is; each partition is read in order.
pub(super) struct Walk {
    parts: Vec<Part>,
}

struct Part {
    tail: Option<Box<dyn Tail>>,
    /// Of the letter at the head, or else the first that was not looked at.
    next: Offset,
    until: Offset,
    head: Option<Letter>,
}

// === impl Walk ===

impl Walk {
    /// From `next` to `until`, by partition.
    pub(super) async fn open(letters: &Letters, next: &[Offset], until: &[Offset]) -> Result<Self, LogError> {
        let mut parts = Vec::new();
        for ((partition, next), until) in (0..).zip(next).zip(until) {
            // What was there and has fallen to retention meanwhile is passed over.
            let next = letters.bounds(partition).await?.0.max(*next);
            let tail = if next < *until { Some(letters.tail(partition, next).await?) } else { None };
            parts.push(Part { tail, next, until: *until, head: None });
        }
        Ok(Self { parts })
    }

    /// The next letters that are wanted, so many at most; none at the end.
    pub(super) async fn some(&mut self, count: usize, wanted: impl Fn(&Letter) -> bool) -> Result<Vec<Letter>, LogError> {
        let (mut some, mut bytes) = (Vec::new(), 0);
        while some.len() < count && bytes < BYTES_MAX {
            for part in &mut self.parts {
                part.fill(&wanted).await?;
            }
            let oldest = self.parts.iter_mut().filter(|part| part.head.is_some());
            let oldest = oldest.min_by_key(|part| part.head.as_ref().map(|letter| (letter.at, letter.id)));
            let Some(letter) = oldest.and_then(Part::take) else { break };
            bytes += letter.bytes.len();
            some.push(letter);
        }
        Ok(some)
    }

    /// From where on nothing was taken yet, by partition.
    pub(super) fn next(&self) -> Vec<Offset> {
        self.parts.iter().map(|part| part.next).collect()
    }
}

// === impl Part ===

impl Part {
    async fn fill(&mut self, wanted: &impl Fn(&Letter) -> bool) -> Result<(), LogError> {
        while self.head.is_none()
            && let Some(tail) = &mut self.tail
        {
            if let Some(delivery) = tail.next().await?.filter(|delivery| delivery.offset < self.until) {
                self.next = delivery.offset;
                let letter = Letter::of(delivery);
                if wanted(&letter) {
                    self.head = Some(letter);
                } else {
                    self.next += 1;
                }
            } else {
                // The end that was meant is no later than the present one.
                self.next = self.next.max(self.until);
                self.tail = None;
            }
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Letter> {
        let letter = self.head.take()?;
        self.next = letter.id.offset + 1;
        Some(letter)
    }
}
