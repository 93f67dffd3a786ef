//! How stored people and events answer.
