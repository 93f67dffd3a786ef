//! From what a machine produces to what a log appends: the same for every driver.

use bytes::Bytes;

use crate::{
    machine::{Destination, Produced},
    ports::Append,
};

/// The Kafka record of an output. `prefix` stands before every topic; `framed` puts the registry's schema
/// id before the body of a public record (topic without prefix, version, body).
pub fn to_append(prefix: &str, destination: &Destination, produced: Produced, framed: impl FnOnce(&str, u32, &Bytes) -> Bytes) -> Append {
    let (topic, partition) = match destination {
        Destination::Inbox(id) => (id.role.inbox().unwrap_or_default(), id.index),
        Destination::Public { topic, partition } => (*topic, *partition),
        Destination::Dead(partition) => ("wp1.dead", *partition),
    };
    let text = |name: &str, value: &str| (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
    let (key, headers, payload) = match produced {
        Produced::Frame(payload) => (None, Vec::new(), payload),
        Produced::Public { key, headers, version, body } => {
            let headers = headers.iter().map(|(name, value)| text(name, value)).collect();
            (Some(key), headers, framed(topic, version, &body))
        }
        Produced::Dead { letter, origin } => {
            let workspace = letter.workspace.to_string();
            let facts = [
                ("reason", &letter.reason),
                ("door", &letter.door),
                ("detail", &letter.detail),
                ("workspace", &workspace),
                ("origin", &origin),
            ];
            (None, facts.iter().map(|(name, value)| text(name, value)).collect(), letter.bytes)
        }
    };
    Append { topic: format!("{prefix}{topic}"), partition, key, headers, payload }
}

#[cfg(test)]
mod tests {
    use waypost_types::{PartitionId, Role};

    use super::*;

    #[test]
    fn topics_carry_the_prefix_and_public_bodies_their_schema() {
        let inbox = Destination::Inbox(PartitionId { role: Role::Segmenter, index: 3 });
        let frame = to_append("t1.", &inbox, Produced::Frame(Bytes::from_static(b"f")), |_, _, _| Bytes::new());
        assert_eq!((frame.topic.as_str(), frame.partition, frame.key), ("t1.wp1.segment", 3, None));

        let public = Destination::Public { topic: "waypost.decisions.v1", partition: 0 };
        let row = Produced::Public { key: Bytes::new(), headers: Vec::new(), version: 1, body: Bytes::from_static(b"row") };
        let append = to_append("", &public, row, |topic, version, body| {
            assert_eq!((topic, version), ("waypost.decisions.v1", 1));
            [b"\0", &body[..]].concat().into()
        });
        assert_eq!(append.payload, Bytes::from_static(b"\0row"));
    }
}
