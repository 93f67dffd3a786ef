//! Segmenter: what is known of a person. One entity per profile; logic in `waypost_engine::segment`.

mod processor;
mod profile;
mod rules;

pub use processor::SegmenterProcessor;
pub use profile::Profile;
pub use rules::Rules;
