//! `waypost serve`: read settings, check, build the roles of this process, run them, drain on a signal.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, anyhow, bail, ensure};
use async_trait::async_trait;
use tokio::task::JoinSet;
use waypost_control::{Catalog, Changes, Control, Reports};
use waypost_engine::dispatch::LONGEST_CALL;
use waypost_ingest::{Connections, EventsDoor, Ingest, IngestConfig, KeyRing, LogDeadLetters, Origins, TrustedProxies, serve_events_door};
use waypost_providers::{
    catcher::Catcher,
    http::{Http, HttpSettings},
    smtp::{self, Login, Smtp, SmtpSettings, Tls},
};
use waypost_runtime::{
    Config as Limits,
    door::LogDoor,
    driver::{Driver, Exit, Handle, Jobs, LocalOwners, NoJobs, Ports, Settings},
    host::{OsEntropy, SystemClock},
    install::{self, InstallRecord},
    ports::{Clock, Entropy as _, Log, LogError, Store},
    processor::{Job, Proposal},
    progress::{Directory, Speaker},
    upkeep::Upkeep,
};
use waypost_sender::{Calls, Links, Provider};
use waypost_telemetry::{Collector, OtlpTraces, metrics::Metrics};
use waypost_types::{
    PartitionId, Role, Span,
    trace::{NoTraces, Traces},
};

use super::{
    access,
    access::OwnerToken,
    admin::{self, Admin},
    findings, log, machines,
    metered::{Answers, Metered},
    observed, owners,
    pulse::Pulse,
    pushing, schemas, secrets, store,
};
use crate::{cli::Serve, config::Config, keys};

/// A machine gives back what it has a little before its driver gives up waiting for it.
const GIVING_BACK: Span = Span::from_secs(1);

/// The process gave itself up so that others take its partitions over: neither success nor an ordinary failure
/// (`EX_TEMPFAIL`), so that a supervisor can tell.
const GAVE_UP: u8 = 75;

/// How long requests that were begun may still take after everything has drained.
const LAST_ANSWERS: std::time::Duration = std::time::Duration::from_secs(2);

/// Turns true once, when the process is to end.
type Stop = tokio::sync::watch::Receiver<bool>;

/// Waits until it is true; a sender that is gone means the same.
async fn turned(mut flag: tokio::sync::watch::Receiver<bool>) {
    drop(flag.wait_for(|flag| *flag).await);
}

/// Runs roles until a signal.
pub(crate) fn serve(config: &Config, args: &Serve) -> anyhow::Result<ExitCode> {
    let mut roles: Vec<Role> = args.role.iter().flat_map(|r| r.0.iter().copied()).collect();
    roles.sort_unstable();
    roles.dedup();
    let engines = machines::engines_to(args.engines_to)?;
    super::block_on(async { Process::build(config, engines).await?.run(config, &roles).await })
}

/// What all roles of a process share.
struct Process {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    upkeep: Arc<dyn Upkeep>,
    clock: Arc<dyn Clock>,
    record: InstallRecord,
    catalog: Catalog,
    directory: Arc<Directory>,
    registry: Arc<dyn waypost_codec::schemas::Schemas>,
    links: Links,
    collector: Option<Collector>,
    traces: Arc<dyn Traces>,
    metrics: Arc<Metrics>,
    answers: Arc<Answers>,
    engines: RangeInclusive<u32>,
    _following: waypost_control::Following,
}

/// The sender's work, on the ports of this process.
struct SenderJobs(Arc<Calls>);

#[async_trait]
impl Jobs for SenderJobs {
    async fn run(&self, partition: PartitionId, job: Job) -> Vec<Proposal> {
        self.0.run(partition, job).await
    }
}

// === impl Process ===

impl Process {
    async fn build(config: &Config, engines: RangeInclusive<u32>) -> anyhow::Result<Self> {
        let log = log(config)?;
        let store = store(config)?;
        let all = findings(config, &*log, &store, &engines, false).await.context("the start-up check")?;
        for finding in &all {
            if finding.refuses() {
                tracing::error!("{finding}");
            } else {
                tracing::warn!("{finding}");
            }
        }
        if all.iter().any(waypost_runtime::finding::Finding::refuses) {
            bail!("the start-up check refused; `waypost doctor` shows it again");
        }
        let record = install::load_install(&*log, &config.install.prefix).await?;
        let (catalog, following) = Catalog::follow(&log, &config.install.prefix).await.context("reading definitions")?;
        let keys = secrets::link_keys(config, &record)?;
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), *engines.end()));
        let upkeep = Arc::new(store);
        let store = Metered::new(Arc::clone(&upkeep) as Arc<dyn Store>, Arc::new(SystemClock), metrics.roles.clone());
        let collector = collector(config)?;
        Ok(Self {
            answers: store.answers(),
            metrics,
            directory: Directory::follow(Arc::clone(&log), &config.install.prefix),
            registry: schemas::registry(config)?,
            traces: traces(collector.as_ref(), config.telemetry.sample)?,
            collector,
            links: Links { public_url: config.ingest.public_url.trim_end_matches('/').to_owned(), keys },
            store: Arc::new(store),
            upkeep,
            clock: Arc::new(SystemClock),
            log,
            record,
            catalog,
            engines,
            _following: following,
        })
    }

    async fn run(self, config: &Config, roles: &[Role]) -> anyhow::Result<ExitCode> {
        let listener =
            tokio::net::TcpListener::bind(&config.owner.listen).await.with_context(|| format!("owner.listen {}", config.owner.listen))?;
        let advertise = if config.owner.advertise.is_empty() { listener.local_addr()?.to_string() } else { config.owner.advertise.clone() };
        let speaker = Arc::new(Speaker::new(&config.install.prefix, advertise).with_engines(self.engines.clone()));
        let mut handles = BTreeMap::new();
        let mut drivers = Vec::new();
        let keyed = roles.iter().filter(|r| r.inbox().is_some()).count();
        let calls = roles.contains(&Role::Sender).then(|| self.calls(config)).transpose()?;
        for role in roles.iter().filter(|r| r.inbox().is_some()) {
            let limits = Limits { engines: self.engines.clone(), ..Self::limits(config, *role, keyed) };
            let machine = machines::machine(&self.record, &self.catalog, *role, limits)?;
            let jobs: Arc<dyn Jobs> = match &calls {
                Some(calls) if *role == Role::Sender => Arc::new(SenderJobs(Arc::clone(calls))),
                Some(_) | None => Arc::new(NoJobs),
            };
            let ports = Ports {
                log: Arc::clone(&self.log),
                store: Arc::clone(&self.store),
                clock: Arc::clone(&self.clock),
                jobs,
                schemas: Arc::new(schemas::Ids::new(Arc::clone(&self.registry), config.install.prefix.clone())),
                directory: Arc::clone(&self.directory),
                speaker: Arc::clone(&speaker),
                traces: Arc::clone(&self.traces),
            };
            let settings = Settings {
                prefix: config.install.prefix.clone(),
                install: self.record.install(),
                grace: Span::from_secs(config.process.grace_s),
            };
            let (driver, handle) = Driver::new(machine, ports, settings);
            handles.insert(*role, handle);
            drivers.push((*role, spawn(*role, driver)?));
        }
        // Doors answer what was begun before they close; loops just end.
        let mut doors: JoinSet<anyhow::Result<()>> = JoinSet::new();
        let mut loops: JoinSet<anyhow::Result<()>> = JoinSet::new();
        let (stop_all, stop) = tokio::sync::watch::channel(false);
        let reports = roles.contains(&Role::Control).then(|| self.reports(config)).flatten();
        let answering = owners::Answering::new(LocalOwners::new(handles.values().cloned()), OwnerToken::of(&self.record));
        loops.spawn(answering.serve(listener, access::owner_tls(&config.owner)?));
        loops.spawn(tell_definitions(self.catalog.clone(), handles.values().cloned().collect()));
        loops.spawn(tell_skips(self.catalog.clone(), handles.values().cloned().collect()));
        let keys = tokio::sync::watch::channel(false);
        let (log, store, clock) = (Arc::clone(&self.log), Arc::clone(&self.store), Arc::clone(&self.clock));
        let all: Vec<Handle> = handles.values().cloned().collect();
        let pulse = Arc::new(Pulse::new(log, store, clock, &config.install.prefix, all.clone()));
        let admin = Arc::new(Admin {
            metrics: Arc::clone(&self.metrics),
            clock: Arc::clone(&self.clock),
            directory: Arc::clone(&self.directory),
            catalog: self.catalog.clone(),
            pulse: Arc::clone(&pulse),
            answers: Arc::clone(&self.answers),
            handles: all,
            calls,
            reports: reports.clone(),
            keys: roles.contains(&Role::Ingest).then(|| keys.1.clone()),
            is_serving: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
        });
        let every = Span::from_secs(config.telemetry.otlp_metrics_s);
        if let Some(collector) = self.collector.as_ref().filter(|_| every > Span::ZERO) {
            loops.spawn(pushing::push(Arc::clone(&admin), collector, every).context("telemetry.otlp_endpoint")?);
        }
        if !config.admin.listen.is_empty() {
            let listener = tokio::net::TcpListener::bind(&config.admin.listen)
                .await
                .with_context(|| format!("admin.listen {}", config.admin.listen))?;
            tracing::info!(address = %listener.local_addr()?, "admin open");
            let router = admin::router(Arc::clone(&admin));
            loops.spawn(async move { axum::serve(listener, router).await.context("admin") });
            let beating = Arc::clone(&pulse);
            loops.spawn(async move { beating.beat().await.context("looking after the roles' threads") });
            loops.spawn(async move { pulse.ask().await.context("asking log and store") });
        }
        if roles.contains(&Role::Ingest) {
            self.ingest(config, &mut doors, &mut loops, &stop, keys).await?;
        }
        if roles.contains(&Role::Control) {
            self.control(config, reports, &mut doors, &mut loops, stop.clone()).await?;
        }
        let names: Vec<_> = roles.iter().map(|r| r.as_str()).collect();
        tracing::info!(roles = names.join(","), "serving");
        admin.is_serving.store(true, Ordering::Release);
        let ended = watch(&mut doors, &mut loops, &mut drivers).await;
        admin.is_draining.store(true, Ordering::Release);
        // Doors first: requests that were begun are answered, no new ones are taken.
        stop_all.send_replace(true);
        for handle in handles.values() {
            handle.drain().await;
        }
        let mut clean = ended.is_ok();
        for (role, driver) in drivers {
            match driver.await {
                // The second: watched to its end before.
                Ok(Ok(Exit::Drained)) | Err(_) => {}
                Ok(Ok(Exit::Unfinished)) => {
                    tracing::warn!(%role, "the grace was over before everything was committed; the next owner folds the rest again");
                }
                Ok(Ok(Exit::GaveUp(why))) => {
                    clean = false;
                    tracing::error!(%role, why, "gave up");
                }
                Ok(Err(error)) => {
                    clean = false;
                    tracing::error!(%role, %error, "failed");
                }
            }
        }
        drop(tokio::time::timeout(LAST_ANSWERS, async { while doors.join_next().await.is_some() {} }).await);
        Ok(match ended? {
            Ended::GaveUp => ExitCode::from(GAVE_UP),
            Ended::Told if clean => ExitCode::SUCCESS,
            Ended::Told => ExitCode::FAILURE,
        })
    }

    /// Limits of each of so many machines; they share what the process may take of the store.
    fn limits(config: &Config, role: Role, machines: usize) -> Limits {
        let machines = u32::try_from(machines).unwrap_or(u32::MAX).max(1);
        let revoke = Limits::default().revoke;
        Limits {
            // Calls under way end before their partition goes (PROTOCOL §11.5).
            revoke: if role == Role::Sender { Span::from_secs(30) } else { revoke },
            commit_share: (config.store.commit_share / machines).max(1),
            commit_interval_max: Span::from_secs(config.store.commit_interval_max_s),
            drain: Span::from_millis(Span::from_secs(config.process.grace_s).millis() - GIVING_BACK.millis()),
            ..Limits::default()
        }
    }

    /// The calls of all the sender's partitions here.
    fn calls(&self, config: &Config) -> anyhow::Result<Arc<Calls>> {
        let library = Arc::clone(self.catalog.library());
        let calls = Calls::new(library, providers(config)?, self.links.clone(), Arc::clone(&self.clock));
        Ok(Arc::new(calls.telling(Arc::clone(&self.traces))))
    }

    async fn ingest(
        &self,
        config: &Config,
        doors: &mut JoinSet<anyhow::Result<()>>,
        loops: &mut JoinSet<anyhow::Result<()>>,
        stop: &Stop,
        (filled, first): (tokio::sync::watch::Sender<bool>, tokio::sync::watch::Receiver<bool>),
    ) -> anyhow::Result<()> {
        let prefix = &config.install.prefix;
        let ring = Arc::new(KeyRing::new());
        let (following, catalog) = (Arc::clone(&ring), self.catalog.clone());
        loops.spawn(async move {
            keys::follow(following, catalog, filled).await;
            bail!("the catalog ended")
        });
        let door = Arc::new(LogDoor::new(Arc::clone(&self.log), prefix.clone(), self.record.layout()));
        let dead =
            Arc::new(LogDeadLetters::new(Arc::clone(&self.log), format!("{prefix}{}", install::DEAD), self.record.public_partitions));
        let proxies = TrustedProxies::parse(&config.ingest.trusted_proxies).context("ingest.trusted_proxies")?;
        let settings = IngestConfig {
            key_rate: config.ingest.key_rate,
            address_rate: config.ingest.address_rate,
            proxies: proxies.clone(),
            origins: Origins::parse(&config.ingest.cors_origins).context("ingest.cors_origins")?,
            prefix: prefix.clone(),
            traces: Arc::clone(&self.traces),
            metrics: self.metrics.door.clone(),
            ..IngestConfig::new(self.record.hash_key(), self.links.keys.clone())
        };
        let ingest = Ingest::new(settings, ring.clone(), door.clone(), dead.clone(), Arc::clone(&self.clock));
        let listener = tokio::net::TcpListener::bind(&config.ingest.listen)
            .await
            .with_context(|| format!("ingest.listen {}", config.ingest.listen))?;
        tracing::info!(address = %listener.local_addr()?, "door open");
        let stopping = stop.clone();
        let connections = Connections { proxies, ..Connections::default() };
        doors.spawn(async move {
            waypost_ingest::serve(listener, waypost_ingest::router(ingest), connections, turned(stopping)).await;
            Ok(())
        });

        let (log, topic, group) = (Arc::clone(&self.log), format!("{prefix}waypost.events.v1"), format!("{prefix}waypost.events-door"));
        let (clock, install) = (Arc::clone(&self.clock), self.record.hash_key());
        let events = EventsDoor {
            schemas: Arc::clone(&self.registry),
            keys: ring,
            door,
            dead_letters: dead,
            clock,
            install,
            prefix: prefix.clone(),
            traces: Arc::clone(&self.traces),
            metrics: self.metrics.door.clone(),
        };
        loops.spawn(async move {
            // Before the sources are known every event would be a stranger's.
            turned(first).await;
            let Err(error) = serve_events_door(log, &topic, &group, events).await;
            Err(error).context("the Kafka door: events fell to the topic's retention before they were read")
        });
        Ok(())
    }

    /// What journeys do, where this process is to count it.
    fn reports(&self, config: &Config) -> Option<Reports> {
        let days = config.control.reports_days;
        let (log, clock) = (Arc::clone(&self.log), Arc::clone(&self.clock));
        (days > 0).then(|| Reports::new(log, clock, &config.install.prefix, OsEntropy.next(), days))
    }

    async fn control(
        &self,
        config: &Config,
        reports: Option<Reports>,
        doors: &mut JoinSet<anyhow::Result<()>>,
        loops: &mut JoinSet<anyhow::Result<()>>,
        stop: Stop,
    ) -> anyhow::Result<()> {
        let layout = self.record.layout();
        let changes =
            Changes::new(Arc::clone(&self.log), Arc::clone(&self.clock), self.catalog.clone(), config.install.prefix.clone(), layout);
        // A control process that died between its journal line and its activations is completed here.
        changes.announce().await.context("announcing the definitions in force")?;
        let control = Control::new(
            changes,
            self.catalog.clone(),
            Arc::new(owners::Asking::new(Arc::clone(&self.directory), OwnerToken::of(&self.record), &config.owner)?),
            Arc::clone(&self.clock),
            layout,
            self.record.hash_key(),
            waypost_ingest::identifier,
            Arc::new(secret),
            Arc::new(LogDoor::new(Arc::clone(&self.log), config.install.prefix.clone(), layout)),
        )
        .with_schemas(Arc::clone(&self.registry))
        .with_store(Arc::clone(&self.upkeep), self.record.public_partitions);
        let control = match reports {
            Some(reports) => {
                let counting = reports.clone();
                loops.spawn(async move {
                    counting.run().await;
                    bail!("counting ended")
                });
                control.with_reports(reports)
            }
            None => control,
        };
        let listener = tokio::net::TcpListener::bind(&config.control.listen)
            .await
            .with_context(|| format!("control.listen {}", config.control.listen))?;
        let gate = access::gate(config)?
            .with_observer(observed::calls(self.metrics.control.clone()))
            .with_traces(Arc::clone(&self.traces), Arc::clone(&self.clock));
        let router = control.router(gate).await?;
        let tls = access::control_tls(config)?;
        tracing::info!(address = %listener.local_addr()?, tls = tls.is_some(), "control API open");
        let operating = control.clone();
        doors.spawn(async move {
            operating.operate().await;
            Ok(())
        });
        let stopped = async move {
            turned(stop).await;
            control.close();
        };
        doors.spawn(async move {
            let served = if let Some(tls) = tls {
                router.serve_with_incoming_shutdown(tls.incoming(listener), stopped).await
            } else {
                let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
                router.serve_with_incoming_shutdown(incoming, stopped).await
            };
            served.context("the control API")
        });
        Ok(())
    }
}

type Providers = BTreeMap<String, Arc<dyn Provider>>;
type Running = tokio::sync::oneshot::Receiver<Result<Exit, LogError>>;

/// A thread of its own for each role: its fold never waits for another's.
fn spawn(role: Role, driver: Driver) -> anyhow::Result<Running> {
    let (ended, running) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("waypost-{role}")).spawn(move || {
        // Whoever waited may be gone with the process.
        drop(ended.send(runtime.block_on(driver.run())));
    })?;
    Ok(running)
}

/// Why a process ends, where nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// By a signal.
    Told,
    /// A partition did not get on in this process.
    GaveUp,
}

/// Waits for a signal, or for the end of anything that should not end.
async fn watch(
    doors: &mut JoinSet<anyhow::Result<()>>,
    loops: &mut JoinSet<anyhow::Result<()>>,
    drivers: &mut [(Role, Running)],
) -> anyhow::Result<Ended> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let driver = futures::future::select_all(
        drivers
            .iter_mut()
            .map(|(role, running)| {
                Box::pin(async move { (*role, running.await) }) as futures::future::BoxFuture<'_, (Role, Result<Result<Exit, LogError>, _>)>
            })
            .chain([Box::pin(std::future::pending()) as futures::future::BoxFuture<'_, _>]),
    );
    tokio::select! {
        _ = tokio::signal::ctrl_c() => tracing::info!("interrupted, draining"),
        _ = terminate.recv() => tracing::info!("terminated, draining"),
        Some(ended) = doors.join_next() => {
            ended.map_err(|_| anyhow!("a door panicked"))??;
            bail!("a door closed by itself");
        }
        Some(ended) = loops.join_next() => {
            ended.map_err(|_| anyhow!("a loop panicked"))??;
            bail!("a loop ended by itself");
        }
        ((role, ended), ..) = driver => match ended {
            Ok(Ok(Exit::GaveUp(why))) => {
                tracing::error!(%role, why, "gave up, so that others take over");
                return Ok(Ended::GaveUp);
            }
            Ok(Ok(exit)) => bail!("{role} ended by itself: {exit:?}"),
            Ok(Err(error)) => return Err(error).with_context(|| format!("{role}")),
            Err(_) => bail!("{role} panicked"),
        },
    }
    Ok(Ended::Told)
}

/// Partitions that wait for definitions are told when some have arrived.
async fn tell_definitions(catalog: Catalog, handles: Vec<Handle>) -> anyhow::Result<()> {
    let mut arrivals = catalog.arrivals();
    while arrivals.changed().await.is_ok() {
        arrivals.borrow_and_update();
        for handle in &handles {
            handle.definitions_changed().await;
        }
    }
    bail!("the catalog ended")
}

/// A partition that halted at a record is told when the skip list names it.
async fn tell_skips(catalog: Catalog, handles: Vec<Handle>) -> anyhow::Result<()> {
    let mut journal = catalog.journal();
    let mut told = 0;
    loop {
        let skips: BTreeSet<_> = journal.borrow_and_update().skipped().collect();
        if skips.len() > told {
            told = skips.len();
            for handle in &handles {
                handle.skips(skips.clone()).await;
            }
        }
        if journal.changed().await.is_err() {
            bail!("the catalog ended");
        }
    }
}

/// Where traces and metrics go, if anywhere.
fn collector(config: &Config) -> anyhow::Result<Option<Collector>> {
    let telemetry = &config.telemetry;
    if telemetry.otlp_endpoint.is_empty() {
        return Ok(None);
    }
    let mut attributes = Vec::new();
    for one in telemetry.attributes.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let (name, value) = one.split_once('=').with_context(|| format!("telemetry.attributes: `{one}` is not NAME=VALUE"))?;
        attributes.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let (endpoint, service) = (telemetry.otlp_endpoint.clone(), telemetry.service.clone());
    Ok(Some(Collector { endpoint, service, instance: format!("{:016x}", OsEntropy.next()), attributes }))
}

/// How traces go there.
fn traces(collector: Option<&Collector>, sample: f64) -> anyhow::Result<Arc<dyn Traces>> {
    let Some(collector) = collector else { return Ok(Arc::new(NoTraces)) };
    Ok(OtlpTraces::begin(collector, sample, Box::new(|| OsEntropy.next())).context("telemetry.otlp_endpoint")?)
}

/// Providers by name.
fn providers(config: &Config) -> anyhow::Result<Providers> {
    let mail = &config.mail;
    let catcher = Catcher::in_folder(&mail.catcher_dir).with_context(|| format!("mail.catcher_dir {}", mail.catcher_dir))?;
    let mut providers: Providers = BTreeMap::from([("catcher".to_owned(), Arc::new(catcher) as Arc<dyn Provider>)]);
    if !mail.smtp_host.is_empty() {
        let tls: Tls = mail.smtp_tls.parse().map_err(|e| anyhow::anyhow!("mail.smtp_tls: {e}"))?;
        let mut settings = SmtpSettings::new(mail.smtp_host.clone(), mail.smtp_port, tls);
        if !mail.smtp_username.is_empty() {
            let password = secrets::smtp_password(&mail.smtp_password_file)?;
            settings.credentials = Some(Login { user: mail.smtp_username.clone(), password });
        }
        // What the log says of a doubt rests on it.
        ensure!(smtp::call_timeout(&settings) <= LONGEST_CALL, "a call over SMTP could outlast what the sender waits for in doubt");
        providers.insert("smtp".to_owned(), Arc::new(Smtp::new(settings)?));
    }
    let allow: Vec<String> = mail.http_allow.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect();
    let secrets = Some(&config.secrets.dir).filter(|dir| !dir.is_empty()).map(Into::into);
    providers.insert("http".to_owned(), Arc::new(Http::new(HttpSettings::new(allow, secrets)).context("mail.http_allow")?));
    Ok(providers)
}

fn secret() -> [u8; 24] {
    let mut bytes = [0; 24];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&OsEntropy.next().to_be_bytes());
    }
    bytes
}
