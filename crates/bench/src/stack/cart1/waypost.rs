//! Waypost with one journey: all of its roles, three hops and the sender.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use prost::Message as _;
use waypost_bench::{cart1::Act, traffic::frames};
use waypost_codec::{
    frame::{Frame, Record},
    inbox, kind, value,
};
use waypost_types::{PartitionId, Role, Value};

use super::{
    contender::{Contender, Parcel, Reader, Topic},
    follow::Found,
    rival::forget,
};
use crate::{
    backlog::{self, Folded},
    oracle::{Taken, judge},
    pipeline::Pipeline,
    sampler::{Sample, Sampler},
    servers::Servers,
    settings::Settings,
};

/// The pipeline, and where its messages pile up.
pub(crate) struct Waypost {
    pipeline: Pipeline,
    mail: PathBuf,
}

// === impl Waypost ===

impl Waypost {
    pub(crate) fn new(settings: &Settings, servers: &Servers, partitions: u32) -> anyhow::Result<Self> {
        let own = Settings { journeys: settings.cart.cart_journeys.clone(), ..settings.clone() };
        let pipeline = Pipeline::new(&own, servers, partitions)?;
        let mail = servers.folder.join("roles").join(&pipeline.prefix).join("mail");
        Ok(Self { pipeline, mail })
    }

    fn topic(&self, role: Role) -> Topic {
        let name = format!("{}{}", self.pipeline.prefix, role.inbox().unwrap_or_default());
        Topic { brokers: self.pipeline.servers.kafka.clone(), name, partitions: self.pipeline.layout.partitions }
    }
}

impl Contender for Waypost {
    fn inbox(&self) -> Topic {
        self.topic(Role::Identity)
    }

    fn outbox(&self) -> Topic {
        self.topic(Role::Sender)
    }

    fn reader(&self) -> Reader {
        let mut taken: Vec<Taken> = (0..self.pipeline.layout.partitions).map(|_| Taken::default()).collect();
        Box::new(move |partition, payload| {
            let taken = taken.get_mut(partition as usize).context("a partition of the senders")?;
            let frame = Frame::decode(payload)?;
            let records = frame.sections.iter().flat_map(|section| taken.of(section));
            records.filter(|record| record.kind == kind::DISPATCH).map(|record| found(&record.body)).collect()
        })
    }

    fn parcels(&mut self, acts: &[Act], most: usize) -> anyhow::Result<Vec<Parcel>> {
        let records: Vec<Record> = acts.iter().map(|act| act.record(self.pipeline.installation)).collect();
        self.pipeline.offered.add(&records)?;
        let frames = frames(records, self.pipeline.layout, most).into_iter();
        Ok(frames.map(|(partition, bytes, _)| Parcel { partition, key: None, bytes }).collect())
    }

    fn go(&mut self) -> anyhow::Result<()> {
        self.pipeline.start()
    }

    fn pause(&mut self) -> anyhow::Result<()> {
        self.pipeline.stop()
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        backlog::settle(&mut self.pipeline, "everything to be folded and committed")
    }

    fn check_alive(&mut self) -> anyhow::Result<()> {
        self.pipeline.check_alive()
    }

    fn look(&self) -> Sampler {
        Sampler::start(std::sync::Arc::clone(&self.pipeline.directory), self.pipeline.watched())
    }

    fn folded(&mut self, samples: &[Sample]) -> anyhow::Result<(Vec<u64>, Instant)> {
        let (verdict, stages) = judge(&self.pipeline)?;
        verdict.check()?;
        let committed = Folded::of(&stages, Role::Orchestrator, samples)?.committed;
        let stage = stages.iter().find(|stage| stage.role == Role::Orchestrator).context("a stage that was read")?;
        let at = |sample: &Sample| {
            let is_folded = |(partition, offset): (PartitionId, u64)| sample.next(partition) > offset;
            stage.frames.iter().filter(|(p, offset, _)| is_folded((*p, *offset))).map(|(_, _, count)| count).sum()
        };
        // as long as nobody says anything, nobody has done anything either
        let mut most = 0;
        let folded = samples.iter().map(at).map(|count: u64| {
            most = most.max(count);
            most
        });
        Ok((folded.collect(), samples[committed].at))
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        let Self { mut pipeline, mail, .. } = *self;
        let stopped = pipeline.stop();
        let (servers, prefix) = (pipeline.servers.clone(), pipeline.prefix.clone());
        drop(pipeline);
        forget(&servers.kafka, &prefix)?;
        if mail.exists() {
            std::fs::remove_dir_all(&mail)?;
        }
        stopped
    }
}

/// The send of a dispatch: to whom by its address, about what by its frozen variables.
fn found(body: &Bytes) -> anyhow::Result<Found> {
    let dispatch = inbox::Dispatch::decode(body.clone())?;
    let variables = dispatch.variables.as_ref().and_then(value::from_proto).context("a dispatch has variables")?;
    let cart = variables.at("data.cart").and_then(Value::as_text).and_then(Act::number_in).context("a dispatch names its cart")?;
    let cents = match variables.at("data.value") {
        Some(Value::Amount { minor, .. }) => *minor,
        other => return Err(anyhow!("a dispatch says what its cart is worth, and not {other:?}")),
    };
    let person = Act::number_in(&dispatch.address).context("a dispatch goes to somebody of the traffic")?;
    Ok(Found { id: dispatch.send.as_ref().try_into().context("the id of a send")?, person, cart, cents })
}
