//! People whose timers end at chosen instants: each comes in with one event, and the journey of `crates/bench/journeys` writes to
//! each of them an hour after the time that the event says.

use waypost_codec::{frame::Record, inbox};
use waypost_ingest::normalise::record;
use waypost_types::{IdentifierClass, Span, Timestamp};

use crate::traffic::Installation;

/// The delay of the journey, from its entry on.
pub const DELAY: Span = Span::from_hours(1);

/// Domain of their addresses.
const DOMAIN: &str = "@reminded.example";

/// People who ask to be reminded, by number.
#[derive(Clone, Debug)]
pub struct Reminders {
    installation: Installation,
    /// What their addresses begin with, which tells them from those of other runs.
    name: String,
}

// === impl Reminders ===

impl Reminders {
    /// People of a run of this name.
    pub fn new(installation: Installation, name: &str) -> Self {
        Self { installation, name: format!("{name}-") }
    }

    /// Where the person of a number is written to.
    pub fn address(&self, number: usize) -> String {
        format!("{}{number}{DOMAIN}", self.name)
    }

    /// Whose address it is; nobody's where it is not of this run.
    pub fn number(&self, address: &str) -> Option<usize> {
        address.strip_prefix(&self.name)?.strip_suffix(DOMAIN)?.parse().ok()
    }

    /// The event, received at `now`, by which the person's wait ends at `due`: at most an hour later.
    pub fn asked(&self, number: usize, due: Timestamp, now: Timestamp) -> Record {
        let address = self.address(number);
        let event = inbox::Event {
            message_id: format!("asked-{address}"),
            name: "Reminder Asked".to_owned(),
            identifiers: vec![self.installation.identifier(IdentifierClass::Email, address)],
            event_time: due.minus(DELAY).millis(),
            received_at: now.millis(),
            source: "web".to_owned(),
            may_grant: true,
            ..inbox::Event::default()
        };
        record(&event, self.installation.workspace, now)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use prost::Message as _;
    use waypost_codec::{frame::Frame, kind};
    use waypost_memory::{Embedded, Parts, VirtualClock};
    use waypost_runtime::Config;
    use waypost_types::{Layout, PartitionId, Role, WorkspaceId};

    use super::*;
    use crate::{drive::machine, shop::Shop};

    const WORKSPACE: WorkspaceId = WorkspaceId::new(1);
    const LAYOUT: Layout = Layout { number: 1, partitions: 2 };

    fn reminders(name: &str) -> Reminders {
        Reminders::new(Installation { hash_key: [7; 32], layout: LAYOUT, workspace: WORKSPACE }, name)
    }

    /// Addresses in `wp1.send`, sorted.
    fn sent(pipeline: &Embedded) -> Vec<String> {
        let frames = (0..LAYOUT.partitions).flat_map(|partition| pipeline.log().all("wp1.send", partition));
        let sections = frames.flat_map(|delivery| Frame::decode(delivery.payload).unwrap().sections);
        let records = sections.flat_map(|section| section.records).filter(|record| record.kind == kind::DISPATCH);
        let mut sent: Vec<String> = records.map(|record| inbox::Dispatch::decode(record.body).unwrap().address).collect();
        sent.sort();
        sent
    }

    #[test]
    fn each_is_written_to_when_the_load_says() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let shop = Shop::from_folders(WORKSPACE, &[&here.join("../../journeys"), &here.join("journeys")]).unwrap();
        let start = Timestamp::from_millis(1_750_000_000_000);
        let machines = Role::KEYED.into_iter().map(|role| machine(role, &Config::embedded(), LAYOUT, &shop)).collect();
        let mut pipeline = Embedded::new(Parts::new(VirtualClock::new(start), LAYOUT, machines));
        for role in [Role::Identity, Role::Segmenter, Role::Sender] {
            for index in 0..LAYOUT.partitions {
                pipeline.append_to(PartitionId { role, index }, vec![shop.activation(start)]).unwrap();
            }
        }
        let reminders = reminders("test");
        let after = |millis| start.plus(Span::from_millis(millis));
        for (number, millis) in [(0, 60_001), (1, 90_000)] {
            pipeline.append(Role::Identity, reminders.asked(number, after(millis), start)).unwrap();
        }
        let mut until = |millis| {
            pipeline.advance_to(after(millis));
            sent(&pipeline)
        };
        assert_eq!(until(60_000), Vec::<String>::new());
        assert_eq!(until(75_000), [reminders.address(0)]);
        assert_eq!(until(3_600_000), [reminders.address(0), reminders.address(1)]);
    }

    #[test]
    fn an_address_is_a_number_in_its_own_run_only() {
        let (one, other) = (reminders("a"), reminders("b"));
        assert_eq!(
            (one.number(&one.address(17)), one.number(&other.address(17)), one.number("a-@reminded.example")),
            (Some(17), None, None)
        );
    }
}
