//! Whole-process tests live in `it/`.
