//! `waypost dev` without a script: real time, until somebody stops it.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use waypost_control::{Reports, access::Gate};
use waypost_ingest::{Connections, EventsDoor, LogDeadLetters, serve_events_door};
use waypost_runtime::{host::SystemClock, ports::Clock as _};
use waypost_telemetry::metrics::DoorMetrics;
use waypost_types::trace::NoTraces;

use super::{
    page,
    world::{Settings, World},
};
use crate::{cli::Dev, dev_registry, screen};

/// As in the default file; nothing outlives this process anyway.
const REPORTS_DAYS: u32 = 760;
/// Longest nap of the loop: how late a timer or a question may be noticed.
const NAP: Duration = Duration::from_millis(5);

/// Serves until interrupted.
pub(crate) fn stay(args: &Dev) -> anyhow::Result<ExitCode> {
    let clock = SystemClock;
    let public_url = format!("http://{}", args.listen);
    let settings = Settings { seed: seed(), start: clock.now(), mail: &args.mail, public_url: public_url.clone() };
    let mut world = World::new(&settings)?;
    world.define(&args.journeys)?;
    let runtime = world.runtime.handle().clone();

    let door = tokio_listener(&runtime, &args.listen)?;
    let http = world.door.clone().merge(page::router(world.mail.clone())).merge(dev_registry::router(world.schemas.clone()));
    runtime.spawn(waypost_ingest::serve(door, http, Connections::default(), std::future::pending()));
    let api = tokio_listener(&runtime, &args.control)?;
    let reports = Reports::new(world.port.clone(), Arc::new(SystemClock), "", seed(), REPORTS_DAYS);
    runtime.spawn(reports.clone().run());
    let router = runtime.block_on(world.control.clone().with_reports(reports).router(Gate::open()))?;
    let operating = world.control.clone();
    runtime.spawn(async move { operating.operate().await });
    runtime.spawn(async move { router.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(api)).await });
    events_door(&world);
    let (stop, stopped) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        drop(tokio::signal::ctrl_c().await);
        stop.send(()).unwrap_or_default();
    });

    let key = world.keys.get("web").cloned().unwrap_or_default();
    let backend = world.keys.get("shop-backend").cloned().unwrap_or_default();
    screen(
        &format!(
            "waypost dev: everything in this process, in memory; only the caught mail is kept, under {}\n\n  \
             door and schema registry             {public_url}\n  \
             caught mail                          {public_url}/mail\n  \
             control API                          http://{}\n  \
             write key of source `web`            {key}\n  write key of source `shop-backend`   {backend}\n\n\
             try:\n  curl -u {backend}: -H 'content-type: application/json' {public_url}/v1/track \\\n       \
             -d '{{\"event\": \"Product Added\", \"userId\": \"u1\", \"properties\": {{\"cart_id\": \"k1\", \"product_id\": \"p1\", \"price\": \"89.00\"}}}}'\n  \
             waypostctl --server http://{} profile show user_id:u1\n  waypostctl --server http://{} explain user_id:u1 cart-recovery\n\n\
             Ctrl-C stops it.",
            args.mail.display(),
            args.control,
            args.control,
            args.control
        ),
        false,
    );
    while stopped.recv_timeout(NAP).is_err() {
        // The virtual clock follows the real one; it never goes back.
        world.pipeline.clock().advance_to(clock.now());
        world.settle();
        crate::keys::refresh(&world.ring, &world.catalog);
    }
    screen("stopped", false);
    Ok(ExitCode::SUCCESS)
}

fn tokio_listener(runtime: &tokio::runtime::Handle, address: &str) -> anyhow::Result<tokio::net::TcpListener> {
    runtime
        .block_on(tokio::net::TcpListener::bind(address))
        .with_context(|| format!("cannot listen on {address}: is something else there? choose another with --listen or --control"))
}

/// The public topic is a door here too, for what other tasks of this process may write to it.
fn events_door(world: &World) {
    let door = EventsDoor {
        schemas: world.schemas.clone(),
        keys: world.ring.clone(),
        door: Arc::new(world.memory_door()),
        dead_letters: Arc::new(LogDeadLetters::new(world.port.clone(), "wp1.dead".to_owned(), world.record.public_partitions)),
        clock: Arc::new(SystemClock),
        install: world.record.hash_key(),
        prefix: String::new(),
        traces: Arc::new(NoTraces),
        metrics: DoorMetrics::default(),
    };
    let log = world.port.clone();
    world.runtime.spawn(async move { serve_events_door(log, "waypost.events.v1", "waypost.events-door", door).await });
}

/// Another installation each time: nothing is kept, so nothing has to be found again.
fn seed() -> u64 {
    use waypost_runtime::ports::Entropy as _;
    waypost_runtime::host::OsEntropy.next()
}
