//! The outside world over HTTP and SMTP: the only crate that names their clients.

pub mod catcher;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "smtp")]
pub mod smtp;

pub use catcher::Catcher;

#[cfg(test)]
mod fixture;
