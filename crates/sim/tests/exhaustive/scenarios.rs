//! Eight small stories around a merge.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    frame::Record,
    inbox::{self, Detach, Erase, Event, IdentityEvent, NodeRef},
    kind,
    value::object_to_proto,
};
use waypost_sim::shop::WORKSPACE;
use waypost_types::{IdentifierClass, IdentifierHash, Timestamp, Value, WorkspaceId};

/// What happens in a story.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// Something goes into the cart that bears the event's name.
    Cart(&'static [usize]),
    /// An order that bears the event's name.
    Order(&'static [usize]),
    /// Control erases the person behind an identifier.
    Erase(usize),
    /// Control gives an identifier a new profile.
    Detach(usize),
}

/// A story, and who is one person when it has come to rest.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Class of each identifier.
    pub(crate) identifiers: Vec<IdentifierClass>,
    pub(crate) acts: Vec<Act>,
    /// Identifiers that end as one person; those in no set are persons of their own.
    pub(crate) persons: Vec<Vec<usize>>,
    /// Whether time may fire in between.
    pub(crate) timers: bool,
    /// What nobody may know at rest.
    pub(crate) forgotten: &'static [&'static str],
}

const COOKIE: IdentifierClass = IdentifierClass::Anonymous;
const MAIL: IdentifierClass = IdentifierClass::Email;
const USER: IdentifierClass = IdentifierClass::UserId;

/// 2026-03-01T12:00:00Z
pub(crate) const START: i64 = 1_772_366_400_000;

pub(crate) fn scenarios() -> Vec<Scenario> {
    use Act::{Cart, Detach, Erase, Order};
    let story = |name, identifiers: &[IdentifierClass], acts: &[Act], persons: &[&[usize]], timers| Scenario {
        name,
        identifiers: identifiers.to_vec(),
        acts: acts.to_vec(),
        persons: persons.iter().map(|p| p.to_vec()).collect(),
        timers,
        forgotten: if matches!(acts, [.., Erase(0), _]) { &["e0"] } else { &[] },
    };
    vec![
        story("a_cookie_becomes_somebody", &[COOKIE, USER], &[Cart(&[0]), Cart(&[1, 0]), Cart(&[0])], &[&[0, 1]], false),
        story("somebody_known_meets_a_cookie", &[USER, COOKIE], &[Cart(&[0]), Cart(&[1]), Cart(&[0, 1]), Cart(&[1])], &[&[0, 1]], false),
        story(
            "a_purchase_by_mail_stops_the_cart_of_the_cookie",
            &[COOKIE, MAIL],
            &[Cart(&[0]), Order(&[1]), Order(&[1, 0])],
            &[&[0, 1]],
            true,
        ),
        story("two_cookies_of_one_person", &[USER, COOKIE, COOKIE], &[Cart(&[1]), Cart(&[0, 1]), Cart(&[0, 2])], &[&[0, 1, 2]], false),
        story("a_chain_of_three", &[COOKIE, MAIL, USER], &[Cart(&[0]), Cart(&[1, 0]), Cart(&[2, 1])], &[&[0, 1, 2]], false),
        story("two_users_on_one_cookie", &[COOKIE, USER, USER], &[Cart(&[1, 0]), Cart(&[2, 0]), Cart(&[0])], &[], false),
        story("a_cookie_is_detached", &[COOKIE, USER], &[Cart(&[1, 0]), Detach(0), Cart(&[0])], &[], false),
        story("somebody_is_erased", &[COOKIE, USER], &[Cart(&[0]), Cart(&[1, 0]), Erase(0), Cart(&[0])], &[], false),
    ]
}

// === impl Scenario ===

impl Scenario {
    /// On a cookie, an address and a user id, without expectations.
    pub(crate) fn of_acts(name: &'static str, acts: Vec<Act>) -> Self {
        Self { name, identifiers: vec![COOKIE, MAIL, USER], acts, persons: Vec::new(), timers: true, forgotten: &[] }
    }

    /// Hashes of the identifiers.
    pub(crate) fn hashes(&self) -> Vec<Bytes> {
        self.hashes_in(WORKSPACE)
    }

    /// The same in some workspace.
    pub(crate) fn hashes_in(&self, workspace: WorkspaceId) -> Vec<Bytes> {
        let hash = |(n, class): (usize, &IdentifierClass)| IdentifierHash::of(&[7; 32], workspace, *class, "", &format!("i{n}"));
        self.identifiers.iter().enumerate().map(hash).map(|h| Bytes::copy_from_slice(h.as_bytes())).collect()
    }

    /// What the doors append, in this order where it goes to one partition.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.records_in(WORKSPACE)
    }

    /// The same in some workspace.
    pub(crate) fn records_in(&self, workspace: WorkspaceId) -> Vec<Record> {
        let hashes = self.hashes_in(workspace);
        self.acts.iter().enumerate().map(|(n, act)| Record { workspace, ..self.record(n, *act, &hashes) }).collect()
    }

    /// Carts and orders by the identifier they were told under, in order.
    pub(crate) fn told(&self, identifier: usize) -> Vec<String> {
        let by = |act: &Act| match act {
            Act::Cart(who) | Act::Order(who) => who[0] == identifier,
            Act::Erase(_) | Act::Detach(_) => false,
        };
        self.acts.iter().enumerate().filter(|(_, act)| by(act)).map(|(n, _)| format!("e{n}")).collect()
    }

    /// Whether what was told may be forgotten or left behind on the way.
    pub(crate) fn forgets(&self) -> bool {
        self.acts.iter().any(|act| matches!(act, Act::Erase(_) | Act::Detach(_)))
    }

    fn record(&self, number: usize, act: Act, hashes: &[Bytes]) -> Record {
        let at = Timestamp::from_millis(START + 100 * i64::try_from(number).unwrap());
        let node = |n: usize| NodeRef { class: self.identifiers[n].number(), hash: hashes[n].clone(), ..NodeRef::default() };
        let (kind, key, body) = match act {
            Act::Erase(who) => (kind::ERASE, hashes[who].clone(), Erase { node: Some(node(who)), suppress: true }.encode_to_vec()),
            Act::Detach(who) => (kind::DETACH, hashes[who].clone(), Detach { node: Some(node(who)) }.encode_to_vec()),
            Act::Cart(who) | Act::Order(who) => {
                let (name, property) =
                    if matches!(act, Act::Cart(_)) { ("Product Added", "cart_id") } else { ("Order Completed", "order_id") };
                let text = |name: &str, value: &str| (name.to_owned(), Value::text(value.to_owned()));
                let properties = [text(property, &format!("e{number}")), text("product_id", "p1")];
                let Value::Object(properties) = Value::object(properties) else { unreachable!("an object") };
                let identifier = |n: &usize| inbox::Identifier {
                    class: self.identifiers[*n].number(),
                    custom: String::new(),
                    value: format!("i{n}"),
                    hash: hashes[*n].clone(),
                };
                let event = Event {
                    message_id: format!("e{number}"),
                    name: name.to_owned(),
                    identifiers: who.iter().map(identifier).collect(),
                    event_time: at.millis(),
                    received_at: at.millis(),
                    properties: Some(object_to_proto(&properties)),
                    source: "sim".to_owned(),
                    ..Event::default()
                };
                let identifiers = who.iter().map(|n| node(*n)).collect();
                let body = IdentityEvent { identifiers, event: event.encode_to_vec().into(), by_profile: false };
                (kind::EVENT, hashes[who[0]].clone(), body.encode_to_vec())
            }
        };
        let mut id = [0xee; 16];
        id[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
        Record { at: Some(at), ..Record::new(kind, WORKSPACE, id, key, at, body.into()) }
    }
}
