//! `wp1.send`: when each person's send could first be read back, and whether each is there once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use prost::Message as _;
use waypost_bench::reminders::Reminders;
use waypost_codec::{
    frame::{Frame, Record},
    kind,
};
use waypost_types::Role;

use crate::{
    oracle::{Taken, each_record},
    pipeline::Pipeline,
    say,
    tail::Tail,
};

/// Nobody has been sent anything for so long: what is missing will not come.
const PATIENCE: Duration = Duration::from_mins(1);

/// A dispatch, as far as it is of interest.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Sent {
    #[prost(bytes = "bytes", tag = "2")]
    send: Bytes,
    #[prost(string, tag = "11")]
    address: String,
}

/// When whose send was first there, by number.
#[derive(Debug)]
struct Arrivals {
    at: Vec<Option<Instant>>,
    count: usize,
}

/// Notes arrivals.
pub(crate) struct Watch {
    arrivals: Arc<Mutex<Arrivals>>,
    tail: Tail,
}

/// What lies in `wp1.send` when all is over.
#[derive(Debug, Default)]
pub(crate) struct Count {
    /// How often each send is there.
    sends: BTreeMap<Bytes, u32>,
    /// How many sends each person has.
    people: Vec<u32>,
}

// === impl Watch ===

impl Watch {
    /// From now on, for so many people.
    pub(crate) fn follow(pipeline: &Pipeline, reminders: &Reminders, people: usize) -> anyhow::Result<Self> {
        let arrivals = Arc::new(Mutex::new(Arrivals { at: vec![None; people], count: 0 }));
        let (noted, reminders) = (Arc::clone(&arrivals), reminders.clone());
        let tail = Tail::follow(pipeline, topic()?, move |now, payload| {
            let Ok(frame) = Frame::decode(payload) else { return };
            let sent = frame.sections.iter().flat_map(|section| &section.records).filter_map(sent);
            let numbers: Vec<usize> = sent.filter_map(|sent| reminders.number(&sent.address)).collect();
            lock(&noted).note(now, &numbers);
        })?;
        Ok(Self { arrivals, tail })
    }

    /// Waits for every person's; when each was there.
    pub(crate) fn all(self, pipeline: &mut Pipeline) -> anyhow::Result<Vec<Instant>> {
        let (mut known, mut moved) = (0, Instant::now());
        loop {
            let (count, people) = {
                let arrivals = lock(&self.arrivals);
                (arrivals.count, arrivals.at.len())
            };
            if count == people {
                break;
            }
            if count > known {
                (known, moved) = (count, Instant::now());
            }
            ensure!(
                moved.elapsed() < PATIENCE,
                "{count} of {people} sends came, and no more for {} s; so there is no figure",
                PATIENCE.as_secs()
            );
            pipeline.check_alive()?;
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(self.tail);
        lock(&self.arrivals).at.iter().map(|at| at.context("a send that was counted has no time")).collect()
    }
}

// === impl Arrivals ===

impl Arrivals {
    /// What is sent again counts when it came first.
    fn note(&mut self, now: Instant, numbers: &[usize]) {
        for number in numbers {
            if let Some(at @ None) = self.at.get_mut(*number) {
                *at = Some(now);
                self.count += 1;
            }
        }
    }
}

fn lock(arrivals: &Mutex<Arrivals>) -> MutexGuard<'_, Arrivals> {
    arrivals.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Count ===

impl Count {
    /// Reads all of it, as the sender takes it.
    pub(crate) fn of(pipeline: &Pipeline, reminders: &Reminders, people: usize) -> anyhow::Result<Self> {
        let mut count = Self { sends: BTreeMap::new(), people: vec![0; people] };
        let topic = format!("{}{}", pipeline.prefix, topic()?);
        for index in 0..pipeline.layout.partitions {
            let end = pipeline.runtime.block_on(pipeline.log.watermarks(&topic, index))?.1;
            let mut taken = Taken::default();
            each_record(&pipeline.servers.kafka, (&topic, index), end, |_, payload| {
                let frame = Frame::decode(payload)?;
                for sent in frame.sections.iter().flat_map(|section| taken.of(section)).filter_map(sent) {
                    count.add(sent.send, reminders.number(&sent.address));
                }
                Ok(())
            })?;
        }
        Ok(count)
    }

    fn add(&mut self, send: Bytes, number: Option<usize>) {
        *self.sends.entry(send).or_default() += 1;
        if let Some(sends) = number.and_then(|number| self.people.get_mut(number)) {
            *sends += 1;
        }
    }

    /// An error where a send was lost or doubled: such a run has no figure.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let doubled = self.sends.values().filter(|count| **count > 1).count();
        let lost = self.people.iter().filter(|sends| **sends == 0).count();
        let again = self.people.iter().filter(|sends| **sends > 1).count();
        ensure!(
            doubled == 0 && lost == 0 && again == 0,
            "of {} people {lost} have no send and {again} several, and {doubled} sends are there twice, so there is no figure",
            self.people.len()
        );
        say(&format!("each of {} people has one send; none of all {} sends is there twice", self.people.len(), self.sends.len()));
        Ok(())
    }
}

fn topic() -> anyhow::Result<&'static str> {
    Role::Sender.inbox().context("the sender has an inbox")
}

fn sent(record: &Record) -> Option<Sent> {
    (record.kind == kind::DISPATCH).then(|| Sent::decode(record.body.clone()).ok())?
}

#[cfg(test)]
mod tests {
    use waypost_codec::inbox::Dispatch;
    use waypost_types::{Timestamp, WorkspaceId};

    use super::*;

    #[test]
    fn an_arrival_counts_once_and_when_it_was_first_there() {
        let begin = Instant::now();
        let later = begin + Duration::from_secs(1);
        let mut arrivals = Arrivals { at: vec![None; 3], count: 0 };
        arrivals.note(begin, &[1, 7]);
        arrivals.note(later, &[1, 2]);
        assert_eq!((arrivals.at, arrivals.count), (vec![None, Some(begin), Some(later)], 2));
    }

    #[test]
    fn a_lost_or_doubled_send_is_a_run_without_a_figure() {
        let with = |sends: &[(&'static str, Option<usize>)]| {
            let mut count = Count { sends: BTreeMap::new(), people: vec![0; 2] };
            for (send, number) in sends {
                count.add(Bytes::from_static(send.as_bytes()), *number);
            }
            count.check().map_err(|error| error.to_string())
        };
        assert_eq!(with(&[("a", Some(0)), ("b", Some(1)), ("c", None)]), Ok(()));
        assert!(with(&[("a", Some(0))]).unwrap_err().contains("1 have no send and 0 several, and 0 sends are there twice"));
        assert!(with(&[("a", Some(0)), ("b", Some(1)), ("c", Some(1))]).unwrap_err().contains("0 have no send and 1 several"));
        assert!(with(&[("a", Some(0)), ("b", Some(1)), ("c", None), ("c", None)]).unwrap_err().contains("1 sends are there twice"));
    }

    #[test]
    fn of_a_dispatch_the_send_and_the_address_are_read() {
        let dispatch =
            Dispatch { send: Bytes::from_static(b"id"), address: "a@b".to_owned(), run_key: "k".to_owned(), ..Dispatch::default() };
        let record = |kind| {
            let body: Bytes = dispatch.encode_to_vec().into();
            Record::new(kind, WorkspaceId::new(1), [0; 16], Bytes::new(), Timestamp::ZERO, body)
        };
        assert_eq!(sent(&record(kind::DISPATCH)), Some(Sent { send: Bytes::from_static(b"id"), address: "a@b".to_owned() }));
        assert_eq!(sent(&record(kind::RECALL)), None);
    }
}
