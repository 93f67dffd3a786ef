//! An installation: what `waypost init` creates and everything else only reads.
//!
//! Topics, the install record on `wp1.control`, and the empty state of every partition come from
//! [`init`] and from nothing else: an empty store is a loss, not a new installation (PROTOCOL §13.2).

mod doctor;
mod record;
mod state;
mod topics;

pub use doctor::{NOT_ASKED, doctor};
pub use record::{InstallRecord, load_install};
pub use state::{headroom, judge_state};
pub use topics::{CONTROL, DEAD, DEFINITIONS, InitSettings, OPERATIONS, PUBLIC, REPORTS, topics};

use waypost_types::{PartitionId, Role};

use crate::{
    ports::{Append, Entropy, InitReply, Log, LogError, Offset, Store, StoreError},
    upkeep::Upkeep,
};

/// Why an installation cannot be created or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// The log fails.
    #[error("the log fails: {0}")]
    Log(#[from] LogError),
    /// The store fails.
    #[error("the store fails: {0}")]
    Store(#[from] StoreError),
    /// The install record was not appended.
    #[error("the install record was not appended: {0}")]
    Append(String),
    /// `init` has not run.
    #[error("there is no installation under prefix `{0}`: run `waypost init`")]
    Absent(String),
    /// The settings contradict what is there.
    #[error("{what} is {found} here and {wanted} in the settings; it is fixed for the life of an installation")]
    Differs {
        /// Which setting.
        what: &'static str,
        /// What the installation has.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// Inboxes hold records, but nothing says of which installation.
    #[error("{0} holds records but there is no install record: this is an installation that lost its control topic, not a new one")]
    Remains(String),
    /// A setting cannot be.
    #[error("{0}")]
    Setting(String),
}

/// What [`init`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initialised {
    /// The installation.
    pub record: InstallRecord,
    /// Topics that were created.
    pub topics: Vec<String>,
    /// Partitions whose state was created.
    pub partitions: u32,
    /// Whether the install record is new.
    pub new: bool,
}

/// Creates what is absent, and leaves alone what is there. May be run again, also by several at once:
/// the first install record in the log holds.
///
/// # Errors
/// [`InstallError`]; what was created until then stays, and a second run goes on from there.
pub async fn init(
    log: &dyn Log,
    store: &dyn Store,
    entropy: &mut dyn Entropy,
    settings: &InitSettings,
) -> Result<Initialised, InstallError> {
    settings.check()?;
    let created = log.create(&topics(settings)).await?;
    let (record, new) = match load_install(log, &settings.prefix).await {
        Ok(record) => (record, false),
        Err(InstallError::Absent(_)) => {
            refuse_remains(log, settings).await?;
            let draw = InstallRecord::draw(entropy, settings);
            append(log, &settings.prefix, &draw).await?;
            // somebody else's may stand before it
            let record = load_install(log, &settings.prefix).await?;
            let new = record == draw;
            (record, new)
        }
        Err(error) => return Err(error),
    };
    if record.partitions != settings.partitions {
        let (found, wanted) = (record.partitions.to_string(), settings.partitions.to_string());
        return Err(InstallError::Differs { what: "the number of inbox partitions", found, wanted });
    }
    let mut partitions = 0;
    for role in Role::KEYED {
        for index in 0..record.partitions {
            if store.init(PartitionId { role, index }, &record.install()).await? == InitReply::Created {
                partitions += 1;
            }
        }
    }
    Ok(Initialised { record, topics: created, partitions, new })
}

/// Partitions of an installation that is there whose inbox holds records while the store has nothing of them, each with where its
/// log begins. That is a loss: state that is made anew folds whatever the log still has, and forgets the rest in silence.
///
/// # Errors
/// When log or store cannot be asked.
pub async fn lost_state(log: &dyn Log, store: &dyn Upkeep, prefix: &str) -> Result<Vec<(PartitionId, Offset)>, InstallError> {
    let record = match load_install(log, prefix).await {
        Ok(record) => record,
        Err(InstallError::Absent(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut lost = Vec::new();
    for role in Role::KEYED {
        let inbox = format!("{prefix}{}", role.inbox().unwrap_or_default());
        for index in 0..record.partitions {
            let partition = PartitionId { role, index };
            if store.head(partition).await?.is_none() {
                let (start, end) = log.watermarks(&inbox, index).await?;
                if end > 0 {
                    lost.push((partition, start));
                }
            }
        }
    }
    Ok(lost)
}

async fn refuse_remains(log: &dyn Log, settings: &InitSettings) -> Result<(), InstallError> {
    for inbox in Role::KEYED.into_iter().filter_map(Role::inbox) {
        let topic = format!("{}{inbox}", settings.prefix);
        for partition in 0..settings.partitions {
            if log.watermarks(&topic, partition).await?.1 > 0 {
                return Err(InstallError::Remains(topic));
            }
        }
    }
    Ok(())
}

async fn append(log: &dyn Log, prefix: &str, record: &InstallRecord) -> Result<(), InstallError> {
    let topic = format!("{prefix}{CONTROL}");
    let append = Append { topic, partition: 0, key: None, headers: Vec::new(), payload: record.to_bytes() };
    log.producer()?.append(append).await.map(|_| ()).map_err(|e| InstallError::Append(e.to_string()))
}
