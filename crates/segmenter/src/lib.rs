//! Segmenter: what is known of a person. One entity per profile; logic in `waypost_engine::segment`.

mod processor;
mod profile;

pub use processor::SegmenterProcessor;
pub use profile::Profile;
