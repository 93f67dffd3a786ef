//! One run, from empty folders to the verdict.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{sync::Mutex, task::JoinSet, time::Instant};
use waypost_kafka::{Connection, KafkaLog};
use waypost_redis::Keys;
use waypost_runtime::{
    host::SystemClock,
    install::{self, InstallRecord},
    ports::{Clock as _, Log},
    progress::Directory,
};
use waypost_types::{PartitionId, Role};

use super::{
    chance::Chance,
    door::Door,
    faults::Breakable,
    fleet::{self, Fleet},
    holdings::{self, Holdings},
    kafka::Kafka,
    oracle::{self, Evidence, Unknown, Verdict, enough::Ran},
    people::People,
    recovery::Recovery,
    redis::Redis,
    relay::Relay,
    settings::{PARTITIONS, Settings},
    sink::{Mail, Sink},
    story::{Diary, now, say},
    told::Told,
    workload::{self, World},
};

/// How often counts are printed.
const EVERY: Duration = Duration::from_secs(10);
/// How often a backup is taken.
const BACKUPS: Duration = Duration::from_secs(15);
/// How long everything may take to come to rest. A message that was refused in passing is tried again after half a
/// minute, then after a whole one. A drain to which nothing answers straight ends after a quarter of an hour. A busy machine
/// takes its time; only what never comes to rest is wrong.
const REST: Duration = Duration::from_mins(20);

/// A whole installation under fire.
struct Ground {
    settings: Settings,
    diary: Arc<Diary>,
    log: Arc<KafkaLog>,
    redis: Arc<Mutex<Redis>>,
    fleet: Arc<Fleet>,
    sink: Arc<Sink>,
    relay: Arc<Relay>,
    people: People,
    told: Told,
    install: InstallRecord,
    directory: Arc<Directory>,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// The oracle's.
    pub verdict: Verdict,
    /// The last line.
    pub line: String,
}

// === impl Outcome ===

impl Outcome {
    /// Nothing is wrong, and enough happened.
    pub const fn is_good(&self) -> bool {
        self.verdict.is_good()
    }
}

/// Runs it.
///
/// # Errors
/// If the servers cannot be started, or do not come up again: then nothing is said of the product.
pub async fn run(settings: Settings) -> anyhow::Result<Outcome> {
    say(&format!(
        "chaos: seed {}, {} s, {} broker(s), {} events a second; logs in {}",
        settings.seed,
        settings.lasts.as_secs(),
        settings.brokers,
        settings.rate,
        settings.folder.display()
    ));
    let diary = Arc::new(Diary::default());
    fs::create_dir_all(&settings.folder)?;
    let (kafka, links) = Kafka::start(&settings, fleet::seats()).await?;
    let kafka = Arc::new(kafka);
    let redis = Redis::start(&settings, fleet::seats()).await?;
    let sink = Arc::new(Sink::open().await?);
    let relay = Arc::new(Relay::open().await?);
    let fleet = Arc::new(Fleet::new(&settings, links, redis.links(), (sink.port, relay.port), Arc::clone(&diary))?);
    let redis = Arc::new(Mutex::new(redis));
    let (key, _) = fleet.open().await?;
    diary.note("the installation is up");

    let log = Arc::new(KafkaLog::new(&Connection::new(kafka.addresses()))?);
    let install = install::load_install(&*log, "").await?;
    let keys = Keys::new("", &install.tags);
    redis.lock().await.watch(holdings::partitions().map(|partition| keys.meta(partition)).collect());
    let directory = Directory::follow(Arc::clone(&log) as Arc<dyn Log>, "");
    let people = People::default();
    let ground = Ground {
        diary: Arc::clone(&diary),
        redis: Arc::clone(&redis),
        fleet: Arc::clone(&fleet),
        sink: Arc::clone(&sink),
        relay: Arc::clone(&relay),
        people: people.clone(),
        told: Told::follow(&kafka.addresses()),
        directory: Arc::clone(&directory),
        install,
        log,
        settings,
    };
    let mut background = JoinSet::new();
    let supervised = Arc::clone(&fleet);
    background.spawn(async move { supervised.supervise().await });
    background.spawn(back_up(Arc::clone(&redis), Arc::clone(&diary)));

    let mut chance = Chance::new(ground.settings.seed);
    let door = Door { ports: fleet.of(Role::Ingest).map(|seat| seat.door).collect(), key };
    let until = Instant::now() + ground.settings.lasts;
    let world = World { door, people, sink: Arc::clone(&sink) };
    background.spawn(workload::run(world, chance.fork(), ground.settings.rate, until));

    let recovery = Arc::new(Recovery::new(directory, keys, Arc::clone(&diary)));
    let broken = Arc::new(Breakable::new(
        Arc::clone(&fleet),
        Arc::clone(&kafka),
        redis,
        (sink, relay),
        Arc::clone(&diary),
        Arc::clone(&recovery),
        ground.install.clone(),
    ));
    // The first people come to a whole installation.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let breaking = broken.run(chance.fork(), &ground.settings.only, until.checked_sub(Duration::from_secs(10)).unwrap_or(until));
    tokio::pin!(breaking);
    loop {
        tokio::select! {
            done = &mut breaking => {
                done?;
                break;
            }
            () = tokio::time::sleep(EVERY) => ground.counts(),
        }
    }
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    ground.diary.note("faults are over; waiting for everything to come to rest");
    let under_way = ground.rest().await;
    background.abort_all();
    ground.judge(under_way, &recovery).await
}

async fn back_up(redis: Arc<Mutex<Redis>>, diary: Arc<Diary>) {
    loop {
        if let Err(error) = redis.lock().await.back_up().await {
            diary.note(&format!("no backup: {error:#}"));
        }
        tokio::time::sleep(BACKUPS).await;
    }
}

// === impl Ground ===

impl Ground {
    /// What both providers have taken.
    fn mails(&self) -> Vec<Mail> {
        let mut mails = self.sink.mails();
        mails.extend(self.relay.mails());
        mails
    }

    fn counts(&self) {
        let (acknowledged, waiting) = self.people.events();
        let faults = self.diary.faults();
        let halted: Vec<String> = self
            .directory
            .owners(SystemClock.now())
            .into_iter()
            .filter_map(|o| o.progress.halted.map(|why| (o.progress.partition.to_string(), why)))
            .map(|(partition, why)| {
                let what = format!("{partition}: {why}");
                if !faults.iter().any(|fault| fault.halts(&partition, now())) {
                    self.diary.complain(&format!("halted: {what}"));
                }
                what
            })
            .collect();
        self.diary.note(&format!(
            "{acknowledged} events acknowledged, {waiting} waiting; {} mails; {} faults, {} under way; {} ended by themselves{}",
            self.mails().len(),
            faults.len(),
            faults.iter().filter(|f| f.until == 0).count(),
            self.fleet.ended_by_themselves.load(Ordering::Relaxed),
            if halted.is_empty() { String::new() } else { format!("; HALTED {}", halted.join(", ")) }
        ));
    }

    /// Waits until nobody has anything to say, every inbox is folded to its end and nothing is under way; else what is.
    async fn rest(&self) -> Option<String> {
        let began = Instant::now();
        let mut said = Instant::now();
        let mut quiet = 0;
        let mut under_way = String::new();
        while began.elapsed() < REST {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let open = match self.open().await {
                Ok(open) => open,
                Err(error) => vec![format!("{error:#}")],
            };
            quiet = if open.is_empty() { quiet + 1 } else { 0 };
            if quiet == 3 {
                self.diary.note("everything has come to rest");
                return None;
            }
            if let Some(first) = open.first() {
                under_way = format!("{} things under way, such as: {first}", open.len());
            }
            if said.elapsed() > EVERY {
                said = Instant::now();
                self.counts();
                if !open.is_empty() {
                    self.diary.note(&under_way);
                }
            }
        }
        self.diary.note(&format!("not at rest after {} s", REST.as_secs()));
        Some(under_way)
    }

    async fn open(&self) -> anyhow::Result<Vec<String>> {
        let mut open = Vec::new();
        if !self.people.are_done() {
            open.push("people who have something to say".to_owned());
        }
        // What was there before the store was looked at must be folded in it.
        let ends = holdings::ends(&self.log).await?;
        let holdings = self.holdings().await?;
        for (partition, end) in ends {
            let off = holdings.offsets().get(&partition).copied().unwrap_or(0);
            // ticks go on; one of them may be on its way
            if off + 2 < end {
                open.push(format!("{partition} is at {off} of {end}"));
            }
        }
        open.extend(holdings.unsettled()?);
        open.extend(holdings.open_channels());
        Ok(open)
    }

    async fn holdings(&self) -> anyhow::Result<Holdings> {
        let redis = self.redis.lock().await;
        Holdings::read(redis.port(), &self.install).await
    }

    async fn judge(&self, under_way: Option<String>, recovery: &Recovery) -> anyhow::Result<Outcome> {
        // What is told follows what is committed; the reader may be a moment behind.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (decisions, messages) = (self.told.decisions(), self.told.messages());
        self.refold().await?;
        let senders = oracle::senders::read(&self.log).await.context("reading the senders' inboxes")?;
        let (mails, faults) = (self.mails(), self.diary.faults());
        let evidence = Evidence {
            people: self.people.all(),
            holdings: self.holdings().await.context("reading the store")?,
            missing: [decisions.missing, messages.missing].concat(),
            strange: [decisions.strange, messages.strange].concat(),
            decisions: decisions.rows,
            messages: messages.rows,
            unfenced: oracle::fence::broken(&senders, &mails)?,
            doubts: oracle::doubts::of(&senders)?,
            complaints: self.diary.complaints(),
            letters: self.told.dead.count(),
            ran: Ran { lasted: self.settings.lasts, faults: faults.len(), restricted: !self.settings.only.is_empty(), under_way },
            mails,
            faults,
        };
        let verdict = oracle::judge(&evidence);
        self.report(&evidence, &verdict, recovery);
        let line = format!(
            "chaos: {} faults, {} min, {} events, {} sends, {}: {verdict}",
            evidence.faults.len(),
            self.settings.lasts.as_secs().div_ceil(60),
            verdict.events,
            verdict.sends,
            recovery.line()
        );
        say(&line);
        Ok(Outcome { verdict, line })
    }

    /// A partition of each role, folded anew from its log, must be what the store holds.
    async fn refold(&self) -> anyhow::Result<()> {
        let mut chance = Chance::new(self.settings.seed).fork();
        for role in Role::KEYED {
            let partition = PartitionId { role, index: u32::try_from(chance.below(PARTITIONS.into()))? };
            match self.fleet.refold(partition).await? {
                Ok(same) => self.diary.note(&format!("{partition} folded again from its log: {same}")),
                Err(told) => self.diary.complain(&format!("{partition} folded again from its log is not what the store holds: {told}")),
            }
        }
        Ok(())
    }

    fn report(&self, evidence: &Evidence, verdict: &Verdict, recovery: &Recovery) {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for fault in &evidence.faults {
            *kinds.entry(fault.kind).or_default() += 1;
        }
        let list = |counts: &BTreeMap<&str, usize>| counts.iter().map(|(kind, n)| format!("{kind} {n}")).collect::<Vec<_>>().join(", ");
        say(&format!("faults: {}", list(&kinds)));
        let (times, partitions) = self.diary.losses();
        say(&format!("Redis lost acknowledged commits {times} times, of {partitions} partitions in all"));
        say(&format!("{}: until the first commit by another owner or life", recovery.line()));
        say(&format!(
            "{} people ({} of two halves), {} runs judged, {} sends that a stop came in time for, {} mails received",
            evidence.people.len(),
            verdict.merged,
            verdict.runs.0,
            verdict.runs.1,
            evidence.mails.len()
        ));
        say(&format!("{} messages that must arrive, sent {} times more in doubt", verdict.tickets.0, verdict.tickets.1));
        let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
        for unknown in &verdict.unknown {
            *causes.entry(unknown.fault.0).or_default() += 1;
        }
        say(&format!("{} messages whose outcome nobody knows, by the fault that caused it: {}", verdict.unknown.len(), list(&causes)));
        for Unknown { message, since, fault: (kind, number) } in &verdict.unknown {
            say(&format!("  {message}, called at {} s: fault {number}, {kind}", self.diary.seconds_at(*since)));
        }
        say(&format!("{} processes ended by themselves", self.fleet.ended_by_themselves.load(Ordering::Relaxed)));
        for finding in verdict.findings.iter().take(60) {
            let person = finding.person.map_or(String::new(), |p| format!(" person {p}:"));
            say(&format!("  {:?}:{person} {}", finding.wrong, finding.what));
        }
        if verdict.is_good() {
            return;
        }
        say(&format!("seed {}; logs, data and trails are kept in {}", self.settings.seed, self.settings.folder.display()));
        let mut concerned: Vec<usize> = verdict.findings.iter().filter_map(|f| f.person).collect();
        concerned.dedup();
        for person in concerned.into_iter().take(5) {
            self.trail(evidence, person);
        }
    }

    /// What was said by one person, and what Waypost says of it.
    fn trail(&self, evidence: &Evidence, number: usize) {
        let Some(person) = evidence.people.get(number) else { return };
        say(&format!("--- person {number}, {}", person.plot));
        for said in &person.said {
            say(&format!(
                "    {:?} as {:?} from {} to {:?}, {} tries",
                said.what, said.names, said.first_tried, said.acknowledged, said.tries
            ));
        }
        for row in evidence.decisions.iter().filter(|row| row.key.get(1..).is_some_and(|key| key == number.to_string())) {
            say(&format!(
                "    {} {} {} {} {} {} at {} {}",
                row.what,
                row.journey,
                row.key,
                row.step,
                row.reason,
                row.cause,
                row.at.millis(),
                row.profile
            ));
        }
        let name = person.said.first().and_then(|said| said.names.first());
        if let Some((class, value)) = name {
            for command in [&["explain"][..], &["profile", "show"]] {
                let who = format!("{}:{value}", class.as_str());
                let text = self.fleet.ctl(&[command, &[who.as_str()]].concat()).unwrap_or_else(|e| format!("{e:#}"));
                text.lines().take(60).for_each(|line| say(&format!("    {line}")));
            }
        }
    }
}
