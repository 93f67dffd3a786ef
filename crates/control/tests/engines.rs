//! An engine is activated when every process has it, and in every inbox.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends with the place")]

use std::{ops::RangeInclusive, sync::Arc};

use prost::Message as _;
use waypost_codec::{frame::Frame, inbox, kind};
use waypost_control::{EngineError, activate_engine, check_engine};
use waypost_memory::{LogPort, MemoryLog, VirtualClock};
use waypost_runtime::{
    machine::Progress,
    ports::Log,
    progress::{Directory, Speaker, TOPIC},
};
use waypost_types::{Layout, PartitionId, Role, Timestamp};

const LAYOUT: Layout = Layout { number: 1, partitions: 2 };

struct Town {
    log: MemoryLog,
    port: Arc<dyn Log>,
    clock: VirtualClock,
    directory: Directory,
}

fn town() -> Town {
    let clock = VirtualClock::new(Timestamp::from_millis(1_774_594_800_000));
    let log = MemoryLog::new(&clock);
    for role in Role::KEYED {
        log.create_plain(role.inbox().unwrap(), LAYOUT.partitions);
    }
    log.create_plain(TOPIC, 1);
    let port: Arc<dyn Log> = Arc::new(LogPort::new(log.clone()));
    Town { log, port, clock, directory: Directory::default() }
}

impl Town {
    /// A process at `address` with these engines says that it owns one partition of every role, folded by `eng`.
    fn says(&mut self, address: &str, engines: RangeInclusive<u32>, index: u32, eng: u32) {
        let from = self.log.watermarks(TOPIC, 0).unwrap().1;
        for role in Role::KEYED {
            let progress = Progress {
                partition: PartitionId { role, index },
                through: Timestamp::ZERO,
                off: 1,
                next: 1,
                eng,
                defv: String::new(),
                leading: true,
                halted: None,
                diverged: Vec::new(),
                gap: None,
            };
            Speaker::new("", address).with_engines(engines.clone()).say(&*self.port, &self.clock, role, vec![progress]);
        }
        for delivery in self.log.all(TOPIC, 0).into_iter().filter(|d| d.offset >= from) {
            self.directory.hear(&delivery.payload, delivery.appended);
        }
    }

    fn check(&self, engine: u32) -> Result<(), EngineError> {
        check_engine(&self.directory, LAYOUT, engine, self.clock.now())
    }
}

#[test]
fn every_process_must_have_the_engine_and_every_partition_an_owner() {
    let mut town = town();
    town.says("a:1", 1..=2, 0, 1);
    assert_eq!(town.check(2), Err(EngineError::Silent(PartitionId { role: Role::Identity, index: 1 })));
    town.says("b:1", 1..=1, 1, 1);
    let lacking = town.check(2).unwrap_err();
    assert_eq!(lacking, EngineError::Lacking { address: "b:1".into(), has: 1..=1, wanted: 2 });
    assert!(lacking.to_string().contains("roll out"), "{lacking}");
    assert_eq!(town.check(1), Ok(()), "what is in force may be said again");
    town.says("b:1", 1..=2, 1, 1);
    assert_eq!(town.check(2), Ok(()));
    town.says("b:1", 1..=2, 1, 2);
    assert_eq!(town.check(1), Err(EngineError::Past { partition: PartitionId { role: Role::Identity, index: 1 }, present: 2 }));
}

#[tokio::test]
async fn the_activation_is_a_frame_of_its_own_in_every_inbox() {
    let town = town();
    activate_engine(&town.port, "", LAYOUT, 2, Timestamp::ZERO).await.unwrap();
    for role in Role::KEYED {
        for index in 0..LAYOUT.partitions {
            let frames = town.log.all(role.inbox().unwrap(), index);
            let [frame] = &frames[..] else { panic!("one frame in {role}/{index}: {frames:?}") };
            let sections = Frame::decode(frame.payload.clone()).unwrap().sections;
            let records: Vec<_> = sections.iter().flat_map(|section| &section.records).collect();
            assert_eq!((records.len(), records[0].kind, sections[0].source), (1, kind::ENGINE_ACTIVATE, None));
            assert_eq!(inbox::EngineActivate::decode(records[0].body.clone()).unwrap().engine, 2);
        }
    }
}
