//! Whole-process tests and the rules of the repository.
//!
//! Run by `make test`, which starts a Kafka and a Redis for them and says where the binaries are.

mod tidy;
