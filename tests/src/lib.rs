//! What the whole-process tests and the chaos runner share. Whole-process tests live in `it/`.

pub mod chaos;
pub mod process;
