//! `waypost repair`, as PROTOCOL §7.3 has it: the source is folded again, and what the log has lost of a partition
//! channel is appended from the gap on.

use waypost_codec::frame::{Frame, Section, Source};
use waypost_runtime::ports::Append;

use super::World;
use crate::{
    naive::{Folded, Out},
    oracle::fold_all,
};

// === impl World ===

impl World {
    /// Whether anything was missing; then it is in the log now.
    pub(super) fn repair(&mut self) -> Result<bool, String> {
        let folded = fold_all(self)?;
        let mut missing = Vec::new();
        for (source, meaning) in &folded {
            for (to, receiver) in &folded {
                let (sent, taken) = (format!("x:{}:{}", to.role, to.index), format!("i:{}:{}", source.role, source.index));
                let last = receiver.sequences.get(&taken).map_or(0, |tip| sequence(*tip));
                missing.extend(
                    tail(meaning, &sent, last, |first, chain| Source { role: source.role, partition: source.index, first, chain })
                        .map(|section| (*to, section)),
                );
            }
        }
        let found = !missing.is_empty();
        for (to, section) in missing {
            self.story.tell(self.clock.now(), || format!("repair: {} records to {to}", section.records.len()));
            let topic = to.role.inbox().unwrap_or_default().to_owned();
            let payload = Frame { sections: vec![section] }.encode();
            self.put("repair", Append { topic, partition: to.index, key: None, headers: Vec::new(), payload });
        }
        Ok(found)
    }
}

/// Stored as sequence and chain, 8 bytes each.
fn sequence(tip: [u8; 16]) -> u64 {
    u64::try_from(u128::from_be_bytes(tip) >> 64).unwrap_or(0)
}

/// What a source has put out behind the last number that was taken.
fn tail(meaning: &Folded, field: &str, last: u64, source: impl Fn(u64, u64) -> Source) -> Option<Section> {
    let put_out = meaning.put_out.get(field)?;
    let chain = meaning.chains.get(field)?.last()?;
    let records: Vec<_> = put_out
        .iter()
        .skip(usize::try_from(last).ok()?)
        .filter_map(|out| match out {
            Out::Record(record) => Some(record.clone()),
            Out::Public(..) | Out::Dead(..) => None,
        })
        .collect();
    (!records.is_empty()).then(|| Section { source: Some(source(last + 1, *chain)), records })
}
