//! Dead letters and records that kill: one by one, many as an operation, and by two people.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends with the place")]

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod operations;
mod redriving;
mod skipping;

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::frame::Record;
use waypost_memory::MemoryLog;
use waypost_runtime::ports::Append;

/// Sets a record aside, as a role does.
fn set_aside(log: &MemoryLog, door: &str, reason: &str, record: &Record) {
    let header = |name: &str, value: &str| (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
    let headers =
        vec![header("reason", reason), header("door", door), header("detail", "why"), header("origin", &format!("{door}/3/9.0.0"))];
    let payload = record.to_proto().encode_to_vec().into();
    log.append(Append { topic: "wp1.dead".to_owned(), partition: 2, key: None, headers, payload }).unwrap();
}
