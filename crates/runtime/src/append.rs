//! From what a machine produces to what a log appends: the same for every driver.

use bytes::Bytes;

use crate::{
    machine::{Destination, Produced},
    ports::Append,
    processor::DeadLetter,
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
            let (headers, payload) = dead(letter, origin);
            (None, headers, payload)
        }
    };
    Append { topic: [prefix, topic].concat(), partition, key, headers, payload }
}

/// Bytes of an original that are kept; below the producer's limit. One that is larger than the topic takes would
/// stop its partition for ever.
const LETTER_MAX: usize = 900_000;

/// A dead letter: the original bytes as value, what is known of them as headers. `origin` names the role, the
/// partition and the position it had; `source` the partition it came from, where it came from one; `cut` the
/// length of an original of which the end is missing.
pub(crate) fn dead(letter: DeadLetter, origin: String) -> (Vec<(String, Bytes)>, Bytes) {
    let DeadLetter { reason, door, detail, bytes, workspace, source } = letter;
    let facts = [("reason", reason), ("door", door), ("detail", detail), ("workspace", workspace.to_string()), ("origin", origin)];
    let cut = (bytes.len() > LETTER_MAX).then(|| ("cut", bytes.len().to_string()));
    let all = facts.into_iter().chain(source.map(|source| ("source", source.to_string()))).chain(cut);
    let headers = all.map(|(name, value)| (name.to_owned(), Bytes::from(value))).collect();
    (headers, bytes.slice(..bytes.len().min(LETTER_MAX)))
}

#[cfg(test)]
mod tests {
    use waypost_types::{PartitionId, Role, WorkspaceId};

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

    #[test]
    fn a_letter_says_where_it_came_from_and_what_is_missing() {
        let letter = |bytes: Vec<u8>, source| {
            let letter = DeadLetter {
                reason: "ENGINE_PANIC".into(),
                door: "segmenter".into(),
                detail: String::new(),
                bytes: bytes.into(),
                workspace: WorkspaceId::new(1),
                source,
            };
            let (headers, payload) = dead(letter, "segmenter/0/7.1.0".into());
            (headers.into_iter().skip(4).collect::<Vec<_>>(), payload.len())
        };
        let header = |name: &str, value: &'static str| (name.to_owned(), Bytes::from_static(value.as_bytes()));
        let origin = header("origin", "segmenter/0/7.1.0");
        assert_eq!(letter(vec![1; 3], None), (vec![origin.clone()], 3));
        let source = PartitionId { role: Role::Identity, index: 3 };
        assert_eq!(
            letter(vec![1; 900_001], Some(source)),
            (vec![origin, header("source", "identity/3"), header("cut", "900001")], LETTER_MAX)
        );
    }
}
