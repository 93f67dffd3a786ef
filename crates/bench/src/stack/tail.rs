//! What comes into a topic from now on, as it can be read back.

use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;

use crate::pipeline::Pipeline;

/// Reads until it is dropped.
pub(crate) struct Tail(Vec<tokio::task::JoinHandle<()>>);

// === impl Tail ===

impl Tail {
    /// Shows every payload of a topic, with the instant at which it was there.
    pub(crate) fn follow(pipeline: &Pipeline, topic: &str, see: impl Fn(Instant, Bytes) + Clone + Send + 'static) -> anyhow::Result<Self> {
        let topic = format!("{}{topic}", pipeline.prefix);
        let mut tails = Vec::new();
        let partitions =
            pipeline.runtime.block_on(pipeline.log.describe(&topic))?.with_context(|| format!("there is no {topic}"))?.partitions;
        for partition in 0..partitions {
            let from = pipeline.runtime.block_on(pipeline.log.watermarks(&topic, partition))?.1;
            let mut tail = pipeline.runtime.block_on(pipeline.log.tail(&topic, partition, from))?;
            let see = see.clone();
            tails.push(pipeline.runtime.spawn(async move {
                while let Ok(read) = tail.next().await {
                    let now = Instant::now();
                    if let Some(delivery) = read {
                        see(now, delivery.payload);
                    }
                }
            }));
        }
        Ok(Self(tails))
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        for tail in &self.0 {
            tail.abort();
        }
    }
}
