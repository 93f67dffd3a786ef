//! Generated protobuf: inboxes, state, the private owner reads and the control API.
//!
//! The files under `gen/` are committed, so building needs no protoc; `tests/codegen.rs` regenerates
//! and compares them (`make codegen` writes them).
#![allow(clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications, missing_debug_implementations, reason = "generated code")]

/// Generated modules, nested as their protobuf packages are.
pub mod waypost {
    /// What the roles write to each other.
    pub mod inbox {
        /// First version.
        pub mod v1 {
            include!("gen/waypost.inbox.v1.rs");
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

pub use waypost::inbox::v1 as inbox;
pub use waypost::state::v1 as state;
