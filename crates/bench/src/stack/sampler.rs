//! What everybody has used and how far every partition is, ten times a second, to be judged when the run is over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use waypost_runtime::{host::SystemClock, ports::Clock as _, progress::Directory};
use waypost_types::PartitionId;

use crate::meter::{Kind, Watched, cpu_seconds, resident_bytes};

/// As often as processes say how far they are.
const EVERY: Duration = Duration::from_millis(100);

/// One look.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    /// Seconds of CPU, in the order of those watched.
    pub(crate) cpu: Vec<f64>,
    /// First frame not folded, and first not committed.
    pub(crate) places: Vec<(PartitionId, u64, u64)>,
}

/// Looks until it is told to stop.
#[derive(Debug)]
pub(crate) struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
    pub(crate) watched: Vec<Watched>,
}

/// What one process used of a window.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_bytes: u64,
    /// Where somebody counted them.
    pub(crate) system_calls: Option<u64>,
}

// === impl Sampler ===

impl Sampler {
    pub(crate) fn start(directory: Arc<Directory>, watched: Vec<Watched>) -> Self {
        Self::with(watched, move || {
            directory.owners(SystemClock.now()).into_iter().map(|o| (o.progress.partition, o.progress.next, o.progress.off)).collect()
        })
    }

    /// The same, where somebody else says how far everybody is.
    pub(crate) fn with(watched: Vec<Watched>, mut places: impl FnMut() -> Vec<(PartitionId, u64, u64)> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, all) = (Arc::clone(&stop), watched.clone());
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                samples.push(Sample { at: Instant::now(), cpu: all.iter().map(|one| cpu_seconds(one.pid)).collect(), places: places() });
                std::thread::sleep(EVERY);
            }
            samples
        });
        Self { stop, thread, watched }
    }

    /// All that was seen.
    pub(crate) fn stop(self) -> anyhow::Result<Vec<Sample>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the sampler ended early"))
    }
}

// === impl Sample ===

impl Sample {
    /// First frame of the partition not folded; 0 where nobody has said so.
    pub(crate) fn next(&self, partition: PartitionId) -> u64 {
        self.places.iter().find(|(p, _, _)| *p == partition).map_or(0, |(_, next, _)| *next)
    }

    /// First frame of the partition not committed.
    pub(crate) fn off(&self, partition: PartitionId) -> u64 {
        self.places.iter().find(|(p, _, _)| *p == partition).map_or(0, |(_, _, off)| *off)
    }
}

/// What was used between two looks.
pub(crate) fn usage(watched: &[Watched], from: &Sample, to: &Sample) -> Vec<Usage> {
    let between = watched.iter().zip(from.cpu.iter().zip(&to.cpu));
    let used = between.map(|(one, (from, to))| Usage {
        name: one.name.clone(),
        kind: one.kind,
        cpu_seconds: (to - from).max(0.0),
        resident_bytes: resident_bytes(one.pid),
        system_calls: None,
    });
    used.collect()
}
