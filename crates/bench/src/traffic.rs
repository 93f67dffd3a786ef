//! A shop's traffic: a seeded population and the mix of events that it makes, as `wp1.identity` records.
//!
//! Mix M1 of the performance text, without what this version refuses at the door (receipts of providers, prices and stock): visits of
//! twelve events in nine minutes, people by Zipf's law, most of them unnamed on arrival.

mod population;

use std::collections::VecDeque;

use bytes::Bytes;
use waypost_codec::{
    frame::{Frame, Record},
    inbox,
};
use waypost_ingest::normalise::record;
use waypost_memory::Seeded;
use waypost_types::{IdentifierClass, IdentifierHash, Layout, Timestamp, WorkspaceId};

pub use self::population::Population;

/// How many people a shop has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 100,000.
    S,
    /// 1,000,000.
    M,
    /// 5,000,000.
    L,
    /// So many.
    Of(u64),
}

/// What somebody does who is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Looks at a page.
    Looks,
    /// Puts a product into a cart, which a run then waits upon.
    FillsCart,
}

/// Where the traffic goes.
#[derive(Clone, Copy, Debug)]
pub struct Installation {
    /// Key of the identifiers' hashes.
    pub hash_key: [u8; 32],
    /// How keys fall to partitions.
    pub layout: Layout,
    /// Whose shop it is.
    pub workspace: WorkspaceId,
}

/// A seeded shop's next events, for ever.
#[derive(Debug)]
pub struct Traffic {
    chance: Seeded,
    installation: Installation,
    /// From the installation's on; people fall to them by number.
    workspaces: u32,
    people: u64,
    visits: Vec<Visit>,
    /// Counts events; part of their message ids.
    count: u64,
    /// What comes a second time a little later.
    again: VecDeque<Record>,
    /// Of a thousand events so many are one bot's.
    of_one_bot: u64,
    /// Whether all that anybody does is to look at pages.
    is_plain: bool,
}

/// Somebody who looks around.
#[derive(Clone, Copy, Debug)]
struct Visit {
    person: u64,
    /// Which of the person's browsers.
    browser: u64,
    is_named: bool,
    events_left: u64,
    cart: u64,
}

/// Events of a visit.
const VISIT: u64 = 12;
const PRODUCTS: u64 = 200_000;
/// Of ten people so many are on the way at a time.
const VISITING_OF_TEN: u64 = 6;
/// Of a hundred visits so many are of people who are named on arrival.
const NAMED_PERCENT: u64 = 40;
/// Of a thousand events.
const DUPLICATES: u64 = 10;
const LATE: u64 = 20;
const OF_ONE_BOT: u64 = 20;
/// How late an event may be, in milliseconds.
const LATEST: u64 = 2 * 3_600_000;
/// A copy comes when so many others wait behind it: soon enough that an identifier's window of message ids still knows it.
const HELD_BACK: usize = 5;

/// Event names with their shares of ten thousand.
const MIX: [(Kind, u64); 13] = [
    (Kind::PageViewed, 4_610),
    (Kind::ProductViewed, 3_300),
    (Kind::Searched, 400),
    (Kind::ListViewed, 400),
    (Kind::Added, 180),
    (Kind::Removed, 70),
    (Kind::CheckoutStarted, 60),
    (Kind::Ordered, 30),
    (Kind::Fulfilled, 40),
    (Kind::Delivered, 40),
    (Kind::Identified, 120),
    (Kind::MessageOpened, 650),
    (Kind::Subscribed, 100),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    PageViewed,
    ProductViewed,
    Searched,
    ListViewed,
    Added,
    Removed,
    CheckoutStarted,
    Ordered,
    Fulfilled,
    Delivered,
    Identified,
    MessageOpened,
    Subscribed,
}

// === impl Size ===

impl Size {
    /// How many people.
    pub const fn people(self) -> u64 {
        match self {
            Self::S => 100_000,
            Self::M => 1_000_000,
            Self::L => 5_000_000,
            Self::Of(people) => people,
        }
    }
}

// === impl Installation ===

impl Installation {
    /// An identifier as the door would have hashed it.
    pub fn identifier(&self, class: IdentifierClass, value: String) -> inbox::Identifier {
        let hash = IdentifierHash::of(&self.hash_key, self.workspace, class, "", &value);
        inbox::Identifier { class: class.number(), custom: String::new(), value, hash: Bytes::copy_from_slice(hash.as_bytes()) }
    }
}

// === impl Traffic ===

impl Traffic {
    /// The traffic of a seed.
    pub fn new(seed: u64, size: Size, installation: Installation) -> Self {
        let mut chance = Seeded::new(seed);
        let people = size.people();
        let visits = (0..people * VISITING_OF_TEN / 10).map(|_| Visit::begin(&mut chance, people)).collect();
        Self {
            chance,
            installation,
            workspaces: 1,
            people,
            visits,
            count: 0,
            again: VecDeque::new(),
            of_one_bot: OF_ONE_BOT,
            is_plain: false,
        }
    }

    /// Traffic that changes nothing but counters: so many unnamed visitors who stay and look at pages, nothing twice, nothing late.
    pub fn plain(seed: u64, visitors: u64, installation: Installation) -> Self {
        let visit = |person| Visit { person, browser: 0, is_named: false, events_left: u64::MAX, cart: 0 };
        let visits = (1..=visitors).map(visit).collect();
        Self {
            chance: Seeded::new(seed),
            installation,
            workspaces: 1,
            people: visitors,
            visits,
            count: 0,
            again: VecDeque::new(),
            of_one_bot: 0,
            is_plain: true,
        }
    }

    /// With no more than so many people on the way at a time.
    #[must_use]
    pub fn with_visits(mut self, visits: usize) -> Self {
        self.visits.truncate(visits.max(1));
        self
    }

    /// In so many workspaces, the installation's and those numbered behind it.
    #[must_use]
    pub fn in_workspaces(self, workspaces: u32) -> Self {
        Self { workspaces: workspaces.max(1), ..self }
    }

    /// What a named person does now, whatever else is going on.
    pub fn act(&mut self, person: u64, act: Act, now: Timestamp) -> Record {
        self.count += 1;
        let kind = match act {
            Act::Looks => Kind::PageViewed,
            Act::FillsCart => Kind::Added,
        };
        let visit = Visit { person, browser: 0, is_named: true, events_left: 0, cart: person };
        self.said(visit, kind, 0, now)
    }

    /// From now on one bot makes so many percent of all events.
    pub fn set_bot(&mut self, percent: u32) {
        self.of_one_bot = 10 * u64::from(percent);
    }

    /// The next event, as ingest would write it: said and received at `now`.
    pub fn next(&mut self, now: Timestamp) -> Record {
        if self.again.len() > HELD_BACK
            && let Some(record) = self.again.pop_front()
        {
            return record;
        }
        self.count += 1;
        let record = self.event(now);
        if self.chance.below(1_000) < DUPLICATES && !self.is_plain {
            self.again.push_back(record.clone());
        }
        record
    }

    fn event(&mut self, now: Timestamp) -> Record {
        let place = usize::try_from(self.chance.below(self.visits.len() as u64)).unwrap_or(0);
        let mut visit = self.visits[place];
        if self.chance.below(1_000) < self.of_one_bot {
            visit = Visit { person: 0, browser: 0, is_named: false, events_left: VISIT, cart: 0 };
        } else if visit.events_left == 0 {
            self.visits[place] = Visit::begin(&mut self.chance, self.people);
            visit = self.visits[place];
        }
        let kind = self.kind();
        // who is asked for a name, or orders, has one from then on
        if matches!(kind, Kind::Identified | Kind::Ordered | Kind::CheckoutStarted) && visit.person != 0 {
            self.visits[place].is_named = true;
            visit.is_named = true;
        }
        self.visits[place].events_left = self.visits[place].events_left.saturating_sub(1);
        let late = if self.chance.below(1_000) < LATE && !self.is_plain { self.chance.below(LATEST) } else { 0 };
        self.said(visit, kind, late, now)
    }

    fn said(&mut self, visit: Visit, kind: Kind, late: u64, now: Timestamp) -> Record {
        let event_time = now.millis() - i64::try_from(late).unwrap_or(0);
        let event = inbox::Event {
            message_id: format!("m-{:08x}-{:x}", self.chance.below(1 << 32), self.count),
            name: kind.name().to_owned(),
            identifiers: self.identifiers(visit, kind),
            event_time,
            received_at: now.millis(),
            claimed_time: 0,
            properties: object(self.properties(kind, visit)),
            context: object(vec![
                ("locale", text("de-DE")),
                ("page_path", text(format!("/c/{}/p/{}", self.chance.below(40), self.chance.below(PRODUCTS)))),
                ("user_agent", text("Mozilla/5.0 (X11; Linux x86_64)")),
            ]),
            traits: (kind == Kind::Identified)
                .then(|| object(vec![("first_name", text(format!("Name{}", visit.person % 5_000))), ("locale", text("de-DE"))]))
                .flatten(),
            source: "web".to_owned(),
            may_grant: true,
            historical: false,
            quality: Vec::new(),
        };
        record(&event, self.workspace(visit.person), now)
    }

    fn kind(&mut self) -> Kind {
        if self.is_plain {
            return Kind::PageViewed;
        }
        let mut drawn = self.chance.below(MIX.iter().map(|(_, share)| share).sum());
        for (kind, share) in MIX {
            if drawn < share {
                return kind;
            }
            drawn -= share;
        }
        Kind::PageViewed
    }

    fn workspace(&self, person: u64) -> WorkspaceId {
        let place = u32::try_from(person % u64::from(self.workspaces)).unwrap_or(0);
        WorkspaceId::new(self.installation.workspace.number() + place)
    }

    fn identifiers(&self, visit: Visit, kind: Kind) -> Vec<inbox::Identifier> {
        let installation = Installation { workspace: self.workspace(visit.person), ..self.installation };
        let of = |class, value| installation.identifier(class, value);
        let mut all = Vec::new();
        if visit.is_named {
            all.push(of(IdentifierClass::UserId, format!("u-{:07}", visit.person)));
            if kind == Kind::Identified {
                all.push(of(IdentifierClass::Email, format!("person{}@mail.example", visit.person)));
            }
        }
        all.push(of(IdentifierClass::Anonymous, format!("c-{:07}-{}", visit.person, visit.browser)));
        all
    }

    fn properties(&mut self, kind: Kind, visit: Visit) -> Vec<(&'static str, inbox::value::Kind)> {
        // Zipf's law with exponent 1.1 over the products, near enough to one
        let product = zipf(&mut self.chance, PRODUCTS, 1.1);
        let price = 500 + i64::try_from(product % 97).unwrap_or(0) * 100;
        let product = ("product_id", text(format!("p-{product}")));
        let cart = ("cart_id", text(format!("k-{}-{}", visit.person, visit.cart)));
        let order = ("order_id", text(format!("o-{}-{}", visit.person, visit.cart)));
        match kind {
            Kind::PageViewed => vec![("title", text("A page of the shop")), ("url", text(format!("https://shop.example/{}", visit.cart)))],
            Kind::ProductViewed => vec![product, ("category", text("Shoes")), ("price", money(price)), ("brand", text("Brand"))],
            Kind::Searched => vec![("query", text("red shoes"))],
            Kind::ListViewed => vec![("category", text("Shoes"))],
            Kind::Added | Kind::Removed => vec![cart, product, ("price", money(price)), ("quantity", inbox::value::Kind::Int(1))],
            Kind::CheckoutStarted => vec![("checkout_id", text(format!("x-{}-{}", visit.person, visit.cart))), cart],
            Kind::Ordered => vec![order, cart, ("total", money(price)), ("currency", text("EUR"))],
            Kind::Fulfilled | Kind::Delivered => vec![order],
            Kind::Identified => vec![],
            Kind::MessageOpened => vec![("message_id", text(format!("s-{}", visit.person)))],
            Kind::Subscribed => vec![("channel", text("email")), ("topic", text("cart-reminders"))],
        }
    }
}

// === impl Visit ===

impl Visit {
    fn begin(chance: &mut Seeded, people: u64) -> Self {
        Self {
            person: 1 + zipf(chance, people - 1, 0.9),
            // of five visits one comes with another browser
            browser: if chance.below(5) == 0 { 1 + chance.below(2) } else { 0 },
            is_named: chance.below(100) < NAMED_PERCENT,
            events_left: VISIT,
            cart: chance.below(1 << 20),
        }
    }
}

// === impl Kind ===

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::PageViewed => "Page Viewed",
            Self::ProductViewed => "Product Viewed",
            Self::Searched => "Products Searched",
            Self::ListViewed => "Product List Viewed",
            Self::Added => "Product Added",
            Self::Removed => "Product Removed",
            Self::CheckoutStarted => "Checkout Started",
            Self::Ordered => "Order Completed",
            Self::Fulfilled => "Order Fulfilled",
            Self::Delivered => "Order Delivered",
            Self::Identified => "",
            Self::MessageOpened => "Message Opened",
            Self::Subscribed => "Subscribed",
        }
    }
}

pub(crate) fn text(text: impl Into<String>) -> inbox::value::Kind {
    inbox::value::Kind::Text(text.into())
}

pub(crate) fn money(minor: i64) -> inbox::value::Kind {
    inbox::value::Kind::Money(minor)
}

/// Names in order, as the codec wants them.
pub(crate) fn object(mut values: Vec<(&'static str, inbox::value::Kind)>) -> Option<inbox::Object> {
    values.sort_by_key(|(name, _)| *name);
    let entry = |(name, kind): (&str, inbox::value::Kind)| inbox::Property {
        name: name.to_owned(),
        value: Some(inbox::Value { kind: Some(kind) }),
    };
    (!values.is_empty()).then(|| inbox::Object { entries: values.into_iter().map(entry).collect() })
}

/// A rank from 0 to below `n` by Zipf's law (its continuous form, inverted).
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a draw, not a count")]
pub(crate) fn zipf(chance: &mut Seeded, n: u64, exponent: f64) -> u64 {
    const STEPS: u64 = 1 << 53;
    let uniform = chance.below(STEPS) as f64 / STEPS as f64;
    let power = 1.0 - exponent;
    let rank = (uniform * ((n as f64 + 1.0).powf(power) - 1.0) + 1.0).powf(1.0 / power) - 1.0;
    (rank as u64).min(n - 1)
}

/// Cuts records into frames of at most `most` a partition, in order: partition, encoded frame, records in it.
pub fn frames(records: Vec<Record>, layout: Layout, most: usize) -> Vec<(u32, Bytes, usize)> {
    let mut open: Vec<Vec<Record>> = (0..layout.partitions).map(|_| Vec::new()).collect();
    let mut frames = Vec::new();
    let mut close = |partition: u32, records: Vec<Record>| {
        let count = records.len();
        frames.push((partition, Frame::unsourced(records).encode(), count));
    };
    for record in records {
        let partition = layout.partition(record.workspace, &record.key);
        let held = &mut open[partition as usize];
        held.push(record);
        if held.len() >= most {
            close(partition, std::mem::take(held));
        }
    }
    for (partition, held) in (0..).zip(open) {
        if !held.is_empty() {
            close(partition, held);
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(seed: u64) -> Traffic {
        let installation = Installation { hash_key: [7; 32], layout: Layout { number: 1, partitions: 8 }, workspace: WorkspaceId::new(1) };
        Traffic::new(seed, Size::S, installation)
    }

    #[test]
    fn a_seed_is_one_traffic() {
        let some = |seed| {
            let mut traffic = traffic(seed);
            (0..1_000).map(|i| traffic.next(Timestamp::from_millis(i))).collect::<Vec<_>>()
        };
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
    }

    #[test]
    fn plain_traffic_is_page_views_of_the_same_people() {
        let installation = Installation { hash_key: [7; 32], layout: Layout { number: 1, partitions: 8 }, workspace: WorkspaceId::new(1) };
        let mut traffic = Traffic::plain(7, 50, installation);
        let records: Vec<Record> = (0..1_000).map(|i| traffic.next(Timestamp::from_millis(i))).collect();
        let keys: std::collections::BTreeSet<_> = records.iter().map(|record| record.key.clone()).collect();
        assert_eq!(keys.len(), 50);
        assert!(records.iter().all(|record| String::from_utf8_lossy(&record.body).contains("Page Viewed")));
    }

    #[test]
    fn people_fall_to_workspaces_and_stay_there() {
        let mut traffic = traffic(7).in_workspaces(3).with_visits(50);
        let mut of: std::collections::BTreeMap<Bytes, WorkspaceId> = std::collections::BTreeMap::new();
        for i in 0..3_000 {
            let record = traffic.next(Timestamp::from_millis(i));
            assert_eq!(*of.entry(record.key.clone()).or_insert(record.workspace), record.workspace);
        }
        let all: std::collections::BTreeSet<u32> = of.values().map(|workspace| workspace.number()).collect();
        assert_eq!(all, [1, 2, 3].into());
    }

    #[test]
    fn frames_hold_every_record_once_and_in_order() {
        let mut traffic = traffic(3);
        let records: Vec<Record> = (0..5_000).map(|i| traffic.next(Timestamp::from_millis(i))).collect();
        let layout = Layout { number: 1, partitions: 8 };
        let cut = frames(records.clone(), layout, 100);
        assert_eq!(cut.iter().map(|(_, _, count)| count).sum::<usize>(), records.len());
        for partition in 0..8 {
            let there: Vec<Record> = cut
                .iter()
                .filter(|(p, _, _)| *p == partition)
                .flat_map(|(_, bytes, _)| Frame::decode(bytes.clone()).unwrap().sections.remove(0).records)
                .collect();
            let wanted: Vec<Record> = records.iter().filter(|r| layout.partition(r.workspace, &r.key) == partition).cloned().collect();
            assert_eq!(there, wanted);
        }
    }

    #[test]
    fn an_event_is_as_large_as_a_shop_s() {
        let mut traffic = traffic(5);
        let bytes: usize = (0..10_000).map(|i| traffic.next(Timestamp::from_millis(i)).body.len()).sum();
        assert!((200..400).contains(&(bytes / 10_000)), "{}", bytes / 10_000);
    }
}
