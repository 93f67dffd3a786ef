//! What a profile becomes by an event or by time at the segmenter.
