//! What is broken, when, and for how long: drawn from the seed, several at once, healed one by one.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex, MutexGuard},
    task::JoinSet,
    time::Instant,
};
use waypost_redis::Keys;
use waypost_runtime::{host::SystemClock, install::InstallRecord, ports::Clock as _};
use waypost_types::Role;

use super::{
    chance::Chance,
    fleet::{Fleet, Seat},
    holdings::Holdings,
    kafka::Kafka,
    link::{Link, Mode},
    recovery::Recovery,
    redis::Redis,
    relay::{self, Relay},
    sink::{self, Sink},
    story::Diary,
};

/// Everything that can be broken.
#[derive(Debug)]
pub struct Breakable {
    /// Processes and their roads.
    pub fleet: Arc<Fleet>,
    /// Brokers.
    pub kafka: Arc<Kafka>,
    /// The store.
    pub redis: Arc<Mutex<Redis>>,
    /// The mail server.
    pub sink: Arc<Sink>,
    /// The relay.
    pub relay: Arc<Relay>,
    /// Where faults are noted.
    pub diary: Arc<Diary>,
    /// Times partitions after a kill.
    pub recovery: Arc<Recovery>,
    install: InstallRecord,
    // Seats and servers that a fault has; each has one at a time.
    taken: std::sync::Mutex<BTreeSet<String>>,
}

/// A kind of fault and how often it is drawn.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    weight: u64,
    run: Run,
}

#[derive(Clone, Copy, Debug)]
enum Run {
    Seat(AtSeat),
    Redis(AtRedis),
    Broker,
    Smtp(sink::Manner),
    Http(relay::Manner),
}

/// To one process or its roads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtSeat {
    Kill,
    Stop { least: u64, most: u64 },
    Leave,
    Join,
    CutRedis,
    CutKafka,
    Slow,
}

/// To the store.
#[derive(Clone, Copy, Debug)]
enum AtRedis {
    Restart,
    Tail,
    Failover,
    Split,
    Restore,
    Drop,
}

const fn kind(name: &'static str, weight: u64, run: Run) -> Kind {
    Kind { name, weight, run }
}

const KINDS: [Kind; 31] = [
    kind("kill", 20, Run::Seat(AtSeat::Kill)),
    kind("pause", 5, Run::Seat(AtSeat::Stop { least: 1_000, most: 6_000 })),
    // past the session timeout of 10 s: it wakes up as a zombie
    kind("zombie", 9, Run::Seat(AtSeat::Stop { least: 12_000, most: 17_000 })),
    kind("leave", 7, Run::Seat(AtSeat::Leave)),
    kind("join", 6, Run::Seat(AtSeat::Join)),
    kind("cut-redis", 8, Run::Seat(AtSeat::CutRedis)),
    kind("cut-kafka", 8, Run::Seat(AtSeat::CutKafka)),
    kind("slow", 5, Run::Seat(AtSeat::Slow)),
    kind("redis-restart", 4, Run::Redis(AtRedis::Restart)),
    kind("redis-tail", 4, Run::Redis(AtRedis::Tail)),
    kind("redis-failover", 6, Run::Redis(AtRedis::Failover)),
    kind("redis-split", 4, Run::Redis(AtRedis::Split)),
    kind("redis-restore", 4, Run::Redis(AtRedis::Restore)),
    kind("redis-drop", 2, Run::Redis(AtRedis::Drop)),
    kind("broker", 6, Run::Broker),
    kind("smtp-silent", 3, Run::Smtp(sink::Manner::Silent)),
    kind("smtp-dies", 4, Run::Smtp(sink::Manner::DiesAfterData)),
    kind("smtp-mute", 3, Run::Smtp(sink::Manner::SilentAfterData)),
    kind("smtp-slow", 2, Run::Smtp(sink::Manner::Slow)),
    kind("smtp-resets", 2, Run::Smtp(sink::Manner::Closed)),
    kind("smtp-busy", 2, Run::Smtp(sink::Manner::Busy)),
    kind("smtp-429", 2, Run::Smtp(sink::Manner::Throttles)),
    kind("smtp-refuses", 2, Run::Smtp(sink::Manner::Refuses)),
    kind("http-slow", 2, Run::Http(relay::Manner::Slow)),
    kind("http-429", 2, Run::Http(relay::Manner::Throttles)),
    kind("http-503", 2, Run::Http(relay::Manner::Fails)),
    kind("http-502", 2, Run::Http(relay::Manner::Unsure)),
    kind("http-resets", 2, Run::Http(relay::Manner::Resets)),
    kind("http-dies", 3, Run::Http(relay::Manner::DiesAfterwards)),
    kind("http-mute", 3, Run::Http(relay::Manner::Mute)),
    kind("http-refuses", 1, Run::Http(relay::Manner::Refuses)),
];

/// How soon a lost field must be noticed after a claim, on a machine that is busy with other things too.
const DETECTED_WITHIN: Duration = Duration::from_mins(4);

/// How many faults follow each other before everything may come to rest.
const BETWEEN_CALMS: usize = 5;

// === impl Breakable ===

impl Breakable {
    /// With nothing broken.
    pub fn new(
        fleet: Arc<Fleet>,
        kafka: Arc<Kafka>,
        redis: Arc<Mutex<Redis>>,
        (sink, relay): (Arc<Sink>, Arc<Relay>),
        diary: Arc<Diary>,
        recovery: Arc<Recovery>,
        install: InstallRecord,
    ) -> Self {
        Self { fleet, kafka, redis, sink, relay, diary, recovery, install, taken: std::sync::Mutex::default() }
    }

    /// Breaks things until `until`; returns when all is whole again.
    ///
    /// # Errors
    /// If a server does not come up again: then the run says nothing.
    pub async fn run(self: Arc<Self>, mut chance: Chance, only: &[String], until: Instant) -> anyhow::Result<()> {
        let kinds: Vec<Kind> = KINDS
            .into_iter()
            .filter(|k| if only.is_empty() { k.weight > 0 } else { only.iter().any(|name| name == k.name) })
            .map(|k| Kind { weight: k.weight.max(1), ..k })
            .collect();
        anyhow::ensure!(!kinds.is_empty(), "no such kind of fault: {only:?}");
        let mut active = JoinSet::new();
        let mut since_calm = 0;
        loop {
            let gap = Duration::from_millis(chance.between(800, 8_000));
            if Instant::now() + gap >= until {
                break;
            }
            tokio::time::sleep(gap).await;
            while let Some(ended) = active.try_join_next() {
                ended??;
            }
            let Some((kind, target)) = self.draw(&mut chance, &kinds, until) else { continue };
            let (this, own) = (Arc::clone(&self), chance.fork());
            active.spawn(async move { this.inject(kind, target, own).await });
            since_calm += 1;
            if since_calm >= BETWEEN_CALMS {
                since_calm = 0;
                while let Some(ended) = active.join_next().await {
                    ended??;
                }
                tokio::time::sleep(Duration::from_millis(chance.between(1_000, 9_000))).await;
            }
        }
        while let Some(ended) = active.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// A kind and what it happens to, which is taken; none where all that was drawn is taken already.
    fn draw(&self, chance: &mut Chance, kinds: &[Kind], until: Instant) -> Option<(Kind, Target)> {
        for _ in 0..20 {
            let mut at = chance.below(kinds.iter().map(|k| k.weight).sum());
            let kind = kinds.iter().find(|k| {
                let here = at < k.weight;
                at = at.saturating_sub(k.weight);
                here
            })?;
            let target = self.target(*kind, chance);
            // A retry half a minute later should not keep the end of the run waiting.
            let late = matches!(kind.run, Run::Smtp(_) | Run::Http(_))
                && until.saturating_duration_since(Instant::now()) < Duration::from_secs(35);
            if !late && self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name(target)) {
                return Some((*kind, target));
            }
        }
        None
    }

    fn target(&self, kind: Kind, chance: &mut Chance) -> Target {
        let seats = |wanted: &dyn Fn(&Seat) -> bool| -> Vec<usize> {
            self.fleet.seats.iter().enumerate().filter(|(_, s)| wanted(s)).map(|(i, _)| i).collect()
        };
        let third = |seat: &Seat| seat.name.ends_with('3');
        let at_seat = match kind.run {
            Run::Seat(at_seat) => at_seat,
            Run::Redis(_) => return Target::Redis,
            Run::Broker => return Target::Broker(chance.index(self.kafka.count())),
            Run::Smtp(_) => return Target::Smtp,
            Run::Http(_) => return Target::Http,
        };
        let candidates = match at_seat {
            AtSeat::Kill => seats(&|s| !third(s)),
            AtSeat::Join => seats(&third),
            AtSeat::CutRedis => seats(&|s| !third(s) && Role::KEYED.contains(&s.role)),
            AtSeat::Leave | AtSeat::Stop { .. } | AtSeat::CutKafka | AtSeat::Slow => seats(&|s| !third(s) && s.role != Role::Control),
        };
        Target::Seat(candidates[chance.index(candidates.len())])
    }

    fn name(&self, target: Target) -> String {
        match target {
            Target::Seat(seat) => self.fleet.seats[seat].name.clone(),
            Target::Redis => "redis".to_owned(),
            // one at a time: two of three must have a record
            Target::Broker(_) => "kafka".to_owned(),
            Target::Smtp => "smtp".to_owned(),
            Target::Http => "http".to_owned(),
        }
    }

    async fn inject(&self, kind: Kind, target: Target, mut chance: Chance) -> anyhow::Result<()> {
        let done = match (kind.run, target) {
            (Run::Seat(what), Target::Seat(seat)) => self.at_seat(kind.name, what, seat, &mut chance).await,
            (Run::Redis(what), _) => self.at_redis(kind.name, what, &mut chance).await,
            (Run::Broker, Target::Broker(broker)) => self.at_broker(kind.name, broker, &mut chance).await,
            (Run::Smtp(manner), _) => {
                let fault = self.at_provider(kind.name, &mut chance, || self.sink.behave(manner)).await;
                self.sink.behave(sink::Manner::Well);
                self.diary.end(fault);
                Ok(())
            }
            (Run::Http(manner), _) => {
                let fault = self.at_provider(kind.name, &mut chance, || self.relay.behave(manner)).await;
                self.relay.behave(relay::Manner::Well);
                self.diary.end(fault);
                Ok(())
            }
            (Run::Seat(_) | Run::Broker, _) => Ok(()),
        };
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name(target));
        done
    }

    async fn at_broker(&self, kind: &'static str, broker: usize, chance: &mut Chance) -> anyhow::Result<()> {
        let pause = Duration::from_millis(chance.between(500, 6_000));
        let fault = self.diary.begin(kind, &format!("kafka-{}", broker + 1), &format!("for {}", seconds(pause)));
        self.kafka.kill(broker).await;
        tokio::time::sleep(pause).await;
        let done = self.kafka.revive(broker).await;
        self.diary.end(fault);
        done
    }

    async fn at_provider(&self, kind: &'static str, chance: &mut Chance, misbehave: impl FnOnce()) -> usize {
        let lasts = Duration::from_millis(chance.between(3_000, 9_000));
        let fault = self.diary.begin(kind, "", &format!("for {}", seconds(lasts)));
        misbehave();
        tokio::time::sleep(lasts).await;
        fault
    }

    async fn at_seat(&self, kind: &'static str, what: AtSeat, index: usize, chance: &mut Chance) -> anyhow::Result<()> {
        let seat = &self.fleet.seats[index];
        let sleep = |least, most, chance: &mut Chance| Duration::from_millis(chance.between(least, most));
        let begin = |detail: &str| self.diary.begin(kind, &seat.name, detail);
        let fault = match what {
            AtSeat::Kill => {
                let pause = sleep(300, 8_000, chance);
                let fault = begin(&format!("back in {}", seconds(pause)));
                self.recovery.killed(&self.redis, seat, || self.fleet.kill(seat)).await;
                tokio::time::sleep(pause).await;
                self.fleet.sit(seat).await?;
                fault
            }
            AtSeat::Stop { least, most } => {
                let lasts = sleep(least, most, chance);
                let fault = begin(&format!("for {}", seconds(lasts)));
                self.fleet.signal(seat, "STOP").await;
                tokio::time::sleep(lasts).await;
                self.fleet.signal(seat, "CONT").await;
                fault
            }
            AtSeat::Leave => {
                let pause = sleep(500, 8_000, chance);
                let fault = begin(&format!("back in {}", seconds(pause)));
                self.fleet.terminate(seat).await;
                tokio::time::sleep(pause).await;
                self.fleet.sit(seat).await?;
                fault
            }
            AtSeat::Join => {
                let lasts = sleep(10_000, 25_000, chance);
                let fault = begin(&format!("for {}", seconds(lasts)));
                self.fleet.sit(seat).await?;
                tokio::time::sleep(lasts).await;
                self.fleet.terminate(seat).await;
                fault
            }
            AtSeat::CutRedis => {
                let mode = if chance.one_in(2) { Mode::Silent } else { Mode::Refused };
                let lasts = sleep(1_000, 14_000, chance);
                let fault = begin(&format!("{mode:?} for {}", seconds(lasts)));
                seat.redis.set(mode);
                tokio::time::sleep(lasts).await;
                seat.redis.heal();
                fault
            }
            AtSeat::CutKafka => {
                let lasts = sleep(2_000, 15_000, chance);
                let mode = if chance.one_in(2) { Mode::Silent } else { Mode::Refused };
                // Of three brokers sometimes one only.
                let one = (seat.kafka.len() > 1 && chance.one_in(2)).then(|| chance.index(seat.kafka.len()));
                let fault =
                    begin(&format!("{mode:?} for {}{}", seconds(lasts), one.map_or(String::new(), |b| format!(", broker {}", b + 1))));
                let links = || seat.kafka.iter().enumerate().filter(move |(i, _)| one.is_none_or(|one| one == *i)).map(|(_, link)| link);
                links().for_each(|link| link.set(mode));
                tokio::time::sleep(lasts).await;
                links().for_each(Link::heal);
                fault
            }
            AtSeat::Slow => {
                let (delay, lasts) = (sleep(10, 150, chance), sleep(4_000, 15_000, chance));
                let fault = begin(&format!("{} ms a piece for {}", delay.as_millis(), seconds(lasts)));
                seat.kafka.iter().for_each(|link| link.delay(delay));
                seat.redis.delay(delay);
                tokio::time::sleep(lasts).await;
                seat.kafka.iter().for_each(Link::heal);
                seat.redis.heal();
                fault
            }
        };
        self.diary.end(fault);
        Ok(())
    }

    async fn at_redis(&self, kind: &'static str, what: AtRedis, chance: &mut Chance) -> anyhow::Result<()> {
        let mut redis = self.redis.lock().await;
        let pause = Duration::from_millis(chance.between(200, 4_000));
        let begin = |detail: &str| self.diary.begin(kind, "", detail);
        let (fault, gone) = match what {
            AtRedis::Restart => {
                let fault = begin(&format!("away for {}", seconds(pause)));
                redis.restart(pause).await?;
                (fault, 0)
            }
            AtRedis::Tail => {
                let bytes = chance.between(200, 60_000);
                (begin(&format!("loses {bytes} bytes of its log")), redis.lose_tail(bytes, pause).await?)
            }
            AtRedis::Failover => {
                let deaf = Duration::from_millis(chance.between(300, 4_000));
                (begin(&format!("loses what it acknowledged in {}", seconds(deaf))), redis.failover(deaf, pause).await?)
            }
            AtRedis::Split => {
                let lasts = Duration::from_millis(chance.between(500, 6_000));
                let there: Vec<usize> = (0..self.fleet.seats.len()).filter(|_| chance.one_in(2)).collect();
                (begin(&format!("two masters for {}", seconds(lasts))), redis.split(&there, lasts, pause).await?)
            }
            AtRedis::Restore => {
                let back = chance.index(3);
                (begin(&format!("an older backup, {back} before the latest")), redis.restore(back).await?)
            }
            AtRedis::Drop => return self.drop_field(kind, redis).await,
        };
        drop(redis);
        self.diary.end(fault);
        self.diary.lose(gone);
        Ok(())
    }
}

/// Somebody's state is gone, and nothing else: the digest must tell, the partition halts, the others go on. An
/// operator restores a backup from before and starts the role anew.
impl Breakable {
    async fn drop_field(&self, kind: &'static str, mut redis: MutexGuard<'_, Redis>) -> anyhow::Result<()> {
        redis.back_up().await?;
        let holdings = Holdings::read(redis.port(), &self.install).await?;
        let Some((partition, entity)) = holdings.oldest()? else { return Ok(()) };
        let fault = self.diary.begin(kind, &partition.to_string(), "a field is gone");
        let key = Keys::new("", &self.install.tags).bucket(partition, entity.bucket());
        redis.drop_field(&key, entity.as_bytes()).await?;
        // Whoever has claimed it looks at it, in the background.
        let owner = || self.recovery.directory.owner(partition, SystemClock.now());
        if let Some(seat) = owner().and_then(|owner| self.fleet.at(&owner.address)) {
            self.fleet.kill(seat).await;
            self.fleet.sit(seat).await?;
        }
        let until = Instant::now() + DETECTED_WITHIN;
        let dropped = SystemClock.now();
        // What was said before is about another loss.
        let halted = || owner().filter(|owner| owner.heard > dropped).and_then(|owner| owner.progress.halted);
        while halted().is_none() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        match halted() {
            Some(why) => self.diary.note(&format!("{partition} has halted: {why}; restoring a backup")),
            None => self.diary.complain(&format!("{partition} lost a field and nobody noticed within {} s", DETECTED_WITHIN.as_secs())),
        }
        let gone = redis.restore(0).await?;
        self.diary.lose(gone);
        for seat in self.fleet.of(partition.role) {
            if self.fleet.is_taken(seat).await {
                self.fleet.kill(seat).await;
                self.fleet.sit(seat).await?;
            }
        }
        self.diary.end(fault);
        Ok(())
    }
}

/// What a fault happens to.
#[derive(Clone, Copy, Debug)]
enum Target {
    Seat(usize),
    Redis,
    Broker(usize),
    Smtp,
    Http,
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
