//! A control plane over a log in memory.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use tonic::Request;
use waypost_control::{Catalog, Changes, Control, Following, access::Caller};
use waypost_memory::{LogPort, MemoryLog, VirtualClock};
use waypost_runtime::{
    door::{Door, LogDoor},
    ports::{Clock, Log, Offset, Owners, OwnersError},
};
use waypost_types::{EntityId, IdentifierClass, Layout, PartitionId, Role, Timestamp};

pub(crate) const LAYOUT: Layout = Layout { number: 1, partitions: 4 };

/// Owners of partitions in which this is every entity.
struct All(Option<Bytes>);

#[async_trait]
impl Owners for All {
    async fn read(&self, _: PartitionId, _: EntityId) -> Result<(Option<Bytes>, Offset), OwnersError> {
        Ok((self.0.clone(), 0))
    }
}

pub(crate) fn log() -> (MemoryLog, Arc<dyn Log>, VirtualClock) {
    let clock = VirtualClock::new(Timestamp::from_millis(1_774_594_800_000));
    let log = MemoryLog::new(&clock);
    for role in Role::KEYED {
        log.create_plain(role.inbox().unwrap(), LAYOUT.partitions);
    }
    log.create_plain("wp1.control", 1);
    log.create_plain("wp1.definitions", 8);
    log.create_plain("wp1.audit", 1);
    log.create_plain("wp1.dead", 8);
    log.create_plain("wp1.operations", 1);
    log.create_plain("waypost.events.v1", 8);
    let port: Arc<dyn Log> = Arc::new(LogPort::new(log.clone()));
    (log, port, clock)
}

pub(crate) async fn control(port: &Arc<dyn Log>, clock: &VirtualClock) -> (Control, Following) {
    control_over(port, clock, None).await
}

pub(crate) async fn control_over(port: &Arc<dyn Log>, clock: &VirtualClock, entity: Option<Bytes>) -> (Control, Following) {
    control_by(port, clock, entity, Arc::new(LogDoor::new(port.clone(), String::new(), LAYOUT))).await
}

pub(crate) async fn control_by(
    port: &Arc<dyn Log>,
    clock: &VirtualClock,
    entity: Option<Bytes>,
    door: Arc<dyn Door>,
) -> (Control, Following) {
    // Secrets of all control planes of a test differ.
    static DRAWN: AtomicU8 = AtomicU8::new(0);
    let (catalog, following) = Catalog::follow(port, "").await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let changes = Changes::new(port.clone(), clock.clone(), catalog.clone(), String::new(), LAYOUT);
    let normalise = |_: IdentifierClass, value: &str| (value != "guest").then(|| value.to_owned());
    let secret = Arc::new(|| [DRAWN.fetch_add(1, Ordering::Relaxed); 24]);
    (Control::new(changes, catalog, Arc::new(All(entity)), clock, LAYOUT, [7; 32], normalise, secret, door), following)
}

/// A request of somebody who may do everything.
pub(crate) fn by<T>(who: &str, request: T) -> Request<T> {
    Caller::process(who).asks(request)
}

pub(crate) fn audit(log: &MemoryLog) -> Vec<String> {
    log.all("wp1.audit", 0).into_iter().map(|d| String::from_utf8(d.payload.to_vec()).unwrap()).collect()
}
