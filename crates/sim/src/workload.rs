//! What people do in a world: few of them, with few identifiers, so that they meet often.

pub mod cards;
mod crossing;
pub mod engines;
pub mod hurry;
pub mod operators;
mod privacy;

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    frame::Record,
    inbox::{self, DefActivate, Event, IdentityEvent, NodeRef},
    kind,
    value::object_to_proto,
};
use waypost_types::{IdentifierClass, IdentifierHash, Role, Span, Timestamp, Value};

use crate::{
    chance::Chance,
    shop::{Shop, WORKSPACE},
};

/// One append of a door or of control.
#[derive(Clone, Debug)]
pub struct Append {
    /// When.
    pub at: Timestamp,
    /// Whose inbox.
    pub role: Role,
    /// Partition; none: that of the record's key.
    pub partition: Option<u32>,
    /// What.
    pub record: Record,
    /// The events of people are numbered, and behind them the privacy acts.
    pub number: Option<u32>,
    /// For the story.
    pub says: String,
}

// === impl Append ===

impl Append {
    fn is_of_people(&self) -> bool {
        self.record.kind != kind::DEF_ACTIVATE
    }
}

/// What one person is called.
#[derive(Clone, Debug)]
struct Person {
    name: usize,
    devices: usize,
    /// Devices that have said whose they are.
    known: Vec<usize>,
    user: bool,
}

impl Person {
    fn strongest(&self) -> Named {
        if self.user {
            (IdentifierClass::UserId, format!("u{}", self.name))
        } else {
            (IdentifierClass::Anonymous, format!("d{}-0", self.name))
        }
    }
}

type Named = (IdentifierClass, String);

const INSTALL_KEY: [u8; 32] = [7; 32];
/// What the privacy acts are drawn from.
const PRIVACY: u64 = 0x7072;
/// And those who are joined while they act.
const CROSSING: u64 = 0x6372;

fn hash(class: IdentifierClass, value: &str) -> Bytes {
    Bytes::copy_from_slice(IdentifierHash::of(&INSTALL_KEY, WORKSPACE, class, "", value).as_bytes())
}

/// Everything that comes in from `start` on, in order of time.
pub fn draw(chance: &mut Chance, start: Timestamp, partitions: u32) -> Vec<Append> {
    let (mut privacy, mut apart) = (chance.at(PRIVACY), chance.at(CROSSING));
    let mut appends = Vec::new();
    for (set, body) in Shop::get().sets.iter().enumerate() {
        // The others come when people are at it already; in some worlds close together, so that they overtake.
        let behind = i64::try_from(set).unwrap_or(0);
        let at = if set == 0 { start.plus(chance.span(0, 300)) } else { start.plus(chance.span(2_000, 9_000 + 3_000 * behind)) };
        if set > 1 && chance.index(2) == 0 {
            continue;
        }
        activate(chance, at, body, partitions, &mut appends);
    }
    let mut people: Vec<Person> =
        (0..chance.small(4)).map(|name| Person { name, devices: chance.small(2), known: Vec::new(), user: chance.index(2) == 0 }).collect();
    // Where cookies are shared, people with two user ids meet.
    let storm = chance.index(4) == 0;
    // Where the whole channel is denied, not even tickets are answered.
    let deaf = chance.index(4) == 0;
    let events = 6 + chance.index(38);
    let mut at = start.plus(chance.span(0, 500));
    let mut told: Vec<Append> = Vec::new();
    for number in 0..events {
        // In bursts, so that much is under way at once; no two at one instant, so that event time orders them.
        at = at.plus(if chance.index(3) > 0 { chance.span(1, 40) } else { chance.span(300, 4_000) });
        if chance.index(10) == 0
            && let Some(before) = chance.pick(&told)
        {
            let says = format!("again: {}", before.says);
            appends.push(Append { at, says, number: None, ..before.clone() });
            continue;
        }
        let who = chance.index(people.len());
        if let Some(person) = people.get_mut(who) {
            let append = act(chance, person, (storm, deaf), number, at);
            told.push(append.clone());
            appends.extend(follow_up(chance, &append));
            appends.push(append);
            if chance.index(5) == 0 {
                // Just before a reminder may be due.
                let at = at.plus(Span::from_secs(4)).minus(chance.span(1, 2_500));
                appends.push(order(person, 1_000 + number, at));
            }
        }
    }
    if chance.index(5) == 0 {
        burst(chance, &people, events, start, &mut appends);
    }
    appends.sort_by_key(|append| append.at);
    let told: Vec<Append> = appends.iter().filter(|append| append.is_of_people()).cloned().collect();
    // Theirs are the last numbers, so that a scenario means the same events with them.
    appends.extend(privacy::draw(&mut privacy, &told));
    crossing::draw(&mut apart, start, &mut appends);
    for (append, number) in appends.iter_mut().filter(|append| append.is_of_people()).zip(0..) {
        append.number = Some(number);
    }
    appends.sort_by_key(|append| append.at);
    appends
}

fn act(chance: &mut Chance, person: &mut Person, (storm, deaf): (bool, bool), number: usize, at: Timestamp) -> Append {
    let user = (IdentifierClass::UserId, format!("u{}", person.name));
    let device = chance.index(person.devices);
    let anonymous = (IdentifierClass::Anonymous, format!("d{}-{device}", person.name));
    let strongest = person.strongest();
    let at_hand = if person.user && chance.index(2) == 0 { user.clone() } else { anonymous.clone() };
    let text = |name: &str, value: String| (name.to_owned(), Value::text(value));
    let email = format!("u{}@people.example", person.name);
    let traits = if chance.index(2) == 0 { vec![text("email", email.clone())] } else { Vec::new() };
    match chance.index(16) {
        0..=5 => {
            let cart = format!("c{}", chance.index(2));
            let product = format!("p{}", chance.index(3));
            event(number, "Product Added", &[at_hand], vec![text("cart_id", cart), text("product_id", product)], traits, at)
        }
        6..=9 => {
            person.user = true;
            if !person.known.contains(&device) {
                person.known.push(device);
            }
            let mut names = vec![user];
            if chance.index(3) == 0 {
                names.push((IdentifierClass::Email, email.clone()));
            }
            if storm && chance.index(3) == 0 {
                // A shared cookie: that of somebody else, known or not.
                names.push((IdentifierClass::Anonymous, format!("d{}-0", chance.index(4))));
            } else {
                names.push(anonymous);
            }
            event(number, "", &names, vec![], vec![text("email", email)], at)
        }
        10 => order(person, number, at),
        11 => {
            let traits = vec![text("email", email)];
            if chance.index(2) == 0 {
                event(number, "Ticket Asked", &[at_hand], vec![text("ticket_id", format!("t{number}"))], traits, at)
            } else {
                event(number, "Pledge Made", &[at_hand], vec![text("subscription_id", format!("s{number}"))], traits, at)
            }
        }
        12 => {
            let name = if chance.index(2) == 0 { "Unsubscribed" } else { "Subscribed" };
            let mut whom = vec![text("channel", "email".to_owned())];
            if !deaf {
                whom.push(text("topic", "carts".to_owned()));
            }
            event(number, name, &[strongest], whom, vec![], at)
        }
        _ => event(number, "Signed Up", &[at_hand], vec![], traits, at),
    }
}

/// Carts of one person: a profile keeps five, and there are two more names for them.
const MOST_CARTS: usize = 3;

/// Everybody touches some carts within a moment: many timers come due at once.
fn burst(chance: &mut Chance, people: &[Person], events: usize, start: Timestamp, appends: &mut Vec<Append>) {
    let mut at = start.plus(chance.span(2_500, 12_000));
    let mut touched = BTreeMap::<usize, usize>::new();
    for number in 0..chance.small(10) {
        let Some(person) = chance.pick(people) else { return };
        let carts = touched.entry(person.name).or_default();
        *carts += 1;
        if *carts > MOST_CARTS {
            continue;
        }
        let text = |name: &str, value: String| (name.to_owned(), Value::text(value));
        let cart = vec![text("cart_id", format!("b{number}")), text("product_id", "p0".to_owned())];
        let traits = vec![text("email", format!("u{}@people.example", person.name))];
        appends.push(event(2_000 + events + number, "Product Added", &[person.strongest()], cart, traits, at));
        at = at.plus(chance.span(1, 3));
    }
}

/// Most pledges are kept, around the instant at which somebody is reminded of them, by the same identifier.
fn follow_up(chance: &mut Chance, made: &Append) -> Option<Append> {
    if !made.says.contains("Pledge Made") || chance.index(4) == 0 {
        return None;
    }
    let mut body = IdentityEvent::decode(made.record.body.clone()).ok()?;
    let mut event = Event::decode(body.event).ok()?;
    let at = made.at.plus(chance.span(200, 4_500));
    "Pledge Kept".clone_into(&mut event.name);
    event.message_id = format!("{}k", event.message_id);
    (event.event_time, event.received_at) = (at.millis(), at.millis());
    let says = made.says.replace("Pledge Made", "Pledge Kept").replacen(' ', "k ", 1);
    body.event = event.encode_to_vec().into();
    let mut id = made.record.id;
    // Identity knows an id by its first half.
    id[0] = 0xcc;
    let record = Record { id, said: at, body: body.encode_to_vec().into(), ..made.record.clone() };
    Some(Append { at, record, says, ..made.clone() })
}

/// Under the strongest identifier there is: a stop elsewhere may come by a longer road.
fn order(person: &Person, number: usize, at: Timestamp) -> Append {
    let properties = vec![("order_id".to_owned(), Value::text(format!("o{number}")))];
    event(number, "Order Completed", &[person.strongest()], properties, vec![], at)
}

fn event(
    number: usize,
    name: &str,
    names: &[Named],
    properties: Vec<(String, Value)>,
    traits: Vec<(String, Value)>,
    at: Timestamp,
) -> Append {
    let identifier = |(class, value): &Named| inbox::Identifier {
        class: class.number(),
        custom: String::new(),
        value: value.clone(),
        hash: hash(*class, value),
    };
    let identifiers: Vec<inbox::Identifier> = names.iter().map(identifier).collect();
    let object = |entries: Vec<(String, Value)>| {
        let Value::Object(entries) = Value::object(entries) else { return None };
        (!entries.is_empty()).then(|| object_to_proto(&entries))
    };
    let event = Event {
        message_id: format!("m{number}"),
        name: name.to_owned(),
        identifiers: identifiers.clone(),
        event_time: at.millis(),
        received_at: at.millis(),
        properties: object(properties),
        traits: object(traits),
        source: "sim".to_owned(),
        may_grant: true,
        ..Event::default()
    };
    let key = identifiers.first().map(|identifier| identifier.hash.clone()).unwrap_or_default();
    let body = IdentityEvent { identifiers: nodes(&identifiers), event: event.encode_to_vec().into(), by_profile: false };
    let mut id = [0xee; 16];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let record = Record::new(kind::EVENT, WORKSPACE, id, key, at, body.encode_to_vec().into());
    let names: Vec<&str> = names.iter().map(|(_, value)| value.as_str()).collect();
    let says = format!("m{number} {} by {}", if name.is_empty() { "identify" } else { name }, names.join(" "));
    Append { at, role: Role::Identity, partition: None, record, number: None, says }
}

/// What identity peeks at.
fn nodes(identifiers: &[inbox::Identifier]) -> Vec<NodeRef> {
    let node = |i: &inbox::Identifier| NodeRef { class: i.class, hash: i.hash.clone(), generation: Bytes::new(), custom: i.custom.clone() };
    identifiers.iter().map(node).collect()
}

/// Every partition learns of a set at its own moment, and of some sets twice.
fn activate(chance: &mut Chance, at: Timestamp, body: &DefActivate, partitions: u32, appends: &mut Vec<Append>) {
    let mut id = [0xdd; 16];
    id[..8].copy_from_slice(&body.set.to_be_bytes());
    for role in [Role::Identity, Role::Segmenter, Role::Sender] {
        for partition in 0..partitions {
            for _ in 0..chance.small(2) {
                let at = at.plus(chance.span(0, 400));
                let record =
                    Record::new(kind::DEF_ACTIVATE, waypost_types::WorkspaceId::new(0), id, Bytes::new(), at, body.encode_to_vec().into());
                appends.push(Append {
                    at,
                    role,
                    partition: Some(partition),
                    record,
                    number: None,
                    says: format!("set {} at {role}/{partition}", body.set),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_in_order_and_reproducible() {
        let draw = |seed| draw(&mut Chance::new(seed), Timestamp::from_millis(1_000), 3);
        let drawn = draw(5);
        assert!(drawn.is_sorted_by_key(|append| append.at));
        let says = |appends: Vec<Append>| appends.into_iter().map(|append| append.says).collect::<Vec<_>>();
        assert_eq!(says(drawn), says(draw(5)));
    }
}
