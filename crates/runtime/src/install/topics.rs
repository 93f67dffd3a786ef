//! The topics of an installation (PROTOCOL §3.2) and how each has to be.

use waypost_types::{Role, Span};

use super::InstallError;
use crate::{ports::TopicSpec, progress};

/// Install, layout, active sets, write keys.
pub const CONTROL: &str = "wp1.control";
/// Bodies of definitions.
pub const DEFINITIONS: &str = "wp1.definitions";
/// What journeys have done, counted by control.
pub const REPORTS: &str = "wp1.reports";
/// Dead letters.
pub const DEAD: &str = "wp1.dead";
/// What was begun that outlasts its call, and how far it is.
pub const OPERATIONS: &str = "wp1.operations";
/// Topics that installations of before do not have. Without one the pipeline goes on, and only what it is for is refused.
pub(super) const LATER: [&str; 2] = [OPERATIONS, REPORTS];
/// The public topics: what comes in, and what is told.
pub const PUBLIC: [&str; 4] = ["waypost.events.v1", "waypost.segment-changes.v1", "waypost.decisions.v1", "waypost.messages.v1"];

/// Bytes one record of an inbox may have, as the topic sees it: the producer's limit, twice over.
pub(super) const RECORD_BYTES: u64 = 2 << 20;

/// What `init` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitSettings {
    /// Before every topic, group and key name.
    pub prefix: String,
    /// V: partitions of each inbox.
    pub partitions: u32,
    /// Partitions of each public topic.
    pub public_partitions: u32,
    /// Replicas of every topic.
    pub replication: u32,
    /// Replicas that must have a record before it is acknowledged.
    pub min_isr: u32,
    /// How long inboxes keep their records (R).
    pub retention: Span,
}

// === impl InitSettings ===

impl InitSettings {
    /// The defaults for `partitions` and `replication`; one broker is enough for development.
    pub fn new(prefix: impl Into<String>, partitions: u32, replication: u32) -> Self {
        let min_isr = if replication >= 3 { 2 } else { 1 };
        Self { prefix: prefix.into(), partitions, public_partitions: 8, replication, min_isr, retention: Span::from_days(10) }
    }

    pub(super) fn check(&self) -> Result<(), InstallError> {
        let refuse = |text: String| Err(InstallError::Setting(text));
        let v = self.partitions;
        if v == 0 || v > 256 || !v.is_multiple_of(4) {
            return refuse(format!("{v} inbox partitions: it must be a multiple of 4 up to 256"));
        }
        if self.prefix.len() > 40 || !self.prefix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return refuse("the prefix may have letters, digits, `.`, `_` and `-`, at most 40".to_owned());
        }
        if self.replication == 0 || self.min_isr == 0 || self.min_isr > self.replication {
            return refuse(format!("{} replicas of which {} must acknowledge", self.replication, self.min_isr));
        }
        if self.retention < Span::from_days(1) || self.retention > Span::from_days(21) {
            return refuse(format!(
                "inboxes kept for {}: between 1 and 21 days, so that an erase completes within a month",
                self.retention
            ));
        }
        Ok(())
    }
}

/// Every topic, as it is created and as `doctor` wants it.
pub fn topics(settings: &InitSettings) -> Vec<TopicSpec> {
    let v = settings.partitions;
    let days = |n| Span::from_days(n).millis().to_string();
    let topic = |name: &str, partitions, own: &[(&str, String)]| {
        let mut all = vec![
            ("min.insync.replicas".to_owned(), settings.min_isr.to_string()),
            ("unclean.leader.election.enable".to_owned(), "false".to_owned()),
            ("message.timestamp.type".to_owned(), "LogAppendTime".to_owned()),
        ];
        all.extend(own.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        TopicSpec { name: format!("{}{name}", settings.prefix), partitions, replication: settings.replication, settings: all }
    };
    let delete = ("cleanup.policy", "delete".to_owned());
    let endless = ("retention.bytes", "-1".to_owned());
    let large = ("max.message.bytes", RECORD_BYTES.to_string());
    let kept = |ms: String| ("retention.ms", ms);
    let mut all = Vec::new();
    for inbox in Role::KEYED.into_iter().filter_map(Role::inbox) {
        let retention = kept(settings.retention.millis().to_string());
        all.push(topic(inbox, v, &[delete.clone(), retention, endless.clone(), large.clone()]));
    }
    all.push(topic(DEFINITIONS, 8, &[("cleanup.policy", "compact".to_owned()), large.clone()]));
    all.push(topic(CONTROL, 1, &[delete.clone(), kept("-1".to_owned()), endless.clone()]));
    all.push(topic("wp1.audit", 1, &[delete.clone(), kept(days(400))]));
    // Figures of 25 months, and a month to let them go; small segments are soon compacted.
    let soon = ("segment.bytes", (64 << 20).to_string());
    all.push(topic(REPORTS, 1, &[("cleanup.policy", "compact,delete".to_owned()), soon, kept(days(790))]));
    all.push(topic(OPERATIONS, 1, &[("cleanup.policy", "compact,delete".to_owned()), kept(days(30))]));
    all.push(topic(progress::TOPIC, 1, &[delete.clone(), kept(Span::from_hours(1).millis().to_string())]));
    all.push(topic(DEAD, 8, &[delete.clone(), kept(days(30)), large.clone()]));
    all.push(topic("wp1.parked", v, &[delete.clone(), kept(days(30)), large.clone()]));
    for name in PUBLIC {
        all.push(topic(name, settings.public_partitions, &[delete.clone(), kept(days(30)), large.clone()]));
    }
    all
}
