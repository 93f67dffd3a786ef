//! Where the real servers of a test run are.

/// The address in `variable`.
///
/// # Panics
/// If it is not set: a suite that is skipped in silence promises nothing.
#[expect(clippy::disallowed_methods, reason = "tests take the address of their servers from the environment")]
pub fn server(variable: &str) -> String {
    match std::env::var(variable) {
        Ok(address) if !address.is_empty() => address,
        Ok(_) | Err(_) => panic!("{variable} is not set: this test needs a real server; run `make test`, which starts one"),
    }
}

/// A prefix that no other test run uses, `t<hex>.`.
///
/// # Panics
/// If the host gives no random bits.
pub fn fresh_prefix() -> String {
    use waypost_runtime::ports::Entropy as _;
    format!("t{:x}.", waypost_runtime::host::OsEntropy.next() >> 16)
}
