//! What stands in the log, in words.

use bytes::Bytes;
use prost::Message;
use waypost_codec::{
    frame::{Frame, Record, Section},
    inbox::{
        Attempt, AttemptOutcome, DefActivate, Dispatch, Event, IdentityEvent, JourneyItem, Leader, Link, MergeBegin, Pass, Recall, Receipt,
        RunCommand, SegmentItem, Tick, run_command::What, segment_item::Body,
    },
    kind,
};
use waypost_runtime::ports::Append;
use waypost_types::Timestamp;

/// An append, in one line.
pub(super) fn told(append: &Append) -> String {
    if append.key.is_some() {
        let header = |wanted: &str| {
            append.headers.iter().find(|(name, _)| name == wanted).map_or("", |(_, v)| std::str::from_utf8(v).unwrap_or("?"))
        };
        return format!("{} {} number {}", header("ce_type"), header("ce_id"), header("ce_sequence"));
    }
    match Frame::decode(append.payload.clone()) {
        Ok(frame) => frame.sections.iter().map(section).collect::<Vec<_>>().join(" | "),
        Err(_) => {
            append.headers.iter().map(|(name, value)| format!("{name} {}", String::from_utf8_lossy(value))).collect::<Vec<_>>().join(", ")
        }
    }
}

fn section(section: &Section) -> String {
    let from = section.source.map_or_else(String::new, |source| {
        let last = source.first + section.records.len() as u64 - 1;
        let numbers = if last == source.first { last.to_string() } else { format!("{}-{last}", source.first) };
        format!("{}/{} {numbers}: ", source.role, source.partition)
    });
    from + &section.records.iter().map(record).collect::<Vec<_>>().join("; ")
}

/// A record, in a few words.
fn record(record: &Record) -> String {
    let via = if record.via > 0 { format!(" via {}", record.via) } else { String::new() };
    match what(record) {
        Some((what, more)) => format!("{what}{via} {more}"),
        None => format!("kind {}{via} unreadable", record.kind),
    }
}

fn what(record: &Record) -> Option<(&'static str, String)> {
    let key = || short(&record.key);
    Some(match record.kind {
        kind::EVENT => ("event", event(&of::<IdentityEvent>(record)?.event)),
        kind::LINK => {
            let link = of::<Link>(record)?;
            let node = |node: Option<waypost_codec::inbox::NodeRef>| node.map_or_else(String::new, |node| short(&node.hash));
            ("link", format!("{} {}", node(link.a), node(link.b)))
        }
        kind::RECEIPT => ("receipt", receipt(&of::<Receipt>(record)?)),
        kind::MERGE_DONE => ("merge_done", key()),
        kind::FLUSHED => ("flushed", key()),
        kind::ERASE => ("erase", key()),
        kind::DETACH => ("detach", key()),
        kind::EXPIRE => ("expire", key()),
        kind::ERASE_NODE => ("erase_node", key()),
        kind::SHARED => ("shared", key()),
        kind::ITEM => ("item", item(&of::<SegmentItem>(record)?, &key())),
        kind::MERGE_BEGIN => {
            let begin = of::<MergeBegin>(record)?;
            ("merge_begin", format!("{} into {}", short(&begin.loser), short(&begin.winner)))
        }
        kind::RUN_COMMAND => ("command", format!("{} for {}", asked(&of::<RunCommand>(record)?), key())),
        kind::RUN_ITEM => ("run_item", item(&of::<SegmentItem>(record)?, &key())),
        kind::JOURNEY_RUN_ITEM => ("run_item+delta", item(&of::<JourneyItem>(record)?.item?, &key())),
        kind::FLUSH | kind::JOURNEY_FLUSH => ("flush", key()),
        kind::MERGE_STATE | kind::JOURNEY_MERGE_STATE => ("merge_state", format!("to {}", key())),
        kind::BURY => ("bury", key()),
        kind::JOURNEY_ITEM => ("item+delta", item(&of::<JourneyItem>(record)?.item?, &key())),
        kind::DELTA => ("delta", key()),
        kind::JOURNEY_MERGE_BEGIN => ("merge_begin+state", key()),
        kind::PASS | kind::PASS_RUN => {
            ("pass", format!("at {}: {}", key(), self::record(&Record::from_proto(of::<Pass>(record)?.record?).ok()?)))
        }
        kind::ERASED => ("erased", key()),
        kind::GONE => ("gone", String::new()),
        kind::DISPATCH => {
            let dispatch = of::<Dispatch>(record)?;
            ("DECISION send", format!("{} {} {} to {}", dispatch.journey, dispatch.step, dispatch.run_key, short(&dispatch.profile)))
        }
        kind::RECALL => {
            let recall = of::<Recall>(record)?;
            ("DECISION recall", format!("{} {}", short(&recall.dispatch), recall.reason))
        }
        kind::SUPPRESS => ("suppress", key()),
        kind::UNSUPPRESS => ("unsuppress", key()),
        kind::FEEDBACK => ("feedback", key()),
        kind::ERASE_ADDRESS => ("erase_address", key()),
        kind::ATTEMPT => {
            let attempt = of::<Attempt>(record)?;
            ("attempt", format!("{} of {} under leader {} {}", attempt.number, short(&attempt.dispatch), attempt.leader, attempt.refused))
        }
        kind::OUTCOME => {
            let outcome = of::<AttemptOutcome>(record)?;
            ("outcome", format!("{} of {}: {}", outcome.number, short(&outcome.dispatch), outcome.outcome().as_str_name()))
        }
        kind::TICK => {
            let tick = of::<Tick>(record)?;
            let wm = if tick.wm > 0 { format!(" wm {}", Timestamp::from_millis(tick.wm)) } else { String::new() };
            ("tick", format!("{}{wm}", Timestamp::from_millis(tick.now)))
        }
        kind::LEADER => ("leader", short(&of::<Leader>(record)?.token)),
        kind::DEF_ACTIVATE => ("activate", format!("set {}", of::<DefActivate>(record)?.set)),
        kind::ENGINE_ACTIVATE => ("engine", String::new()),
        kind::MARK => ("mark", String::new()),
        _ => return None,
    })
}

fn item(item: &SegmentItem, profile: &str) -> String {
    let what = match &item.body {
        Some(Body::Event(bytes)) => event(bytes),
        Some(Body::Receipt(of)) => receipt(of),
        Some(Body::Settled(_)) => "settled".to_owned(),
        Some(Body::Erase(_)) => "erase".to_owned(),
        Some(Body::Command(command)) => asked(command),
        None => "nothing".to_owned(),
    };
    format!("{what} of {} at {profile}", short(&item.node))
}

fn asked(command: &RunCommand) -> String {
    match &command.what {
        Some(What::Start(start)) => format!("start {} {}", start.journey, start.key),
        Some(What::Cancel(cancel)) => format!("cancel {} {}", cancel.journey, short(&cancel.run)),
        None => "nothing".to_owned(),
    }
}

fn receipt(receipt: &Receipt) -> String {
    format!("{} {} {}", receipt.step, short(&receipt.dispatch), receipt.outcome().as_str_name())
}

fn event(bytes: &Bytes) -> String {
    Event::decode(bytes.clone()).map_or_else(
        |_| "?".to_owned(),
        |event| {
            let name = if event.name.is_empty() { "identify" } else { &event.name };
            format!("{} {name}", event.message_id)
        },
    )
}

fn of<M: Message + Default>(record: &Record) -> Option<M> {
    M::decode(record.body.clone()).ok()
}

/// Enough of an id to tell it from others. A node's begins with its class, then its identifier's hash.
fn short(bytes: &[u8]) -> String {
    match bytes.len() {
        31 => format!("{}:{}", bytes[0], hex::encode(&bytes[1..4])),
        _ => hex::encode(&bytes[..bytes.len().min(3)]),
    }
}
