//! What an event makes the machines ask of the log and of the store: counts without noise, the same on every machine.

use std::collections::BTreeMap;

use bytes::Bytes;
use waypost_runtime::{
    Command, Config, Input, Machine,
    machine::Produced,
    ports::{Commit, Meta},
};
use waypost_types::{Role, Timestamp};

use crate::{
    drive::{WORKSPACE, Watch, drive, lock},
    shop::Shop,
    stages::Settings,
    traffic::Traffic,
};

/// What one role has asked for, and what it took meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// By the gauge that the caller gave.
    pub gauge: u64,
    /// Records of Kafka's that were appended.
    pub appends: u64,
    /// Their keys, headers and values.
    pub append_bytes: u64,
    /// Commits.
    pub commits: u64,
    /// Entities in them.
    pub commit_entities: u64,
    /// Bytes they carry, see [`commit_bytes`].
    pub commit_bytes: u64,
    /// Reads of the store.
    pub reads: u64,
}

/// Something that only rises, such as the allocations of this process.
pub type Gauge = fn() -> u64;

/// Counts.
#[derive(Debug)]
struct Counter {
    gauge: Gauge,
    roles: BTreeMap<Role, Cost>,
}

/// Folds a run-in and then the counted events through all roles; what the latter cost, by role. The gauge is read around every
/// input of a machine.
///
/// # Errors
/// If the shop cannot be set up, or a partition halts.
pub fn count(settings: &Settings, traffic: Traffic, gauge: Gauge) -> anyhow::Result<BTreeMap<Role, Cost>> {
    count_in(&Shop::new(WORKSPACE, settings.journeys, settings.segments)?, settings, traffic, gauge)
}

/// The same with what this shop has in force.
///
/// # Errors
/// If a partition halts.
pub fn count_in(shop: &Shop, settings: &Settings, traffic: Traffic, gauge: Gauge) -> anyhow::Result<BTreeMap<Role, Cost>> {
    let watch = drive(settings, traffic, shop, &Config::default(), Counter { gauge, roles: BTreeMap::new() })?;
    let roles = lock(&watch).roles.clone();
    Ok(roles)
}

/// What a commit carries: ids and values of entities, wake-ups, sequences and meta, without the words of a store's commands
/// around them. A number counts as eight bytes.
pub fn commit_bytes(commit: &Commit) -> usize {
    const NUMBER: usize = 8;
    let Commit { token, expected: _, next: _, meta, entities, timers, sequences } = commit;
    let Meta { ochain: _, clk: _, wm: _, digest, eng: _, defv, leader: _, lastrec } = meta;
    let entities: usize = entities.iter().map(|(id, value)| id.as_bytes().len() + value.as_ref().map_or(0, Bytes::len)).sum();
    let timers: usize = timers.iter().map(|(id, due)| id.as_bytes().len() + due.map_or(0, |_| NUMBER)).sum();
    let sequences: usize = sequences.iter().map(|(field, value)| field.len() + value.len()).sum();
    // both offsets, and five numbers of the meta
    let fixed = token.0.len() + 7 * NUMBER;
    fixed + digest.len() + defv.len() + lastrec.len() + entities + timers + sequences
}

fn append_bytes(produced: &Produced) -> usize {
    match produced {
        Produced::Frame(frame) => frame.len(),
        Produced::Public { key, headers, version: _, body } => {
            key.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() + body.len()
        }
        // rare, and the traffic has none
        Produced::Dead { .. } => 0,
    }
}

// === impl Cost ===

impl Cost {
    /// Counts what a machine wants done.
    pub(crate) fn add(&mut self, commands: &[Command]) {
        for command in commands {
            match command {
                Command::Produce(_, _, produced) => {
                    self.appends += 1;
                    self.append_bytes += append_bytes(produced) as u64;
                }
                Command::Commit(_, commit) => {
                    self.commits += 1;
                    self.commit_entities += commit.entities.len() as u64;
                    self.commit_bytes += commit_bytes(commit) as u64;
                }
                Command::Read(..) => self.reads += 1,
                Command::Claim(..)
                | Command::Release(..)
                | Command::Audit(..)
                | Command::Deaths(..)
                | Command::NoteDeaths(..)
                | Command::Seek(..)
                | Command::NewProducer(_)
                | Command::Job(..)
                | Command::Watermarks(_)
                | Command::Answer(..)
                | Command::Gone(_)
                | Command::Halted(..)
                | Command::Rejoin(_)
                | Command::Alarm(..)
                | Command::Exit(_) => {}
            }
        }
    }
}

// === impl Counter ===

impl Watch for Counter {
    fn begin(&mut self) {
        self.roles.clear();
    }

    fn handle(&mut self, machine: &mut dyn Machine, now: Timestamp, input: Input, commands: &mut Vec<Command>) {
        let (role, before) = (machine.role(), commands.len());
        let began = (self.gauge)();
        machine.handle(now, input, commands);
        let ended = (self.gauge)();
        let cost = self.roles.entry(role).or_default();
        cost.gauge += ended - began;
        cost.add(&commands[before..]);
    }
}
