//! The steps of a journey (PRODUCT §7.3, 7.4), as far as this version has them.

use std::collections::{BTreeMap, BTreeSet};

use waypost_types::{ContentHash, Span};

use super::{
    graph::{Edge, Place as GraphPlace},
    journey::{LONGEST, SHORTEST, class, id, rule},
    problem::{codes, nearest},
    reader::{Fields, Item, Place, Reader},
};
use crate::{
    condition::Type,
    definitions::{Arm, Class, Delay, Fresh, Match, Send, Step, StepKind, Wait},
};

/// The word that ends a run instead of naming a step.
const END: &str = "end";
const KINDS: [&str; 5] = ["delay", "wait", "branch", "send", "exit"];
const KINDS_LATER: &[&str] = &["split", "set", "segment", "emit", "audience", "webhook", "recommend", "coupon", "enter", "goto", "ask"];
const DELAY_LATER: &[&str] = &["at", "offset", "time", "if_past", "spread"];
const SEND_LATER: &[&str] =
    &["channels", "priority", "valid_until", "on_capped", "on_quiet", "failover", "variants", "winner", "quiet", "send_at"];
const OUTCOMES: [&str; 4] = ["accepted", "stopped", "failed", "unknown"];
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// What a step needs to know of its journey.
struct Ctx<'a> {
    ids: &'a [String],
    class: Class,
    topic: Option<&'a str>,
}

/// The step being read: its place in the list, and the edges that leave it.
struct Leaves {
    next: Option<usize>,
    edges: Vec<Edge>,
}

/// Reads `steps`, with the edges between them for the graph's check.
pub(super) fn read(r: &mut Reader<'_>, f: &mut Fields<'_>, class: Class, topic: Option<&str>) -> (Vec<Step>, Vec<GraphPlace>) {
    let Some(list) = f.require(r, "steps", codes::FIELD_MISSING) else { return (Vec::new(), Vec::new()) };
    let items = r.items(&list, 100);
    if items.is_empty() {
        r.problem(codes::FIELD_MISSING, list.node.at, &list.path, "one step at least");
    }
    let mut seen = BTreeSet::new();
    let mut ids = Vec::new();
    let mut places = Vec::new();
    for item in &items {
        // Read twice on purpose: targets may lie ahead. Of this reading only the ids count.
        let found = r.fields(item).and_then(|mut f| f.get("id"));
        let at = found.as_ref().map_or(item.at, |i| i.node.at);
        if found.is_none() {
            r.problem(codes::FIELD_MISSING, item.at, &item.path, "`id` is required");
        }
        let name = found.as_ref().and_then(|i| r.name(i)).unwrap_or_default();
        if let Some(i) = &found
            && !name.is_empty()
        {
            if name == END {
                r.problem(codes::VALUE_INVALID, at, &i.path, "`end` ends the run; a step needs another id");
            }
            r.unique(&mut seen, &name, i);
        }
        places.push(GraphPlace { id: name.clone(), at, path: item.path.clone(), edges: Vec::new() });
        ids.push(name);
    }
    let ctx = Ctx { ids: &ids, class, topic };
    let mut steps = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let mut leaves = Leaves { next: (index + 1 < ids.len()).then_some(index + 1), edges: Vec::new() };
        let step = step(r, item, &ctx, index, &mut leaves);
        if let Some(place) = places.get_mut(index) {
            place.edges = leaves.edges;
        }
        steps.extend(step);
    }
    (steps, places)
}

/// Events that waits look for.
pub(super) fn event_names(steps: &[Step]) -> Vec<String> {
    let mut names = Vec::new();
    for step in steps {
        match &step.kind {
            StepKind::Wait(wait) => names.extend(wait.arms.iter().flat_map(|a| a.on.names().to_vec())),
            StepKind::Delay(_) | StepKind::Branch { .. } | StepKind::Send(_) | StepKind::Exit { .. } => {}
        }
    }
    names
}

fn step(r: &mut Reader<'_>, item: &Item<'_>, ctx: &Ctx<'_>, index: usize, leaves: &mut Leaves) -> Option<Step> {
    let mut f = r.fields(item)?;
    f.get("id");
    let title = f.text(r, "title", 80);
    let stage = f.text(r, "stage", 80);
    let next = f.get("next");
    if let Some(next) = &next {
        leaves.next = target(r, next, ctx).unwrap_or(leaves.next);
    }
    let next_at = next.as_ref().map_or_else(|| (item.at, item.path.clone()), |n| (n.node.at, n.path.clone()));
    let then = f.get("then");
    let found: Vec<(&str, Item<'_>)> = KINDS.into_iter().filter_map(|k| f.get(k).map(|i| (k, i))).collect();
    if found.is_empty() && !f.has_any(KINDS_LATER) {
        r.problem(codes::FIELD_MISSING, f.at, &f.path, format!("a step is one of {}", KINDS.join(" ")));
    }
    if let Some((kind, second)) = found.get(1) {
        r.problem(codes::FIELD_NOT_ALLOWED_HERE, second.at, &second.path, format!("a step does one thing; `{kind}` is a second"));
    }
    f.finish(r, KINDS_LATER);
    let (kind, what) = found.into_iter().next()?;
    if kind != "send"
        && let Some(then) = &then
    {
        r.problem(codes::FIELD_NOT_ALLOWED_HERE, then.at, &then.path, format!("`{kind}` has no outcomes"));
    }
    if matches!(kind, "branch" | "exit")
        && let Some(next) = &next
    {
        r.problem(codes::FIELD_NOT_ALLOWED_HERE, next.at, &next.path, format!("`{kind}` never goes to `next`"));
    }
    let go_on = Edge { to: leaves.next, at: next_at.0, path: next_at.1 };
    let kind = match kind {
        "delay" => {
            leaves.edges.push(go_on);
            delay(r, &what).map(StepKind::Delay)
        }
        "wait" => wait(r, &what, ctx, leaves, go_on).map(StepKind::Wait),
        "branch" => branch(r, &what, ctx, leaves),
        "send" => send(r, &what, then.as_ref(), ctx, leaves, go_on).map(StepKind::Send),
        _ => exit(r, &what),
    };
    Some(Step { id: ctx.ids.get(index)?.clone(), title, stage, next: leaves.next, kind: kind? })
}

/// The step that a text names; the outer option is none where it names nothing.
#[expect(clippy::option_option, reason = "no step and the end of the run are two things")]
fn target(r: &mut Reader<'_>, item: &Item<'_>, ctx: &Ctx<'_>) -> Option<Option<usize>> {
    let name = r.text(item, 63)?;
    if name == END {
        return Some(None);
    }
    if let Some(index) = ctx.ids.iter().position(|i| *i == name) {
        return Some(Some(index));
    }
    let near = nearest(&name, ctx.ids.iter().map(String::as_str).chain([END]));
    r.suggest(codes::UNKNOWN_REFERENCE, item.node.at, &item.path, format!("there is no step `{name}`"), near);
    None
}

/// A target with its edge.
fn lead(r: &mut Reader<'_>, item: &Item<'_>, ctx: &Ctx<'_>, leaves: &mut Leaves) -> Option<usize> {
    let to = target(r, item, ctx)?;
    leaves.edges.push(Edge { to, at: item.node.at, path: item.path.clone() });
    to
}

fn delay(r: &mut Reader<'_>, item: &Item<'_>) -> Option<Delay> {
    let mut f = r.fields(item)?;
    let (span, until, from, min) = (f.get("for"), f.get("until"), f.get("from"), f.get("min"));
    let found = match (span, until) {
        (Some(span), None) => {
            let from = from.and_then(|i| r.word(&i, &["previous", "entry"], &[]));
            let min = min.and_then(|i| r.span(&i, SHORTEST, LONGEST));
            r.span(&span, SHORTEST, LONGEST).map(|span| Delay::For { span, from_entry: from == Some("entry"), min })
        }
        (None, Some(until)) => {
            for stray in [from, min].into_iter().flatten() {
                r.problem(codes::FIELD_NOT_ALLOWED_HERE, stray.at, &stray.path, "stands beside `for` only");
            }
            until_time(r, &until)
        }
        (Some(_), Some(until)) => {
            r.problem(codes::FIELD_NOT_ALLOWED_HERE, until.at, &until.path, "either `for` or `until`");
            None
        }
        (None, None) => {
            if !f.has_any(DELAY_LATER) {
                r.missing(codes::FIELD_MISSING, &f, "for");
            }
            None
        }
    };
    f.finish(r, DELAY_LATER);
    found
}

/// `{time: "09:00", days: [mon, tue]}`.
fn until_time(r: &mut Reader<'_>, item: &Item<'_>) -> Option<Delay> {
    let mut f = r.fields(item)?;
    let time = f.require(r, "time", codes::FIELD_MISSING);
    let minute = time.and_then(|i| {
        let text = r.text(&i, 5)?;
        let minute = minute_of(&text);
        if minute.is_none() {
            r.problem(codes::VALUE_INVALID, i.node.at, &i.path, "a local time is as `09:00`");
        }
        minute
    });
    let mut days = Vec::new();
    for day in f.items(r, "days", 7) {
        let Some(word) = r.word(&day, &WEEKDAYS, &[]) else { continue };
        let number = WEEKDAYS.iter().position(|w| *w == word).and_then(|p| u32::try_from(p + 1).ok());
        days.extend(number);
    }
    days.sort_unstable();
    days.dedup();
    f.finish(r, &["not_on"]);
    Some(Delay::Until { minute: minute?, days })
}

fn minute_of(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |t: &str| (t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse::<u32>().ok()).flatten();
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

fn wait(r: &mut Reader<'_>, item: &Item<'_>, ctx: &Ctx<'_>, leaves: &mut Leaves, go_on: Edge) -> Option<Wait> {
    let mut f = r.fields(item)?;
    let mut seen = BTreeSet::new();
    let mut arms = Vec::new();
    let mut falls_through = false;
    let any = f.require_unless(r, "any", codes::FIELD_MISSING, &["all"]);
    for item in any.map(|i| r.items(&i, 16)).unwrap_or_default() {
        let Some(mut a) = r.fields(&item) else { continue };
        let id = id(r, &mut a, &mut seen);
        let on: Option<Match> = rule(r, &mut a, true);
        let then = a.get("then");
        falls_through |= then.is_none();
        let then = then.map_or(leaves.next, |i| lead(r, &i, ctx, leaves));
        a.finish(r, &["message"]);
        if let (Some(id), Some(on)) = (id, on) {
            arms.push(Arm { id, on, then });
        }
    }
    let timeout = f.require(r, "timeout", codes::NO_TIMEOUT).and_then(|i| delay(r, &i));
    let on_timeout = f.get("on_timeout");
    falls_through |= on_timeout.is_none();
    let on_timeout = on_timeout.map_or(leaves.next, |i| lead(r, &i, ctx, leaves));
    if falls_through {
        leaves.edges.push(go_on);
    }
    f.finish(r, &["all", "since", "mode"]);
    Some(Wait { arms, timeout: timeout?, on_timeout })
}

fn branch(r: &mut Reader<'_>, item: &Item<'_>, ctx: &Ctx<'_>, leaves: &mut Leaves) -> Option<StepKind> {
    let mut f = r.fields(item)?;
    let mut cases = Vec::new();
    let list = f.require(r, "cases", codes::FIELD_MISSING);
    for item in list.map(|i| r.items(&i, 16)).unwrap_or_default() {
        let Some(mut c) = r.fields(&item) else { continue };
        let when = c.require(r, "when", codes::FIELD_MISSING).and_then(|i| r.condition(&i, Place::Journey, &Type::Bool));
        let then = c.require(r, "then", codes::FIELD_MISSING).map(|i| lead(r, &i, ctx, leaves));
        c.finish(r, &[]);
        if let (Some(when), Some(then)) = (when, then) {
            cases.push((when, then));
        }
    }
    let otherwise = f.require(r, "else", codes::NO_ELSE).map(|i| lead(r, &i, ctx, leaves));
    f.finish(r, &[]);
    Some(StepKind::Branch { cases, otherwise: otherwise? })
}

fn send(r: &mut Reader<'_>, item: &Item<'_>, then: Option<&Item<'_>>, ctx: &Ctx<'_>, leaves: &mut Leaves, go_on: Edge) -> Option<Send> {
    let mut f = r.fields(item)?;
    let channel = f.require_unless(r, "channel", codes::FIELD_MISSING, &["channels"]).and_then(|i| r.name(&i));
    let template = f.require(r, "template", codes::FIELD_MISSING).and_then(|i| template_name(r, &i));
    let class = class(r, &mut f).unwrap_or(ctx.class);
    let topic = match f.get("topic") {
        Some(i) => r.name(&i),
        None => ctx.topic.map(str::to_owned),
    };
    // Of a marketing journey without a topic the journey itself is told, once.
    if class == Class::Marketing && topic.is_none() && ctx.class == Class::Transactional {
        r.missing(codes::NO_TOPIC, &f, "topic");
    }
    let usual = match class {
        Class::Marketing => Span::from_hours(24),
        Class::Transactional => Span::from_hours(72),
    };
    let valid_for = f.span(r, "valid_for", SHORTEST, LONGEST, usual);
    let mut fresh = Vec::new();
    for item in f.items(r, "fresh", 2) {
        fresh.extend(r.word(&item, &["cart", "order"], &["offer", "price", "stock"]).map(|w| match w {
            "cart" => Fresh::Cart,
            _ => Fresh::Order,
        }));
    }
    f.finish(r, SEND_LATER);
    let then = outcomes(r, then, ctx, leaves);
    if OUTCOMES.iter().any(|o| !then.contains_key(*o)) {
        leaves.edges.push(go_on);
    }
    Some(Send {
        channel: channel?,
        channel_kind: String::new(),
        template: ContentHash::new([0; 16]),
        template_name: template?,
        class,
        topic,
        valid_for,
        fresh,
        then,
    })
}

/// `name`, or `name@7` for that version.
fn template_name(r: &mut Reader<'_>, item: &Item<'_>) -> Option<String> {
    let text = r.text(item, 80)?;
    let (name, version) = text.split_once('@').map_or((text.as_str(), None), |(n, v)| (n, Some(v)));
    let ok = super::reader::is_name(name) && version.is_none_or(|v| v.parse::<u32>().is_ok_and(|n| n > 0));
    if !ok {
        r.problem(codes::VALUE_INVALID, item.node.at, &item.path, "a template is named as `cart-remind` or `cart-remind@7`");
    }
    ok.then_some(text)
}

fn outcomes(r: &mut Reader<'_>, then: Option<&Item<'_>>, ctx: &Ctx<'_>, leaves: &mut Leaves) -> BTreeMap<String, Option<usize>> {
    let mut found = BTreeMap::new();
    let Some(f) = then.and_then(|i| r.fields(i)) else { return found };
    for (outcome, item) in f.entries() {
        if OUTCOMES.contains(&outcome) {
            found.insert(outcome.to_owned(), lead(r, &item, ctx, leaves));
        } else {
            let near = nearest(outcome, OUTCOMES);
            let message = format!("`{outcome}` is no outcome of a send; outcomes are {}", OUTCOMES.join(" "));
            r.suggest(codes::UNKNOWN_REFERENCE, item.at, &item.path, message, near);
        }
    }
    found
}

fn exit(r: &mut Reader<'_>, item: &Item<'_>) -> Option<StepKind> {
    let mut f = r.fields(item)?;
    let reason = f.require(r, "reason", codes::FIELD_MISSING);
    let reason = reason.and_then(|i| {
        let text = r.text(&i, 63)?;
        let ok = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !ok {
            r.problem(codes::VALUE_INVALID, i.node.at, &i.path, "a reason is one word, as `SUNSET`");
        }
        ok.then_some(text)
    });
    f.finish(r, &[]);
    Some(StepKind::Exit { reason: reason? })
}
