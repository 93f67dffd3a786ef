//! Generated protobuf: inboxes, state, the private owner reads and the control API.
//!
//! The files under `gen/` are committed, so building needs no protoc; `tests/codegen.rs` regenerates
//! and compares them (`make codegen` writes them).
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    unused_qualifications,
    missing_debug_implementations,
    reason = "generated code"
)]

/// Generated modules, nested as their protobuf packages are.
pub mod waypost {
    /// What the roles write to each other.
    pub mod inbox {
        /// First version.
        pub mod v1 {
            include!("gen/waypost.inbox.v1.rs");
        }
    }
    /// The control API.
    pub mod control {
        /// First version.
        pub mod v1 {
            include!("gen/waypost.control.v1.rs");
        }
    }
    /// Private reads.
    pub mod owner {
        /// First version.
        pub mod v1 {
            include!("gen/waypost.owner.v1.rs");
        }
    }
    /// What lies in the store.
    pub mod state {
        /// First version.
        pub mod v1 {
            include!("gen/waypost.state.v1.rs");
        }
    }
}

pub use waypost::control::v1 as control;
pub use waypost::inbox::v1 as inbox;
pub use waypost::owner::v1 as owner;
pub use waypost::state::v1 as state;

/// The descriptors of every package, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/descriptors.bin");
