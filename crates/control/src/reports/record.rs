//! What stands in `wp1.reports`: JSON, one record a figure of an hour or a progress. A key of a later kind is passed over.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::measure::{Public, Series};
use crate::tail::once::Once;

/// Up to where a partition is counted: the first offset that is not. A topic that was deleted and made anew begins its offsets again;
/// it is a further epoch, and everything in it comes later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Through {
    pub(crate) epoch: u32,
    pub(crate) offset: u64,
}

/// Whose record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Key {
    /// Figures of an hour. The life that wrote it is part of the key, so that no other life's write can take its place.
    Hour {
        topic: String,
        partition: u32,
        life: String,
        workspace: u32,
        journey: String,
        version: u32,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        step: String,
        hour: u32,
    },
    /// From where to count on.
    Progress { topic: String, partition: u32 },
}

#[derive(Debug, Serialize, Deserialize)]
struct HourValue {
    through: Through,
    figures: BTreeMap<String, i64>,
}

/// Where the counting of a partition stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) through: Through,
    /// Hour of the last row, by the broker's stamp.
    pub(crate) newest: u32,
    /// Rows that had gone before they were counted.
    #[serde(default)]
    pub(crate) missed: u64,
    pub(crate) once: Once,
}

/// Figures of one hour, all since the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hour {
    pub(crate) series: Series,
    /// Since 1970.
    pub(crate) number: u32,
    pub(crate) through: Through,
    pub(crate) figures: BTreeMap<String, i64>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Hour(Hour),
    Progress(Progress),
}

/// A partition of a counted topic.
pub(crate) type Place = (Public, u32);

/// Key and value.
pub(crate) type Pair = (Bytes, Bytes);

/// Figures of an hour, as this life writes them.
pub(crate) fn hour((public, partition): Place, life: u64, hour: Hour) -> Pair {
    let Hour { series: Series { workspace, journey, version, step }, number: hour, through, figures } = hour;
    let (topic, life) = (public.topic().to_owned(), format!("{life:016x}"));
    pair(&Key::Hour { topic, partition, life, workspace, journey, version, step, hour }, &HourValue { through, figures })
}

pub(crate) fn progress((public, partition): Place, progress: &Progress) -> Pair {
    pair(&Key::Progress { topic: public.topic().to_owned(), partition }, progress)
}

/// Numbers and texts under fixed names can always be written.
fn pair(key: &impl Serialize, value: &impl Serialize) -> Pair {
    (serde_json::to_vec(key).unwrap_or_default().into(), serde_json::to_vec(value).unwrap_or_default().into())
}

/// A record; none where it is nothing that this release counts.
pub(crate) fn read(key: &[u8], value: &[u8]) -> Option<(Place, Said)> {
    match serde_json::from_slice(key).ok()? {
        Key::Hour { topic, partition, workspace, journey, version, step, hour, .. } => {
            let HourValue { through, figures } = serde_json::from_slice(value).ok()?;
            let series = Series { workspace, journey, version, step };
            Some(((Public::parse(&topic)?, partition), Said::Hour(Hour { series, number: hour, through, figures })))
        }
        Key::Progress { topic, partition } => {
            Some(((Public::parse(&topic)?, partition), Said::Progress(serde_json::from_slice(value).ok()?)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> Series {
        Series { workspace: 1, journey: "cart".to_owned(), version: 2, step: "first".to_owned() }
    }

    #[test]
    fn what_is_written_is_read() {
        let through = Through { epoch: 1, offset: 9 };
        let figures = Hour { series: series(), number: 5, through, figures: BTreeMap::from([("refused NO_CONSENT".to_owned(), 3)]) };
        let (key, value) = hour((Public::Messages, 7), 0xab, figures.clone());
        assert_eq!(
            std::str::from_utf8(&key),
            Ok(concat!(
                r#"{"kind":"hour","topic":"waypost.messages.v1","partition":7,"life":"00000000000000ab","#,
                r#""workspace":1,"journey":"cart","version":2,"step":"first","hour":5}"#
            ))
        );
        assert_eq!(read(&key, &value), Some(((Public::Messages, 7), Said::Hour(figures))));
        let mut once = Once::default();
        once.note("a", 3);
        let standing = Progress { through, newest: 5, missed: 0, once };
        let (key, value) = progress((Public::Decisions, 0), &standing);
        assert_eq!(read(&key, &value), Some(((Public::Decisions, 0), Said::Progress(standing))));
        for (key, value) in [(&b"{\"kind\":\"later\"}"[..], &b"{}"[..]), (b"", b""), (&key, b"")] {
            assert_eq!(read(key, value), None);
        }
    }
}
