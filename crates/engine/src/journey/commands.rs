//! What an operator asks for: a run begins without an event of its entry, or live ones end.

use waypost_codec::{
    inbox::{Event, Object, Property, RunCommand, StartRun, Value, run_command::What, value::Kind},
    state::Run,
};

use super::{entries, exits, turn::Turn};
use crate::condition::Program;

/// Name of the event that stands for the one that an entry looks for.
const RUN_STARTED: &str = "Run Started";

/// Does what is asked for; runs that it names and that are not live are left as they are.
pub(crate) fn follow(turn: &mut Turn<'_>, runs: &mut Vec<Run>, command: &RunCommand, record: &[u8; 16]) {
    match &command.what {
        Some(What::Start(start)) => entries::start(turn, runs, start, record),
        Some(What::Cancel(cancel)) => exits::cancel_asked(turn, runs, cancel),
        None => {}
    }
}

/// What a run that is begun so knows of its beginning: when it was asked for and, where the entry reads its key from one property,
/// that property.
pub(crate) fn event(turn: &Turn<'_>, asked: &StartRun, key: Option<&Program>, record: &[u8; 16]) -> Event {
    let now = turn.now().millis();
    let path = key.and_then(|program| program.source().trim().strip_prefix("event.")).filter(|path| is_path(path));
    Event {
        message_id: hex::encode(record),
        name: RUN_STARTED.to_owned(),
        event_time: now,
        received_at: now,
        properties: path.map(|path| holding(path, &asked.key)),
        ..Event::default()
    }
}

/// Whether it is names with dots between them and nothing else.
fn is_path(text: &str) -> bool {
    text.split('.').all(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

fn holding(path: &str, text: &str) -> Object {
    let (name, kind) = match path.split_once('.') {
        Some((name, rest)) => (name, Kind::Object(holding(rest, text))),
        None => (path, Kind::Text(text.to_owned())),
    };
    Object { entries: vec![Property { name: name.to_owned(), value: Some(Value { kind: Some(kind) }) }] }
}
