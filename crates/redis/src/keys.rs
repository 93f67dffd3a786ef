//! Names of keys. `{<prefix>wp1:<role>:<g><suffix>}:<p>:` is the stem of one partition, `g = p div 4`.

use waypost_types::PartitionId;

/// Partitions that share a hash tag, hence a Cluster slot.
const GROUP: u32 = 4;

/// The names of one installation's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
    suffixes: Vec<String>,
}

// === impl Keys ===

impl Keys {
    /// Keys under `prefix`; `suffixes[g]` is the text that `init` searched so that the slots of the
    /// groups spread evenly over the shards of a Cluster; empty (or absent) on one server.
    pub fn new(prefix: impl Into<String>, suffixes: &[String]) -> Self {
        Self { prefix: prefix.into(), suffixes: suffixes.to_vec() }
    }

    fn stem(&self, partition: PartitionId) -> String {
        let group = partition.index / GROUP;
        let suffix = self.suffixes.get(group as usize).map_or("", String::as_str);
        format!("{{{}wp1:{}:{group}{suffix}}}:{}", self.prefix, partition.role, partition.index)
    }

    /// The meta hash.
    pub fn meta(&self, partition: PartitionId) -> String {
        format!("{}:m", self.stem(partition))
    }

    /// The timer set.
    pub fn timers(&self, partition: PartitionId) -> String {
        format!("{}:t", self.stem(partition))
    }

    /// The sequence hash.
    pub fn sequences(&self, partition: PartitionId) -> String {
        format!("{}:c", self.stem(partition))
    }

    /// One state bucket, 0 to 15.
    pub fn bucket(&self, partition: PartitionId, bucket: u8) -> String {
        format!("{}:s:{:x}", self.stem(partition), bucket & 15)
    }

    /// The crash counter, no part of the state.
    pub fn deaths(&self, partition: PartitionId) -> String {
        format!("{}:x", self.stem(partition))
    }

    /// Meta, timers, sequences and the sixteen buckets, in the order the scripts take them.
    pub fn all(&self, partition: PartitionId) -> Vec<String> {
        let mut keys = vec![self.meta(partition), self.timers(partition), self.sequences(partition)];
        keys.extend((0..16).map(|b| self.bucket(partition, b)));
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_types::Role;

    #[test]
    fn four_neighbours_share_a_hash_tag() {
        let keys = Keys::new("t1.", &[String::new(), "x7".into()]);
        let at = |index| PartitionId { role: Role::Segmenter, index };
        assert_eq!(keys.meta(at(3)), "{t1.wp1:segmenter:0}:3:m");
        assert_eq!(keys.meta(at(4)), "{t1.wp1:segmenter:1x7}:4:m");
        assert_eq!(keys.bucket(at(15), 10), "{t1.wp1:segmenter:3}:15:s:a");
        assert_eq!(keys.deaths(at(0)), "{t1.wp1:segmenter:0}:0:x");
        assert_eq!(keys.all(at(0)).len(), 19);
    }
}
