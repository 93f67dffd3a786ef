//! Target `template` under libFuzzer.
//!
//! The parser of MJML panics on some texts, and the template catches that: so the hook that aborts at every panic
//! goes, and only what escapes is a finding.
#![no_main]

use std::{panic::set_hook, sync::Once};

static CAUGHT: Once = Once::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    CAUGHT.call_once(|| set_hook(Box::new(|_| ())));
    waypost_fuzz::run("template", data);
});
