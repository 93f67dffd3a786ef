//! The union of two persons.
