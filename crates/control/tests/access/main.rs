//! Who may do what, over a real server in this process: every method of every service, with every kind of credential.
#![cfg(feature = "tls")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends with the place")]

mod auditing;
mod limits;
mod matrix;
mod oidc;
mod protected;
mod tails;
mod town;
