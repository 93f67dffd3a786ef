//! What conditions are evaluated over: a person as stored, the event being folded, the run.

mod records;
mod walk;

use waypost_codec::inbox;
use waypost_types::{Currency, RunId, Timestamp, Value};

use crate::{
    condition::{Facts, Root, Truth},
    definitions::Workspace,
    membership, person,
};

/// The facts of one person at one instant.
#[derive(Clone, Debug)]
pub struct PersonFacts<'a> {
    now: Timestamp,
    person: &'a inbox::Person,
    workspace: &'a Workspace,
    event: Option<&'a inbox::Event>,
    entry: Option<&'a inbox::Event>,
    run: Option<RunFacts>,
    created: Option<Timestamp>,
}

/// What `run` reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFacts {
    /// Its id.
    pub id: RunId,
    /// Its key; empty where the entry has none.
    pub key: String,
    /// When it was entered.
    pub entered_at: Timestamp,
    /// Version of its journey.
    pub version: u32,
}

// === impl PersonFacts ===

impl<'a> PersonFacts<'a> {
    /// Of a person at `now`, which is log time.
    pub fn new(now: Timestamp, person: &'a inbox::Person, workspace: &'a Workspace) -> Self {
        Self { now, person, workspace, event: None, entry: None, run: None, created: None }
    }

    /// While this event is folded; without one `event` is unknown.
    #[must_use]
    pub fn with_event(mut self, event: &'a inbox::Event) -> Self {
        self.event = Some(event);
        self
    }

    /// For a run with this entry event.
    #[must_use]
    pub fn with_entry(mut self, entry: &'a inbox::Event) -> Self {
        self.entry = Some(entry);
        self
    }

    /// For this run.
    #[must_use]
    pub fn with_run(mut self, run: RunFacts) -> Self {
        self.run = Some(run);
        self
    }

    /// With the instant from which this profile's events have been seen.
    #[must_use]
    pub fn with_profile_created(mut self, created: Timestamp) -> Self {
        self.created = Some(created);
        self
    }

    fn field(&self, path: &str) -> Option<Value> {
        let fields = &self.person.fields;
        match path {
            "carts" => return Some(Value::List(self.person.carts.iter().map(records::cart).collect())),
            "orders" => return Some(Value::List(self.person.orders.iter().map(records::order).collect())),
            "extra" => return Some(self.extra()),
            // The primary ones.
            "email" => return person::address(self.person, person::EMAIL).map(|a| Value::text(&a.value)),
            "phone" => return person::address(self.person, person::SMS).map(|a| Value::text(&a.value)),
            _ => {}
        }
        let stored = fields.binary_search_by(|f| f.path.as_str().cmp(path)).ok().and_then(|i| fields[i].value.as_ref());
        match (stored.and_then(waypost_codec::value::from_proto), path) {
            (Some(value), _) => Some(value),
            // Lifetime aggregates answer from what they have seen: nothing yet.
            (None, "order_count") => Some(Value::Int(0)),
            (None, "ltv") => Some(Value::Money(0)),
            (None, _) => None,
        }
    }

    fn extra(&self) -> Value {
        let fields = &self.person.fields;
        let start = fields.partition_point(|f| f.path.as_str() < "extra.");
        let entries = fields[start..].iter().map_while(|f| Some((f.path.strip_prefix("extra.")?, f.value.as_ref()?)));
        Value::object(entries.filter_map(|(name, value)| Some((name.to_owned(), waypost_codec::value::from_proto(value)?))))
    }

    fn run_field(&self, path: &str) -> Option<Value> {
        let run = self.run.as_ref()?;
        match path {
            "id" => Some(Value::text(run.id.to_string())),
            "key" => Some(Value::text(&run.key)),
            "entered_at" => Some(Value::Time(run.entered_at)),
            "version" => Some(Value::Int(i64::from(run.version))),
            _ => None,
        }
    }
}

impl Facts for PersonFacts<'_> {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn path(&self, root: Root, path: &str) -> Option<Value> {
        match root {
            Root::Profile => self.field(path),
            Root::Event => walk::event(self.event?, path),
            Root::Entry => walk::event(self.entry?, path),
            Root::Run => self.run_field(path),
            Root::Vars | Root::Global => None,
        }
    }

    fn segment(&self, name: &str) -> (Truth, Option<Timestamp>) {
        let (truth, valid_until) = membership::of(self.person, name);
        let truth = match truth {
            inbox::Truth::Yes => Truth::Yes,
            inbox::Truth::No => Truth::No,
            inbox::Truth::Unknown | inbox::Truth::Unspecified => Truth::Unknown,
        };
        let until = (valid_until > 0).then(|| Timestamp::from_millis(valid_until));
        (truth, until)
    }

    fn cart(&self, id: &str) -> Option<Value> {
        person::cart(self.person, id).map(records::cart)
    }

    fn order(&self, id: &str) -> Option<Value> {
        person::order(self.person, id).map(records::order)
    }

    fn cart_entry(&self, id: &str, name: &str) -> Option<Value> {
        records::cart_entry(person::cart(self.person, id)?, name)
    }

    fn order_entry(&self, id: &str, name: &str) -> Option<Value> {
        records::order_entry(person::order(self.person, id)?, name)
    }

    fn covered_since(&self) -> Option<Timestamp> {
        let first_seen = || if let Some(Value::Time(first)) = self.field("first_seen_at") { Some(first) } else { None };
        self.workspace.policy.covered_since.or(self.created).or_else(first_seen)
    }

    fn currency(&self) -> Currency {
        self.workspace.policy.currency
    }
}

#[cfg(test)]
mod tests;
