//! Laws of the union: in any order, in any grouping, any number of times; and of the import: it comes to
//! what would have been decided had both halves been one from the start.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::state::{Bounced, Fact, JourneyProfile, PastRun, Run, RunSend, SendLogEntry, SendState, Trail};

use super::{
    harness::{World, shop},
    stories::{ANA, CART},
};
use crate::journey::{MAX_FACT_BYTES, MAX_FACTS, MAX_PAST, MAX_SENDS, MAX_TRAIL, facts, unite};

/// A small pseudo-random source: the laws are tried on a few hundred states, the same ones every time.
pub(super) struct Dice(pub(super) u64);

// === impl Dice ===

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn time(&mut self) -> i64 {
        i64::try_from(self.roll(1_000)).unwrap()
    }

    fn id(&mut self) -> Bytes {
        Bytes::copy_from_slice(&[u8::try_from(self.roll(12)).unwrap(); 16])
    }

    fn state(&mut self) -> SendState {
        [SendState::Decided, SendState::Accepted, SendState::Stopped, SendState::Recalling, SendState::Unknown]
            [usize::try_from(self.roll(5)).unwrap()]
    }

    /// What has one id has one origin: everything but what is learned about it later follows from the id.
    fn profile(&mut self) -> JourneyProfile {
        let fixed = |id: &Bytes| i64::from(id[0]) * 10;
        let mut profile = JourneyProfile { now: self.time(), ..JourneyProfile::default() };
        for _ in 0..self.roll(4) {
            let id = self.id();
            let send = self.id();
            profile.runs.push(Run {
                journey: format!("j{}", id[0] % 3),
                key: "k".to_owned(),
                entered_at: fixed(&id),
                arrived_at: self.time(),
                sends: vec![RunSend { decided_at: fixed(&send), id: send, state: self.state().into(), ..RunSend::default() }],
                id,
                ..Run::default()
            });
        }
        profile.runs.sort_by(|a, b| (a.entered_at, &a.id).cmp(&(b.entered_at, &b.id)));
        profile.runs.dedup_by(|a, b| a.id == b.id);
        for _ in 0..self.roll(5) {
            let id = self.id();
            profile.sends.push(SendLogEntry { at: fixed(&id), id, state: self.state().into(), ..SendLogEntry::default() });
            let id = self.id();
            profile.facts.push(Fact { name: "seen".to_owned(), message_id: format!("m{}", id[0]), at: fixed(&id), ..Fact::default() });
            profile.past.push(PastRun { journey: format!("j{}", self.roll(3)), exited_at: self.time(), ..PastRun::default() });
            profile.trail.push(Trail { at: self.time(), ..Trail::default() });
            profile.ids.push(self.id());
            profile.losers.push(self.id());
            profile.draining.push(self.id());
            profile.bounced.push(Bounced { address_key: self.id(), at: self.time() });
        }
        profile.trail.sort_by_key(|t| t.at);
        // Stored states are unions already.
        unite(&profile, &JourneyProfile::default())
    }
}

#[test]
fn the_union_of_halves_is_commutative_associative_and_idempotent() {
    let mut dice = Dice(7);
    for round in 0..300 {
        let (a, b, c) = (dice.profile(), dice.profile(), dice.profile());
        assert_eq!(unite(&a, &a), a, "round {round}: idempotent");
        assert_eq!(unite(&a, &b), unite(&b, &a), "round {round}: commutative");
        assert_eq!(unite(&unite(&a, &b), &c), unite(&a, &unite(&b, &c)), "round {round}: associative");
        assert_eq!(unite(&unite(&a, &b), &b), unite(&a, &b), "round {round}: absorbing");
    }
}

/// A life of events of which many fall together, some long: what a profile keeps of them, and all of them.
fn life(dice: &mut Dice, half: &str) -> (Vec<Fact>, Vec<Fact>) {
    let (mut kept, mut all) = (Vec::new(), Vec::new());
    let (mut at, events, long) = (0, dice.roll(130), dice.roll(3) == 0);
    for n in 0..events {
        at += i64::try_from(dice.roll(4)).unwrap();
        // A record that was passed on keeps its earlier time.
        let passed = if dice.roll(10) == 0 { dice.roll(5) } else { 0 };
        let name = "x".repeat(if long { usize::try_from(dice.roll(900)).unwrap() } else { 1 } + 1);
        let fact = Fact { name, at: (at - i64::try_from(passed).unwrap()).max(0), message_id: format!("{half}{n}"), ..Fact::default() };
        all.push(fact.clone());
        kept = facts::unite(&kept, &[fact]);
    }
    (kept, all)
}

#[test]
fn beyond_the_limits_a_union_stays_within_them_and_says_up_to_when_facts_have_fallen() {
    let mut dice = Dice(23);
    let (mut fallen, mut whole) = (0, 0);
    for round in 0..200 {
        let ((a, all_of_a), (b, all_of_b)) = (life(&mut dice, "a"), life(&mut dice, "b"));
        let both = facts::unite(&a, &b);
        assert_eq!(both, facts::unite(&b, &a), "round {round}: from either side");
        let bytes: usize = both.iter().map(Fact::encoded_len).sum();
        assert!(both.len() <= MAX_FACTS && bytes <= MAX_FACT_BYTES + 8, "round {round}: {} facts of {bytes} bytes", both.len());
        // What a run is judged by at the merge, and afterwards.
        for (known, happened) in [(&a, vec![&all_of_a]), (&b, vec![&all_of_b]), (&both, vec![&all_of_a, &all_of_b])] {
            let until = facts::forgotten_until(known);
            for fact in happened.into_iter().flatten() {
                let kept = known.iter().any(|k| k.message_id == fact.message_id);
                // A run that this could have ended began no later; it exits `MERGED`.
                assert!(kept || until.is_some_and(|until| fact.at < until), "round {round}: {fact:?} fell and nobody says so");
                fallen += usize::from(!kept);
            }
            whole += usize::from(until.is_none());
        }
    }
    assert!(fallen > 5_000 && whole > 20, "both are tried: {fallen} fell, {whole} lists are whole");
}

#[test]
fn beyond_the_limits_the_logs_of_a_profile_keep_their_newest() {
    let mut dice = Dice(29);
    for round in 0..60 {
        let mut half = |name: u8| {
            let mut profile = JourneyProfile::default();
            for n in 0..dice.roll(400) {
                let id = Bytes::from(vec![name, u8::try_from(n / 256).unwrap(), u8::try_from(n % 256).unwrap()]);
                let at = dice.time();
                profile.sends.push(SendLogEntry { at, id: id.clone(), ..SendLogEntry::default() });
                profile.past.push(PastRun { journey: format!("{name}-{n}"), exited_at: at, ..PastRun::default() });
                profile.trail.push(Trail { at, run: id, ..Trail::default() });
            }
            profile.trail.sort_by_key(|t| t.at);
            unite(&profile, &JourneyProfile::default())
        };
        let (a, b) = (half(1), half(2));
        let both = unite(&a, &b);
        assert_eq!(both, unite(&b, &a), "round {round}: from either side");
        assert!(both.sends.len() <= MAX_SENDS && both.past.len() <= MAX_PAST && both.trail.len() <= MAX_TRAIL, "round {round}");
        let oldest = both.sends.first().map_or(0, |s| s.at);
        for send in a.sends.iter().chain(&b.sends).filter(|s| !both.sends.contains(s)) {
            assert!(both.sends.len() == MAX_SENDS && send.at <= oldest, "round {round}: a send fell for an older one");
        }
    }
}

#[test]
fn two_halves_that_meet_in_time_send_what_one_person_would_have_been_sent() {
    let ws = shop(CART);
    let mut dice = Dice(11);
    let mut stopped = 0;
    for round in 0..200 {
        let mut lines: Vec<(u64, bool)> = (0..=dice.roll(6)).map(|_| (dice.roll(50), dice.roll(3) == 0)).collect();
        lines.sort_unstable();
        lines.dedup_by_key(|l| l.0);
        let line = |(minute, order): &(u64, bool)| {
            let what = if *order { "event Order Completed order_id=o" } else { "event Cart Updated cart_id=k1 with cart k1 open" };
            format!("{minute}m {what}\n")
        };
        let whole: String = lines.iter().map(line).collect();
        let touches: String = lines.iter().filter(|l| !l.1).map(line).collect();
        let orders: String = lines.iter().filter(|l| l.1).map(line).collect();

        let one = World::of(&ws, 1).with(&format!("{ANA}{whole}200m ."));
        let device = World::of(&ws, 2).with(&touches);
        let carts = device.state.person.clone();
        let mut ana = World::of(&ws, 1).with(&format!("{ANA}{orders}55m ."));
        ana.merge(device, carts.as_ref());
        ana.play("200m .");
        assert_eq!(ana.sent(), one.sent(), "round {round}: {whole}");
        stopped += usize::from(one.sent().is_empty());
    }
    assert!((40..160).contains(&stopped), "both ways are tried: {stopped}");
}
