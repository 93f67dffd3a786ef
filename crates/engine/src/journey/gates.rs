//! The gates in the profile's log (PRODUCT §7.6): each send passes them in order, and the first that
//! stops it gives the one reason code.
//!
//! 6 (hold-outs) and 9 (arbiter, caps) have nothing to decide yet: definitions that would need them are
//! refused when published. Suppressions are kept with the address, where gate 10 asks; gate 2 knows of hard
//! bounces only, which came back to the profile as receipts.

use std::collections::BTreeSet;

use waypost_codec::{
    inbox::{self, Event},
    state::{Check, Run},
};
use waypost_types::{Span, Timestamp};

use super::{
    bounced, exits, is_live, sends,
    turn::{Sight, Turn, check},
};
use crate::{
    address,
    condition::{Facts as _, Root, Truth},
    consent::{self, Question},
    definitions::{Class, Fresh, Journey, Send, Standing},
    localtime::{Window, Zone},
    person,
    template::{self, VariablesError},
};

/// Its journey is paused.
pub(crate) const PAUSED: &str = "JOURNEY_PAUSED";
/// How often a send of a paused journey looks whether that is over. Nobody wakes it: a profile is not told of a
/// resume, and nothing walks over all profiles. So this is also over how long sends go out after a resume.
pub(crate) const LOOK: Span = Span::from_secs(900);

/// A send that wants to go out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'r> {
    pub(crate) run: &'r Run,
    pub(crate) journey: &'r Journey,
    pub(crate) send: &'r Send,
    pub(crate) entry: &'r Event,
    /// Journeys of which another run is live.
    pub(crate) live: &'r BTreeSet<String>,
}

/// What the gates say.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It goes out.
    Pass(Box<Passed>),
    /// It starts again at gate 1 then.
    Defer { until: Timestamp, code: &'static str },
    /// It does not.
    Stop { code: &'static str },
}

/// Where it goes, with what.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) address: String,
    pub(crate) variables: inbox::Value,
}

/// One gate's word against a send.
enum Objection {
    Stop(&'static str),
    Defer(&'static str, Timestamp),
}

type Word = Result<(), Objection>;

/// All gates in order, with everything they looked at.
pub(crate) fn pass(turn: &Turn<'_>, request: &Request<'_>) -> (Verdict, Vec<Check>) {
    let mut checks = Vec::new();
    let verdict = match through(turn, request, &mut checks) {
        Ok(passed) => Verdict::Pass(Box::new(passed)),
        Err(Objection::Stop(code)) => Verdict::Stop { code },
        // A deferral that would outlive the send stops it at once.
        Err(Objection::Defer(code, until)) if until >= sends::valid_until(request.run, request.send) => Verdict::Stop { code },
        Err(Objection::Defer(code, until)) => Verdict::Defer { until, code },
    };
    (verdict, checks)
}

fn through(turn: &Turn<'_>, request: &Request<'_>, checks: &mut Vec<Check>) -> Result<Passed, Objection> {
    run_is_live(request, checks)?;
    journey_goes_on(turn, request, checks)?;
    deliverable(turn, request, checks)?;
    consented(turn, request, checks)?;
    let passed = reachable(turn, request, checks)?;
    guarded(turn, request, checks)?;
    valid(turn, request, checks)?;
    fresh(turn, request, checks)?;
    window(turn, request, checks)?;
    Ok(passed)
}

/// Gate 1.
fn run_is_live(request: &Request<'_>, checks: &mut Vec<Check>) -> Word {
    say(checks, "1 RUN", is_live(request.run), vec![format!("step {}", request.run.step)], None);
    if is_live(request.run) { Ok(()) } else { Err(Objection::Stop("RUN_ENDED")) }
}

/// Gate 1, of the journey.
fn journey_goes_on(turn: &Turn<'_>, request: &Request<'_>, checks: &mut Vec<Check>) -> Word {
    let mut no = |word: &str, until| say(checks, "1 JOURNEY", false, vec![format!("{} {word}", request.journey.name)], until);
    match request.journey.standing {
        Standing::Running => Ok(()),
        Standing::Paused => {
            let look = next_look(turn.now(), request.run);
            no("is paused", Some(look));
            Err(Objection::Defer(PAUSED, look))
        }
        Standing::Killed => {
            no("was killed", None);
            Err(Objection::Stop(exits::JOURNEY_KILLED))
        }
    }
}

/// When a send of a paused journey looks again: each run at its own minutes, the same ones every time, so that what
/// has gathered goes out evenly over [`LOOK`] when the journey is resumed.
fn next_look(now: Timestamp, run: &Run) -> Timestamp {
    let since = now.minus(spread(run)).millis().rem_euclid(LOOK.millis());
    now.plus(LOOK).minus(Span::from_millis(since))
}

/// Gate 2. An erased profile folds nothing, so what comes here is not erased.
fn deliverable(turn: &Turn<'_>, request: &Request<'_>, checks: &mut Vec<Check>) -> Word {
    let channel = &request.send.channel_kind;
    let Some(address) = person::address(turn.person, channel) else { return Ok(()) };
    if !bounced::has(turn.bounced, &address::key(channel, &address.value)) {
        return Ok(());
    }
    say(checks, "2 ADDRESS", false, vec![format!("{channel} refused for good before")], None);
    Err(Objection::Stop("SUPPRESSED_HARD_BOUNCE"))
}

/// Gate 3.
fn consented(turn: &Turn<'_>, request: &Request<'_>, checks: &mut Vec<Check>) -> Word {
    let send = request.send;
    let ruling = consent::resolve(&Question {
        person: turn.person,
        channel: &send.channel_kind,
        topic: send.topic.as_deref(),
        definition: send.topic.as_ref().and_then(|t| turn.ws.topics.get(t)),
        class: send.class,
        address: person::address(turn.person, &send.channel_kind).map(|a| a.value.as_str()),
        now: turn.now(),
    });
    say(checks, "3 CONSENT", ruling.refusal.is_none(), vec![ruling.because], ruling.valid_until);
    ruling.refusal.map_or(Ok(()), |refusal| Err(Objection::Stop(refusal.code())))
}

/// Gate 4: where to, and with what.
fn reachable(turn: &Turn<'_>, request: &Request<'_>, checks: &mut Vec<Check>) -> Result<Passed, Objection> {
    let channel = &request.send.channel_kind;
    let found = person::address(turn.person, channel);
    let code = match found {
        None => Some("ADDRESS_MISSING"),
        Some(address) if address::check(channel, &address.value).is_err() => Some("ADDRESS_INVALID"),
        Some(_) => None,
    };
    // The address itself is nobody's business but the sender's.
    say(checks, "4 ADDRESS", code.is_none(), vec![format!("{channel} {}", if found.is_some() { "present" } else { "missing" })], None);
    let (None, Some(address)) = (code, found) else { return Err(Objection::Stop(code.unwrap_or("ADDRESS_MISSING"))) };
    let Some(template) = turn.ws.templates.get(&request.send.template) else {
        say(checks, "4 FIELDS", false, vec![format!("template {}", request.send.template_name)], None);
        return Err(Objection::Stop("FIELD_MISSING"));
    };
    let sight = Sight { run: request.run, entry: request.entry, event: turn.event };
    let variables = template::variables(template, &turn.facts(sight), &[]).map_err(|error| {
        say(checks, "4 FIELDS", false, vec![error.to_string()], None);
        Objection::Stop(match error {
            VariablesError::Missing { .. } => "FIELD_MISSING",
            VariablesError::Limit { .. } => "RENDER_LIMIT",
        })
    })?;
    Ok(Passed { address: address.value.clone(), variables: waypost_codec::value::to_proto(&variables) })
}

/// Gate 5.
fn guarded(turn: &Turn<'_>, request: &Request<'_>, checks: &mut Vec<Check>) -> Word {
    let class = request.send.class;
    let sight = Sight { run: request.run, entry: request.entry, event: turn.event };
    for guard in request.journey.guards.iter().filter(|g| g.classes.contains(&class)) {
        let check = turn.check(format!("5 GUARD {}", guard.id), &guard.when, sight);
        let truth = check.truth();
        checks.push(check);
        match truth {
            inbox::Truth::Yes => {}
            inbox::Truth::No => return Err(Objection::Stop("GUARD_NO")),
            inbox::Truth::Unknown | inbox::Truth::Unspecified => return Err(Objection::Stop("GUARD_UNKNOWN")),
        }
    }
    if class == Class::Transactional {
        return Ok(());
    }
    match request.journey.yields_to.iter().find(|other| request.live.contains(*other)) {
        Some(other) => {
            say(checks, "5 YIELDS", false, vec![format!("a run of {other} is live")], None);
            Err(Objection::Stop("YIELDS"))
        }
        None => Ok(()),
    }
}

/// Gate 7, the clock.
fn valid(turn: &Turn<'_>, request: &Request<'_>, checks: &mut Vec<Check>) -> Word {
    let until = sends::valid_until(request.run, request.send);
    let valid = turn.now() < until;
    say(checks, "7 VALID", valid, vec![format!("valid until {until}")], Some(until));
    if valid { Ok(()) } else { Err(Objection::Stop("EXPIRED")) }
}

/// Gate 7, the cart and the order it is about.
fn fresh(turn: &Turn<'_>, request: &Request<'_>, checks: &mut Vec<Check>) -> Word {
    let sight = Sight { run: request.run, entry: request.entry, event: turn.event };
    for kind in &request.send.fresh {
        let (path, code) = match kind {
            Fresh::Cart => ("cart_id", "STALE_CART"),
            Fresh::Order => ("order_id", "STALE_ORDER"),
        };
        let id = turn.facts(sight).path(Root::Entry, path);
        let id = id.as_ref().and_then(|v| v.as_text()).unwrap_or_default();
        let (holds, seen) = match kind {
            Fresh::Cart => {
                let cart = person::cart(turn.person, id);
                (cart.is_some_and(person::is_open), cart.map(|c| format!("status {}", c.status().as_str_name())))
            }
            Fresh::Order => {
                let order = person::order(turn.person, id);
                let stands = order.is_some_and(|o| person::counts(o) && o.status != "returned");
                (stands, order.map(|o| format!("status {} {}", o.status, o.flags.join(" "))))
            }
        };
        say(checks, &format!("7 {code}"), holds, vec![format!("entry.{path} {id}: {}", seen.as_deref().unwrap_or("no record"))], None);
        if !holds {
            return Err(Objection::Stop(code));
        }
    }
    Ok(())
}

/// Gate 8. E-mail may go out at any time; the windows of the other channel types stand here already,
/// though no definition can name these channels yet.
fn window(turn: &Turn<'_>, request: &Request<'_>, checks: &mut Vec<Check>) -> Word {
    let send = request.send;
    let window = match send.channel_kind.as_str() {
        _ if send.class == Class::Transactional => return Ok(()),
        "push" => Window { opens: 8 * 60, closes: 22 * 60 },
        "sms" | "whatsapp" | "rcs" | "viber" => Window { opens: 9 * 60, closes: 20 * 60 },
        _ => return Ok(()),
    };
    let zone = Zone::of(request.journey.timezone.as_deref(), turn.person, &turn.ws.policy);
    let opens = zone.opens(turn.now(), window);
    say(checks, "8 WINDOW", opens.is_none(), vec![zone.source], opens);
    opens.map_or(Ok(()), |opens| Err(Objection::Defer("QUIET_HOURS", opens.plus(spread(request.run)))))
}

/// At most 15 min, by the run: not everybody at the same instant.
fn spread(run: &Run) -> Span {
    let hash = xxhash_rust::xxh3::xxh3_64(&run.id) % LOOK.millis().unsigned_abs();
    Span::from_millis(i64::try_from(hash).unwrap_or(0))
}

fn say(checks: &mut Vec<Check>, what: &str, holds: bool, operands: Vec<String>, valid_until: Option<Timestamp>) {
    checks.push(check(what.to_owned(), if holds { Truth::Yes } else { Truth::No }, operands, valid_until));
}
