//! Whether a process lives, and whether it is ready. A pure look at facts; who asks brings them.

use waypost_types::{Role, Span, Timestamp};

use crate::stack::{metered::Answer, pulse::Brokers};

/// A role's thread that has shown nothing for so long is stuck for good; whoever starts processes may start another.
const STUCK: Span = Span::from_secs(300);
/// A door whose log has been away for so long sends its callers elsewhere.
const AWAY: Span = Span::from_secs(30);

/// What is known of a process.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) now: Timestamp,
    /// Everything that is to listen does.
    pub(super) is_serving: bool,
    /// It is going.
    pub(super) is_draining: bool,
    /// Keyed roles.
    pub(super) roles: Vec<RoleFacts>,
    /// The set of definitions in force: its number, and whether all its bodies are here. None: none was ever published.
    pub(super) definitions: Option<(u64, bool)>,
    /// Of a process with a door: whether it knows the write keys.
    pub(super) keys: Option<bool>,
    pub(super) brokers: Brokers,
    /// The store's last answer; none: nobody here asks it.
    pub(super) store: Option<Answer>,
}

/// What is known of a keyed role.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoleFacts {
    pub(super) role: Role,
    /// It has its place in its group.
    pub(super) is_member: bool,
    /// It has had one.
    pub(super) has_joined: bool,
    /// So many of its partitions have halted.
    pub(super) halted: usize,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// As it is asked for: `/readyz/kafka`.
    pub(super) name: &'static str,
    pub(super) state: State,
    /// For people.
    pub(super) says: String,
}

/// What it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Good,
    /// Wrong, and no reason to send nobody here.
    Warns,
    Bad,
}

// === impl Facts ===

impl Facts {
    /// Everything that readiness rests on, and what people should know.
    pub(super) fn checks(&self) -> Vec<Check> {
        let mut checks = vec![self.drain(), self.doors(), self.definitions()];
        checks.extend(self.keys.map(|known| {
            let says = if known { "the write keys in force are known" } else { "the write keys in force are not known yet" };
            Check::of("keys", known || self.definitions.is_none(), says)
        }));
        checks.extend(self.roles.iter().map(RoleFacts::check));
        checks.extend([self.kafka(), self.redis()]);
        checks
    }

    fn drain(&self) -> Check {
        Check::of("drain", !self.is_draining, if self.is_draining { "the process is ending" } else { "not draining" })
    }

    fn doors(&self) -> Check {
        let says = if self.is_serving { "the start-up check passed, and all that listens does" } else { "not everything listens yet" };
        Check::of("doors", self.is_serving, says)
    }

    fn definitions(&self) -> Check {
        match self.definitions {
            None => Check::of("definitions", true, "none was ever published"),
            Some((set, true)) => Check::of("definitions", true, format!("set {set} is here")),
            // Partitions wait for it where it comes into force, as they would in any other process.
            Some((set, false)) => Check::warning("definitions", format!("set {set} is in force, and not all of it has arrived")),
        }
    }

    fn kafka(&self) -> Check {
        let away = self.now.since(self.brokers.answered);
        match self.brokers.up {
            Some(0) if self.keys.is_some() && away > AWAY => Check::of("kafka", false, silent(away)),
            Some(0) => Check::warning("kafka", silent(away)),
            Some(1) => Check::of("kafka", true, "1 broker"),
            Some(brokers) => Check::of("kafka", true, format!("{brokers} brokers")),
            None => Check::of("kafka", true, "not asked since the start-up check"),
        }
    }

    fn redis(&self) -> Check {
        match self.store {
            Some(Answer::Good) => Check::of("redis", true, "has answered"),
            Some(Answer::NoneSince(since)) => Check::warning("redis", silent(self.now.since(since))),
            None => Check::of("redis", true, "not asked by this process"),
        }
    }
}

// === impl RoleFacts ===

impl RoleFacts {
    fn check(&self) -> Check {
        let name = self.role.as_str();
        let mut check = match (self.has_joined, self.is_member) {
            (false, _) => Check::of(name, false, "has not joined its group yet"),
            (true, true) => Check::of(name, true, "has its place in its group"),
            // Who has its partitions now is for the group to say.
            (true, false) => Check::warning(name, "has lost its place in its group, and joins again"),
        };
        if self.halted > 0 {
            check.says = format!("{}; {} of its partitions here have halted, /partitions says why", check.says, self.halted);
            check.state = check.state.worse(State::Warns);
        }
        check
    }
}

fn silent(span: Span) -> String {
    format!("no answer for {} s", span.millis() / 1_000)
}

/// A role whose thread has stood still for too long; `slowest` showed something last at the instant beside it.
pub(super) fn stuck(slowest: Option<(Role, Timestamp)>, now: Timestamp) -> Option<Role> {
    slowest.filter(|(_, beat)| now.since(*beat) > STUCK).map(|(role, _)| role)
}

/// Whether a process may be sent work.
pub(super) fn is_ready(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.state != State::Bad)
}

/// A line a check, and what comes of them.
pub(super) fn verbose(checks: &[Check]) -> String {
    let lines: String = checks.iter().map(Check::line).collect();
    format!("{lines}{}\n", if is_ready(checks) { "ready" } else { "not ready" })
}

// === impl Check ===

impl Check {
    fn of(name: &'static str, is_good: bool, says: impl Into<String>) -> Self {
        Self { name, state: if is_good { State::Good } else { State::Bad }, says: says.into() }
    }

    fn warning(name: &'static str, says: impl Into<String>) -> Self {
        Self { name, state: State::Warns, says: says.into() }
    }

    pub(super) fn line(&self) -> String {
        let mark = match self.state {
            State::Good => '+',
            State::Warns => '!',
            State::Bad => '-',
        };
        format!("[{mark}] {}: {}\n", self.name, self.says)
    }
}

// === impl State ===

impl State {
    fn worse(self, other: Self) -> Self {
        if self == Self::Bad { self } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn ready() -> Facts {
        Facts {
            now: at(100),
            is_serving: true,
            is_draining: false,
            roles: vec![role(true, true, 0)],
            definitions: Some((3, true)),
            keys: None,
            brokers: Brokers { up: Some(3), answered: at(98) },
            store: Some(Answer::Good),
        }
    }

    fn role(has_joined: bool, is_member: bool, halted: usize) -> RoleFacts {
        RoleFacts { role: Role::Sender, is_member, has_joined, halted }
    }

    fn told(facts: &Facts, name: &str) -> State {
        facts.checks().into_iter().find(|check| check.name == name).unwrap().state
    }

    #[test]
    fn whoever_has_all_it_needs_is_ready() {
        assert!(is_ready(&ready().checks()), "{}", verbose(&ready().checks()));
        let door = Facts { roles: Vec::new(), keys: Some(true), store: None, ..ready() };
        assert!(is_ready(&door.checks()), "{}", verbose(&door.checks()));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (facts, name) in [
            (Facts { is_draining: true, ..ready() }, "drain"),
            (Facts { is_serving: false, ..ready() }, "doors"),
            (Facts { keys: Some(false), ..ready() }, "keys"),
            (Facts { roles: vec![role(false, false, 0)], ..ready() }, "sender"),
        ] {
            assert_eq!(told(&facts, name), State::Bad, "{name}");
            assert!(!is_ready(&facts.checks()) && verbose(&facts.checks()).contains(&format!("[-] {name}: ")), "{name}");
        }
    }

    #[test]
    fn whoever_has_lost_its_place_is_told_and_stays_ready() {
        let facts = Facts { roles: vec![role(true, false, 0)], ..ready() };
        assert_eq!(told(&facts, "sender"), State::Warns);
        assert!(is_ready(&facts.checks()));
    }

    #[test]
    fn an_installation_without_definitions_is_ready_for_the_first() {
        let facts = Facts { definitions: None, keys: Some(false), ..ready() };
        assert!(is_ready(&facts.checks()), "{}", verbose(&facts.checks()));
    }

    #[test]
    fn a_log_that_is_away_closes_a_door_after_half_a_minute_and_nothing_else() {
        let away = |keys, answered| Facts { keys, brokers: Brokers { up: Some(0), answered: at(answered) }, ..ready() };
        for (facts, expected) in [(away(Some(true), 71), State::Warns), (away(Some(true), 69), State::Bad), (away(None, 0), State::Warns)] {
            assert_eq!(told(&facts, "kafka"), expected, "{facts:?}");
        }
    }

    #[test]
    fn a_store_that_is_away_and_a_halted_partition_are_told_and_close_nothing() {
        let facts = Facts { store: Some(Answer::NoneSince(at(1))), roles: vec![role(true, true, 2)], ..ready() };
        let text = verbose(&facts.checks());
        assert!(is_ready(&facts.checks()), "{text}");
        assert!(text.contains("[!] redis: no answer for 99 s") && text.contains("[!] sender: ") && text.ends_with("\nready\n"), "{text}");
    }

    #[test]
    fn a_thread_that_shows_nothing_for_minutes_is_stuck() {
        let now = at(1_000);
        assert_eq!(stuck(None, now), None);
        assert_eq!(stuck(Some((Role::Sender, at(701))), now), None);
        assert_eq!(stuck(Some((Role::Sender, at(699))), now), Some(Role::Sender));
    }
}
