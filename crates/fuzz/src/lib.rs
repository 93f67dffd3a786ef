//! Decoders of foreign or stored bytes, as one function a target: bytes in, a panic if
//! something is wrong with it.
//!
//! Each says whether it took the input in, so that a test can tell that some seed of every target gets past
//! its decoder; `plot.rs` plays a short plot of a shop through the four roles and makes seeds of it.
//!
//! `cargo fuzz` drives them with coverage (`make fuzz`); a test drives them with the committed seeds and
//! small mutations of these, without any tool. Beyond "does not panic", each asserts what must hold of
//! whatever was taken in: what was decoded encodes to bytes that decode to the same.

mod caught;
mod definitions;
mod doors;
mod folds;
mod mail;
#[cfg(test)]
mod plot;
mod shop;
mod sources;
mod stored;

/// A decoder under fire.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: the binary, and the folder of its seeds.
    pub name: &'static str,
    /// Feeds it; whether it took the input in.
    pub run: fn(&[u8]) -> bool,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "http_json", run: doors::http_json },
    Target { name: "http_request", run: doors::http_request },
    Target { name: "avro_event", run: doors::avro_event },
    Target { name: "unsubscribe_token", run: doors::unsubscribe_token },
    Target { name: "frame", run: stored::frame },
    Target { name: "state", run: stored::state },
    Target { name: "backup", run: stored::backup },
    Target { name: "control", run: stored::control },
    Target { name: "definitions", run: definitions::definitions },
    Target { name: "fold", run: folds::fold },
    Target { name: "condition", run: sources::condition },
    Target { name: "manifest", run: sources::manifest },
    Target { name: "template", run: sources::template },
    Target { name: "mail", run: mail::mail },
    Target { name: "caught", run: caught::caught },
];

/// Feeds the target of that name.
///
/// # Panics
/// If there is none, or if the input finds something wrong.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|t| t.name == name);
    let _: bool = (target.unwrap_or_else(|| panic!("no target {name}")).run)(data);
}

/// Cuts `data` at each byte 0, into at most `count` pieces.
fn pieces(data: &[u8], count: usize) -> Vec<&[u8]> {
    data.splitn(count, |byte| *byte == 0).collect()
}

/// The piece as text, what is no text replaced.
fn text(piece: Option<&&[u8]>) -> String {
    String::from_utf8_lossy(piece.copied().unwrap_or_default()).into_owned()
}
