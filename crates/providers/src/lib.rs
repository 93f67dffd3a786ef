//! The outside world over HTTP and SMTP: the only crate that names their clients.

pub mod catcher;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "jwks")]
pub mod jwks;
#[cfg(feature = "oauth")]
pub mod oauth;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "smtp")]
pub mod smtp;

pub use catcher::Catcher;

#[cfg(test)]
mod fixture;
