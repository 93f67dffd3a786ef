//! CART-1's traffic: what a shop's people do, the same for whoever is measured. Of a thousand events 28 touch a cart; what becomes of
//! each cart is drawn beforehand, so that nothing ever happens near the instant at which a timer is due.

mod reference;

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use waypost_codec::{frame::Record, inbox};
use waypost_ingest::normalise::record;
use waypost_memory::Seeded;
use waypost_types::{IdentifierClass, IdentifierHash, Span, Timestamp};

pub use self::reference::{Reference, Send};
use crate::traffic::{Installation, Size, money, object, text, zipf};

/// Behind the last touch of a cart.
pub const DELAY: Span = Span::from_secs(10);
/// In minor units, what a cart must be worth.
pub const WORTH: i64 = 2_000;
/// Between two sends to one person.
pub const APART: Span = Span::from_hours(24);
/// Nobody touches a cart this close to the instant at which its timer is due: which of the two comes first is then no question.
pub const MARGIN: Span = Span::from_secs(3);

/// Of a thousand events so many touch a cart.
const TOUCHING: u64 = 28;
/// Of a hundred carts: left alone, ordered, filled up, cheap, filled again behind the send; the rest is made cheap.
const FATES: [u64; 5] = [35, 25, 15, 10, 10];
/// Whose cart is the next one's; it shares no factor with any number of people.
const STRIDE: u64 = 7_919;
/// Of ten people so many are on the way at a time, and events of a visit.
const VISITING_OF_TEN: u64 = 6;
const VISIT: u64 = 12;

/// What somebody did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Looked at a page.
    Looked,
    /// Left a cart of this number with so much in it, in minor units.
    Filled {
        /// Which.
        cart: u64,
        /// Its value.
        cents: i64,
    },
    /// Ordered what is in the cart.
    Ordered {
        /// Which.
        cart: u64,
    },
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Act {
    /// When.
    pub at: Timestamp,
    /// Who, by number.
    pub person: u64,
    /// What.
    pub what: What,
    /// Counts events.
    number: u64,
}

/// How many events later a cart is touched again: soon, before its timer is due, and late, when that is long over.
#[derive(Clone, Copy, Debug)]
pub struct Gaps {
    /// Soon.
    pub soon: u64,
    /// Late.
    pub late: u64,
}

/// A seeded shop's next events, for ever. A person has one cart, and when everybody has had his all the rest only look.
#[derive(Debug)]
pub struct Carts {
    chance: Seeded,
    people: u64,
    /// Who is there, and how many events he will still make.
    visits: Vec<(u64, u64)>,
    gaps: Gaps,
    count: u64,
    begun: u64,
    /// What will happen, by the number of events before it.
    ahead: BTreeMap<(u64, u64), (u64, What)>,
}

// === impl Carts ===

impl Carts {
    /// The traffic of a seed.
    pub fn new(seed: u64, size: Size, gaps: Gaps) -> Self {
        let (mut chance, people) = (Seeded::new(seed), size.people());
        let visits = (0..people * VISITING_OF_TEN / 10).map(|_| (visitor(&mut chance, people), VISIT)).collect();
        Self { chance, people, visits, gaps, count: 0, begun: 0, ahead: BTreeMap::new() }
    }

    /// From now on carts are touched again so many events later.
    pub fn set_gaps(&mut self, gaps: Gaps) {
        self.gaps = gaps;
    }

    /// The next event.
    pub fn next(&mut self, at: Timestamp) -> Act {
        self.count += 1;
        let touched = if self.chance.below(1_000) < TOUCHING { self.touch() } else { None };
        let (person, what) = touched.unwrap_or_else(|| (self.look(), What::Looked));
        Act { at, person, what, number: self.count }
    }

    fn look(&mut self) -> u64 {
        let place = usize::try_from(self.chance.below(self.visits.len() as u64)).unwrap_or(0);
        let visit = &mut self.visits[place];
        if visit.1 == 0 {
            *visit = (visitor(&mut self.chance, self.people), VISIT);
        }
        visit.1 -= 1;
        visit.0
    }

    fn touch(&mut self) -> Option<(u64, What)> {
        if let Some(first) = self.ahead.first_entry().filter(|first| first.key().0 <= self.count) {
            return Some(first.remove());
        }
        (self.begun < self.people).then(|| self.begin())
    }

    fn begin(&mut self) -> (u64, What) {
        let cart = self.begun;
        self.begun += 1;
        let person = cart * STRIDE % self.people;
        let mut worth = |least: u64, below: u64| What::Filled { cart, cents: i64::try_from(least + self.chance.below(below)).unwrap_or(0) };
        let (dear, dearer, cheap) = (worth(2_000, 8_000), worth(2_000, 8_000), worth(500, 1_500));
        let drawn = self.chance.below(100);
        let fate = FATES.iter().scan(0, |sum, share| Some(*sum + share).inspect(|next| *sum = *next)).position(|end| drawn < end);
        let (first, again) = match fate {
            Some(0) => (dear, None),
            Some(1) => (dear, Some((self.gaps.soon, What::Ordered { cart }))),
            Some(2) => (dear, Some((self.gaps.soon, dearer))),
            Some(3) => (cheap, None),
            Some(4) => (dear, Some((self.gaps.late, dearer))),
            Some(_) | None => (dear, Some((self.gaps.soon, cheap))),
        };
        if let Some((gap, what)) = again {
            self.ahead.insert((self.count + gap, cart), (person, what));
        }
        (person, first)
    }
}

fn visitor(chance: &mut Seeded, people: u64) -> u64 {
    zipf(chance, people, 0.9)
}

// === impl Act ===

impl Act {
    /// Whether it is about a cart.
    pub fn touches(&self) -> bool {
        self.what != What::Looked
    }

    /// What the shop calls somebody.
    pub fn user(person: u64) -> String {
        format!("u-{person:07}")
    }

    /// What it calls a cart.
    pub fn cart(number: u64) -> String {
        format!("k-{number}")
    }

    /// Where somebody is written to.
    pub fn address(person: u64) -> String {
        format!("person{person}@mail.example")
    }

    /// The number in a name that one of these has given.
    pub fn number_in(name: &str) -> Option<u64> {
        let digits = name.split('@').next()?.trim_start_matches(|c: char| !c.is_ascii_digit());
        digits.parse().ok()
    }

    /// The event as ingest would write it into `wp1.identity`.
    pub fn record(&self, installation: Installation) -> Record {
        let user = Self::user(self.person);
        let hash = IdentifierHash::of(&installation.hash_key, installation.workspace, IdentifierClass::UserId, "", &user);
        let identifier = inbox::Identifier {
            class: IdentifierClass::UserId.number(),
            custom: String::new(),
            value: user,
            hash: Bytes::copy_from_slice(hash.as_bytes()),
        };
        let (name, properties, traits) = match self.what {
            What::Looked => {
                let page = ("url", text(format!("https://shop.example/{}", self.number % 1_000)));
                ("Page Viewed", object(vec![("title", text("A page of the shop")), page]), None)
            }
            What::Filled { cart, cents } => {
                let line = object(vec![("price", money(cents)), ("product_id", text("p-1")), ("quantity", inbox::value::Kind::Int(1))]);
                let line = inbox::Value { kind: line.map(inbox::value::Kind::Object) };
                let lines = inbox::value::Kind::List(inbox::List { items: vec![line] });
                let known = object(vec![("email", text(Self::address(self.person)))]);
                ("Cart Updated", object(vec![("cart_id", text(Self::cart(cart))), ("products", lines)]), known)
            }
            What::Ordered { cart } => {
                let order = ("order_id", text(format!("o-{cart}")));
                ("Order Completed", object(vec![("cart_id", text(Self::cart(cart))), order, ("total", money(WORTH))]), None)
            }
        };
        let event = inbox::Event {
            message_id: format!("m-{:016x}", self.number),
            name: name.to_owned(),
            identifiers: vec![identifier],
            event_time: self.at.millis(),
            received_at: self.at.millis(),
            properties,
            context: object(vec![
                ("locale", text("de-DE")),
                ("page_path", text(format!("/c/{}/p/{}", self.number % 40, self.number))),
                ("user_agent", text("Mozilla/5.0 (X11; Linux x86_64)")),
            ]),
            traits,
            source: "web".to_owned(),
            may_grant: true,
            ..inbox::Event::default()
        };
        record(&event, installation.workspace, self.at)
    }

    /// The same for whoever is no Waypost: kind, time, value and number of the cart at fixed places, and behind them the event as
    /// Waypost gets it, which nobody has to read.
    pub fn plain(&self, event: &[u8]) -> Bytes {
        let (kind, cart, cents) = match self.what {
            What::Looked => (0, 0, 0),
            What::Filled { cart, cents } => (1, cart, cents),
            What::Ordered { cart } => (2, cart, 0),
        };
        let mut bytes = BytesMut::with_capacity(25 + event.len());
        bytes.put_u8(kind);
        bytes.put_i64(self.at.millis());
        bytes.put_i64(cents);
        bytes.put_u64(cart);
        bytes.put_slice(event);
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use waypost_types::WorkspaceId;

    use super::*;
    use crate::shop::Shop;

    const GAPS: Gaps = Gaps { soon: 2_000, late: 15_000 };

    /// So many events, one a millisecond.
    fn acts(seed: u64, count: i64) -> Vec<Act> {
        let mut carts = Carts::new(seed, Size::S, GAPS);
        (0..count).map(|at| carts.next(Timestamp::from_millis(at))).collect()
    }

    #[test]
    fn a_seed_is_one_traffic_of_which_the_share_asked_for_touches_a_cart() {
        assert_eq!(acts(1, 1_000), acts(1, 1_000));
        assert_ne!(acts(1, 1_000), acts(2, 1_000));
        let touching = acts(3, 100_000).iter().filter(|act| act.touches()).count();
        assert!((2_700..2_900).contains(&touching), "{touching}");
    }

    #[test]
    fn every_fate_befalls_some_cart() {
        let mut stories: BTreeMap<u64, Vec<What>> = BTreeMap::new();
        for act in acts(4, 100_000).iter().filter(|act| act.touches()) {
            stories.entry(act.person).or_default().push(act.what);
        }
        let worth = |what: &What| matches!(what, What::Filled { cents, .. } if *cents >= WORTH);
        let of = |is: &dyn Fn(&[What]) -> bool| stories.values().filter(|story| is(story.as_slice())).count();
        assert!(of(&|story| matches!(story, [one] if worth(one))) > 100);
        assert!(of(&|story| matches!(story, [one] if !worth(one))) > 100);
        assert!(of(&|story| matches!(story, [_, What::Ordered { .. }])) > 100);
        assert!(of(&|story| matches!(story, [one, two] if worth(one) && worth(two))) > 100);
        assert!(of(&|story| matches!(story, [one, two @ What::Filled { .. }] if worth(one) && !worth(two))) > 50);
        assert_eq!(of(&|story| story.len() > 2), 0);
    }

    #[test]
    fn its_journey_can_be_published() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rivals/cart-1");
        Shop::from_folders(WorkspaceId::new(1), &[&folder]).unwrap();
    }

    #[test]
    fn names_give_their_numbers_back() {
        for name in [Act::user(17), Act::cart(17), Act::address(17)] {
            assert_eq!(Act::number_in(&name), Some(17), "{name}");
        }
        assert_eq!(Act::number_in("nobody@mail.example"), None);
    }
}
