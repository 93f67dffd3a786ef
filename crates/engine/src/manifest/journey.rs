//! The fields of a journey (PRODUCT §7.1, 7.2), as far as this version has them.

use std::collections::BTreeSet;

use waypost_types::{ContentHash, Span};

use super::{
    graph,
    problem::codes,
    reader::{Fields, Item, Place, Reader},
    step,
};
use crate::{
    condition::Type,
    definitions::{Class, Entry, ExitRule, Goal, Guard, Journey, Match, Standing, WhileLive},
};

/// Longest delay, deadline and age: a yearly cycle with slack.
pub(super) const LONGEST: Span = Span::from_days(400);
/// Shortest.
pub(super) const SHORTEST: Span = Span::from_secs(1);

/// Events that only come with the catalog.
const CATALOG_EVENTS: [&str; 5] =
    ["Catalog Product Created", "Catalog Product Updated", "Catalog Product Removed", "Product Price Changed", "Product Stock Changed"];

const LATER: &[&str] = &["rollout", "vars", "hold_out", "on_merge", "budget", "attribution", "kpi", "report_by"];
const ENTRY_LATER: &[&str] = &["on_segment", "on_schedule", "on_date", "on_catalog", "on_api", "for_each", "start", "rate"];

/// Reads `spec`. References to other definitions are left as written; linking resolves them.
pub(super) fn read(r: &mut Reader<'_>, spec: &Item<'_>, name: &str) -> Option<Journey> {
    let mut f = r.fields(spec)?;
    let title = f.require(r, "title", codes::FIELD_MISSING).and_then(|i| r.text(&i, 80));
    let describe = f.require(r, "describe", codes::FIELD_MISSING).and_then(|i| r.text(&i, 4_000));
    let owner = f.require(r, "owner", codes::NO_OWNER).and_then(|i| r.text(&i, 255));
    let class = class(r, &mut f).unwrap_or(Class::Marketing);
    let topic = f.get("topic").and_then(|i| r.name(&i));
    if class == Class::Marketing && f.get("topic").is_none() {
        r.missing(codes::NO_TOPIC, &f, "topic");
    }
    let priority = f.get("priority").and_then(|i| r.number(&i, 0, 100)).unwrap_or(50);
    let requires = paths(r, &mut f, "requires", 50, Some(Place::Journey));
    let timezone = timezone(r, &mut f);
    let late_allow = late(r, &mut f);
    let max_age = f.span(r, "max_age", SHORTEST, LONGEST, Span::from_days(90));
    let guards = guards(r, &mut f);
    let yields_to: Vec<String> = f.items(r, "yields_to", 16).iter().filter_map(|i| r.name(i)).collect();
    let entries = entries(r, &mut f);
    let exit_on = exit_on(r, &mut f);
    let goal_asked = f.get("goal").is_some();
    let goal = f.get("goal").and_then(|i| goal(r, &i));
    let (steps, edges) = step::read(r, &mut f, class, topic.as_deref());
    graph::check(r, &edges);
    f.finish(r, LATER);
    if goal_asked && goal.is_none() {
        return None;
    }
    let mut event_names: Vec<String> = entries.iter().flat_map(|e: &Entry| e.names.clone()).collect();
    event_names.extend(exit_on.iter().flat_map(|e: &ExitRule| e.on.names().to_vec()));
    event_names.extend(goal.iter().flat_map(|g| g.on.names().to_vec()));
    event_names.extend(step::event_names(&steps));
    event_names.sort();
    event_names.dedup();
    Some(Journey {
        name: name.to_owned(),
        version: 0,
        title: title?,
        describe: describe?,
        owner: owner?,
        class,
        topic,
        priority,
        requires,
        timezone,
        late_allow,
        max_age,
        guards,
        yields_to,
        entries,
        exit_on,
        goal,
        steps,
        event_names,
        event_paths: Vec::new(),
        entry_paths: BTreeSet::new(),
        looks_at_states: false,
        hash: ContentHash::new([0; 16]),
        standing: Standing::default(),
    })
}

/// `class`; none where it is absent.
pub(super) fn class(r: &mut Reader<'_>, f: &mut Fields<'_>) -> Option<Class> {
    f.get("class").and_then(|i| r.word(&i, &["marketing", "transactional"], &[])).map(class_of)
}

fn class_of(word: &str) -> Class {
    if word == "transactional" { Class::Transactional } else { Class::Marketing }
}

/// Dotted paths such as `profile.first_name`; with a place, of names that are known there.
pub(super) fn paths(r: &mut Reader<'_>, f: &mut Fields<'_>, name: &'static str, most: usize, place: Option<Place>) -> Vec<String> {
    let mut found = Vec::new();
    for item in f.items(r, name, most) {
        if let Some(path) = r.text(&item, 255)
            && path_ok(r, &item, &path)
        {
            // A path is an expression too; compiling it finds the names that do not exist.
            if let Some(place) = place {
                r.condition(&item, place, &Type::Any);
            }
            found.push(path);
        }
    }
    found
}

/// Whether a path begins with a root and goes on with names.
pub(super) fn path_ok(r: &mut Reader<'_>, item: &Item<'_>, path: &str) -> bool {
    const ROOTS: [&str; 4] = ["profile", "event", "entry", "run"];
    let (root, rest) = path.split_once('.').unwrap_or((path, ""));
    let part = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if matches!(root, "vars" | "global") {
        r.problem(codes::NOT_YET_SUPPORTED, item.node.at, &item.path, format!("`{root}` is not yet supported"));
        return false;
    }
    if !ROOTS.contains(&root) {
        let near = super::problem::nearest(root, ROOTS);
        r.suggest(codes::UNKNOWN_REFERENCE, item.at, &item.path, format!("`{root}` is no root; roots are {}", ROOTS.join(" ")), near);
        return false;
    }
    if rest.is_empty() || !rest.split('.').all(part) {
        r.problem(codes::VALUE_INVALID, item.at, &item.path, "a path is as `profile.first_name`");
        return false;
    }
    true
}

fn timezone(r: &mut Reader<'_>, f: &mut Fields<'_>) -> Option<String> {
    let item = f.get("timezone")?;
    let name = r.text(&item, 64)?;
    if name == "profile" {
        return None;
    }
    zone(r, &item, name)
}

/// An IANA name.
pub(super) fn zone(r: &mut Reader<'_>, item: &Item<'_>, name: String) -> Option<String> {
    if jiff::tz::TimeZone::get(&name).is_ok() {
        return Some(name);
    }
    r.problem(codes::UNKNOWN_REFERENCE, item.node.at, &item.path, format!("`{name}` is not a time zone"));
    None
}

fn late(r: &mut Reader<'_>, f: &mut Fields<'_>) -> Span {
    let default = Span::from_hours(1);
    let Some(mut late) = f.get("late").and_then(|i| r.fields(&i)) else { return default };
    let allow = late.span(r, "allow", Span::ZERO, Span::from_days(30), default);
    late.finish(r, &[]);
    allow
}

fn guards(r: &mut Reader<'_>, f: &mut Fields<'_>) -> Vec<Guard> {
    let mut seen = BTreeSet::new();
    let mut guards = Vec::new();
    for item in f.items(r, "guards", 16) {
        let Some(mut g) = r.fields(&item) else { continue };
        let id = id(r, &mut g, &mut seen);
        let when = g.require(r, "when", codes::FIELD_MISSING).and_then(|i| r.condition(&i, Place::Journey, &Type::Bool));
        let mut classes: Vec<Class> = Vec::new();
        for class in g.items(r, "classes", 2) {
            classes.extend(r.word(&class, &["marketing", "transactional"], &[]).map(class_of));
        }
        if classes.is_empty() {
            classes.push(Class::Marketing);
        }
        g.finish(r, &[]);
        if let (Some(id), Some(when)) = (id, when) {
            guards.push(Guard { id, when, classes });
        }
    }
    guards
}

/// The required `id` of a list's element.
pub(super) fn id(r: &mut Reader<'_>, f: &mut Fields<'_>, seen: &mut BTreeSet<String>) -> Option<String> {
    let item = f.require(r, "id", codes::FIELD_MISSING)?;
    let id = r.name(&item)?;
    r.unique(seen, &id, &item);
    Some(id)
}

fn entries(r: &mut Reader<'_>, f: &mut Fields<'_>) -> Vec<Entry> {
    let mut seen = BTreeSet::new();
    let mut entries = Vec::new();
    let Some(list) = f.require(r, "entries", codes::FIELD_MISSING) else { return entries };
    let items = r.items(&list, 10);
    if items.is_empty() {
        r.problem(codes::FIELD_MISSING, list.node.at, &list.path, "one entry at least");
    }
    for item in items {
        let Some(mut e) = r.fields(&item) else { continue };
        let id = id(r, &mut e, &mut seen);
        let names = e.require_unless(r, "on_event", codes::FIELD_MISSING, ENTRY_LATER).and_then(|on| on_event(r, &on));
        let filter = e.condition(r, "where", Place::Journey, &Type::Bool);
        let key = e.condition(r, "key", Place::Journey, &Type::Text);
        let while_live = match e.get("while_live").and_then(|i| r.word(&i, &["skip", "rearm"], &["update", "cancel-other", "allow-all"])) {
            Some("rearm") => WhileLive::Rearm,
            Some(_) | None => WhileLive::Skip,
        };
        reentry(r, &mut e);
        e.finish(r, ENTRY_LATER);
        if let (Some(id), Some(names)) = (id, names) {
            entries.push(Entry { id, names, filter, key, while_live, start: 0 });
        }
    }
    entries
}

fn on_event(r: &mut Reader<'_>, item: &Item<'_>) -> Option<Vec<String>> {
    let mut on = r.fields(item)?;
    let names = names(r, &mut on, "name", "names");
    if names.is_none() {
        r.missing(codes::FIELD_MISSING, &on, "name");
    }
    on.finish(r, &[]);
    names
}

/// `one: <name>` or `many: [<name>]`; none where neither is given.
pub(super) fn names(r: &mut Reader<'_>, f: &mut Fields<'_>, one: &'static str, many: &'static str) -> Option<Vec<String>> {
    let (single, list) = (f.get(one), f.get(many));
    if let (Some(_), Some(list)) = (&single, &list) {
        r.problem(codes::FIELD_NOT_ALLOWED_HERE, list.at, &list.path, format!("either `{one}` or `{many}`"));
    }
    let items = match (single, list) {
        (None, None) => return None,
        (Some(item), _) => vec![item],
        (None, Some(list)) => r.items(&list, 50),
    };
    let mut names = Vec::new();
    for item in items {
        let Some(name) = r.text(&item, 100) else { continue };
        if CATALOG_EVENTS.contains(&name.as_str()) {
            r.problem(codes::NOT_YET_SUPPORTED, item.node.at, &item.path, format!("`{name}` is not yet supported"));
        }
        names.push(name);
    }
    Some(names)
}

fn reentry(r: &mut Reader<'_>, f: &mut Fields<'_>) {
    let Some(item) = f.get("reentry") else { return };
    if matches!(item.node.value, super::node::Value::Map(_)) {
        r.problem(codes::NOT_YET_SUPPORTED, item.node.at, &item.path, "only `after_exit` is supported yet");
    } else {
        r.word(&item, &["after_exit"], &["never"]);
    }
}

fn exit_on(r: &mut Reader<'_>, f: &mut Fields<'_>) -> Vec<ExitRule> {
    let mut seen = BTreeSet::new();
    let mut rules = Vec::new();
    for item in f.items(r, "exit_on", 16) {
        let Some(mut e) = r.fields(&item) else { continue };
        let id = id(r, &mut e, &mut seen);
        let on = rule(r, &mut e, true);
        e.finish(r, &[]);
        if let (Some(id), Some(on)) = (id, on) {
            rules.push(ExitRule { id, on });
        }
    }
    rules
}

fn goal(r: &mut Reader<'_>, item: &Item<'_>) -> Option<Goal> {
    let mut g = r.fields(item)?;
    let on = rule(r, &mut g, false);
    let within = g.span(r, "within", SHORTEST, LONGEST, Span::from_days(7));
    let exit = g.bool(r, "exit", true);
    let value = g.condition(r, "value", Place::Journey, &Type::Money);
    g.finish(r, &[]);
    Some(Goal { on: on?, within, exit, value })
}

/// `event|events`, `segment` with `is`, or `when`; `where` beside events.
pub(super) fn rule(r: &mut Reader<'_>, f: &mut Fields<'_>, with_segment: bool) -> Option<Match> {
    let names = names(r, f, "event", "events");
    let when = f.get("when");
    let segment = if with_segment { f.get("segment") } else { None };
    let is = if with_segment { f.get("is") } else { None };
    let filter = f.get("where");
    let given = [names.is_some(), when.is_some(), segment.is_some()].into_iter().filter(|g| *g).count();
    if given == 0 {
        if !f.has_any(&["message"]) {
            r.missing(codes::FIELD_MISSING, f, "event");
        }
        return None;
    }
    if given > 1 {
        r.problem(codes::FIELD_NOT_ALLOWED_HERE, f.at, &f.path, "one of `event`, `segment` and `when`");
        return None;
    }
    if let (Some(filter), None) = (&filter, &names) {
        r.problem(codes::FIELD_NOT_ALLOWED_HERE, filter.at, &filter.path, "`where` stands beside `event` only");
    }
    if let (Some(is), None) = (&is, &segment) {
        r.problem(codes::FIELD_NOT_ALLOWED_HERE, is.at, &is.path, "`is` stands beside `segment` only");
    }
    if let Some(names) = names {
        let asked = filter.is_some();
        let filter = filter.and_then(|i| r.condition(&i, Place::Journey, &Type::Bool));
        // A filter that did not compile must not turn into none.
        return (filter.is_some() == asked).then_some(Match::Event { names, filter });
    }
    if let Some(item) = segment {
        let name = r.name(&item);
        let is_in = match is {
            Some(is) => r.word(&is, &["in", "out"], &[]).map(|w| w == "in"),
            None => Some(true),
        };
        return Some(Match::Segment { name: name?, is_in: is_in? });
    }
    when.and_then(|i| r.condition(&i, Place::Journey, &Type::Bool)).map(Match::When)
}
