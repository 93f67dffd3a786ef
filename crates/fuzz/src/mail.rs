//! One dispatch from its record to the message in the catcher: addresses, subjects and URLs that somebody
//! else chose never become a header of their own.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::executor::block_on;
use prost::Message as _;
use waypost_codec::{
    frame::Record,
    inbox::Dispatch,
    kind,
    unsubscribe::{self, TokenKey},
    value,
};
use waypost_providers::catcher::Catcher;
use waypost_runtime::{
    ports::Clock,
    processor::{Fold, Job, Processor as _},
};
use waypost_sender::{Calls, Links, OutgoingEmail, Provider, SenderEntity, SenderProcessor};
use waypost_types::{EntityId, PartitionId, Position, Role, Timestamp, Value};

use crate::{
    pieces,
    shop::{self, NOW, PUBLISHED, SHOP},
    text,
};

const HEADERS: &[&str] = &[
    "from",
    "to",
    "subject",
    "date",
    "message-id",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "list-id",
    "feedback-id",
    "auto-submitted",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
];
const KEY: [u8; 32] = [7; 32];
const PARTITION: PartitionId = PartitionId { role: Role::Sender, index: 0 };

/// For each input its own: what it began and did not finish must not stand in the way of the next.
fn calls(catcher: &Arc<Catcher>) -> Calls {
    let providers = BTreeMap::from([("catcher".to_owned(), Arc::clone(catcher) as Arc<dyn Provider>)]);
    let links = Links { public_url: "https://shop.example".to_owned(), keys: TokenKey::new(KEY).into() };
    Calls::new(Arc::clone(&PUBLISHED.0) as Arc<_>, providers, links, Arc::new(Stopped))
}

struct Stopped;

#[async_trait]
impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        NOW
    }
    async fn sleep_until(&self, _: Timestamp) {}
}

/// Address, journey, topic, class and a first name, cut at zero bytes.
pub(crate) fn mail(data: &[u8]) -> bool {
    let parts = pieces(data, 5);
    let Some(template) = shop::workspace().templates.values().find(|t| t.name == "welcome") else { return false };
    let Some(channel) = shop::workspace().channels.keys().next() else { return false };
    let variables = Value::object([
        ("profile".to_owned(), Value::object([("first_name".to_owned(), Value::text(text(parts.get(4))))])),
        ("entry".to_owned(), Value::object([])),
    ]);
    let dispatch = Dispatch {
        dispatch: Bytes::from_static(&[1; 16]),
        send: Bytes::from_static(&[2; 16]),
        run: Bytes::from_static(&[3; 16]),
        profile: Bytes::from_static(&[4; 31]),
        address: text(parts.first()),
        journey: text(parts.get(1)),
        topic: text(parts.get(2)),
        class: text(parts.get(3)),
        channel: "email".to_owned(),
        provider: channel.clone(),
        template: template.name.clone(),
        template_hash: Bytes::copy_from_slice(template.hash.as_bytes()),
        variables: Some(value::to_proto(&variables)),
        decided_at: NOW.millis(),
        valid_until: i64::MAX,
        ..Dispatch::default()
    };
    let sent = sent(&dispatch);
    for message in &sent {
        well_formed(message);
        if dispatch.class != "transactional" {
            leads_out(message, &dispatch);
        }
    }
    !sent.is_empty()
}

/// What goes out for it.
fn sent(dispatch: &Dispatch) -> Vec<OutgoingEmail> {
    let mut processor = SenderProcessor::new();
    processor.define(&PUBLISHED.1);
    let mut entities: BTreeMap<EntityId, Option<SenderEntity>> = BTreeMap::new();
    let mut todo = vec![(kind::DISPATCH, Bytes::from(dispatch.encode_to_vec()))];
    let catcher = Arc::new(Catcher::in_memory());
    let calls = calls(&catcher);
    let mut offset = 0;
    while let Some((kind, body)) = todo.pop() {
        offset += 1;
        let record = Record { at: Some(NOW), ..Record::new(kind, SHOP, [9; 16], Bytes::from_static(&[5; 16]), NOW, body) };
        for job in jobs(&processor, &mut entities, &record, offset) {
            todo.extend(block_on(calls.run(PARTITION, job)).into_iter().map(|p| (p.kind, p.body)));
        }
    }
    catcher.messages()
}

fn jobs(processor: &SenderProcessor, entities: &mut BTreeMap<EntityId, Option<SenderEntity>>, record: &Record, offset: u64) -> Vec<Job> {
    let Ok(wanted) = processor.entities(record) else { return Vec::new() };
    for id in wanted {
        entities.entry(id).or_insert(None);
    }
    let mut fold = Fold::new(NOW, Position { offset, index: 0 }, entities);
    if processor.fold(&mut fold, record).is_err() {
        return Vec::new();
    }
    fold.jobs().to_vec()
}

fn well_formed(message: &OutgoingEmail) {
    let raw = String::from_utf8_lossy(&message.raw);
    assert!(!raw.replace("\r\n", "").contains(['\r', '\n']), "a line that does not end in CRLF");
    let head = raw.split("\r\n\r\n").next().unwrap_or_default();
    for line in head.split("\r\n").filter(|line| !line.starts_with([' ', '\t'])) {
        let name = line.split_once(':').map(|(name, _)| name.to_ascii_lowercase()).unwrap_or_default();
        assert!(HEADERS.contains(&name.as_str()), "a header that nobody wrote: {name:?}");
    }
}

/// The link in the header is one URL of ours, and its token names this profile and topic.
fn leads_out(message: &OutgoingEmail, dispatch: &Dispatch) {
    let raw = String::from_utf8_lossy(&message.raw).replace("\r\n ", "");
    let line = raw.lines().find_map(|line| line.strip_prefix("List-Unsubscribe: "));
    let token = line.and_then(|line| line.strip_prefix("<https://shop.example/u/")).and_then(|rest| rest.strip_suffix('>'));
    let opened = token.and_then(|token| unsubscribe::open(&KEY, token).ok());
    let opened = opened.unwrap_or_else(|| panic!("no way out in {line:?}"));
    assert_eq!(opened.profile.as_bytes()[..], dispatch.profile[..], "somebody else's link");
}
