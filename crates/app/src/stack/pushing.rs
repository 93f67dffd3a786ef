//! Metrics on their way to a collector, again and again.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use waypost_telemetry::{Collector, OtlpError, OtlpMetrics};
use waypost_types::Span;

use super::admin::Admin;

/// Sends what `/metrics` would say, every so often and for ever. A collector that is away is told of once, and once when it is back.
pub(super) fn push(
    admin: Arc<Admin>,
    collector: &Collector,
    every: Span,
) -> Result<impl Future<Output = anyhow::Result<()>> + use<>, OtlpError> {
    let to = OtlpMetrics::new(collector, admin.clock.now())?;
    let mut tick = interval(Duration::from_millis(u64::try_from(every.millis()).unwrap_or(u64::MAX)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(async move {
        let mut away = false;
        loop {
            tick.tick().await;
            let readings = admin.metrics().await.read();
            let sent = to.send(&readings, admin.clock.now()).await;
            match &sent {
                Ok(()) if away => tracing::info!("metrics arrive again"),
                Err(error) if !away => tracing::warn!(%error, "metrics do not arrive"),
                Ok(()) | Err(_) => {}
            }
            away = sent.is_err();
        }
    })
}
