//! The sample shop: a few hundred shoppers with plausible habits. One seed is one story.
//!
//! It knows nothing of Waypost but its HTTP door: what comes out is a list of calls with their instants.

use serde_json::{Value, json};
use waypost_types::{Span, Timestamp};

/// Who speaks, hence which write key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// The shop's page in a browser.
    Browser,
    /// The shop's own service.
    Backend,
    /// Nobody known.
    Stranger,
}

/// What a shopper does at the door.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Move {
    /// A call that ought to be taken.
    Call {
        /// `/v1/track`, ….
        path: &'static str,
        /// JSON body.
        body: Value,
    },
    /// A call that ought to be refused.
    Bad {
        /// `/v1/track`, ….
        path: &'static str,
        /// Raw body.
        body: String,
        /// Expected HTTP status.
        status: u16,
    },
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scene {
    /// When.
    pub(crate) at: Timestamp,
    /// Who: index into [`Story::shoppers`].
    pub(crate) shopper: usize,
    /// With which key.
    pub(crate) voice: Voice,
    /// What.
    pub(crate) what: Move,
}

/// A person of the story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shopper {
    /// First name.
    pub(crate) name: String,
    /// Her address.
    pub(crate) email: String,
    /// One line on her habits.
    pub(crate) habit: &'static str,
    /// Unsubscribes so long after her first reminder.
    pub(crate) leaves: Option<Span>,
}

/// The whole story.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Story {
    /// Its first instant.
    pub(crate) start: Timestamp,
    /// Who takes part.
    pub(crate) shoppers: Vec<Shopper>,
    /// In order of time.
    pub(crate) scenes: Vec<Scene>,
}

const NAMES: [&str; 16] =
    ["Ana", "Ben", "Cleo", "Dario", "Edda", "Femi", "Greta", "Hugo", "Ines", "Jonas", "Kira", "Leon", "Mila", "Nils", "Olga", "Paul"];
const PRODUCTS: [(&str, &str, &str, u32); 8] = [
    ("p1", "Trail Runner", "Shoes", 8900),
    ("p2", "Wool Socks", "Socks", 1290),
    ("p3", "Rain Jacket", "Jackets", 12900),
    ("p4", "Day Pack", "Bags", 6450),
    ("p5", "Steel Bottle", "Bottles", 2400),
    ("p6", "Head Torch", "Lights", 3995),
    ("p7", "Camp Mug", "Kitchen", 990),
    ("p8", "Map Case", "Bags", 1850),
];

/// `SplitMix64` (Steele, Lea, Flood 2014): a whole story from one number.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// 0 … n − 1.
    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n.max(1)
    }
    fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
    /// A span between the two, in whole seconds.
    fn between(&mut self, from: Span, to: Span) -> Span {
        let seconds = u64::try_from((to.millis() - from.millis()) / 1000).unwrap_or(0);
        Span::from_millis(from.millis() + i64::try_from(self.below(seconds + 1)).unwrap_or(0) * 1000)
    }
}

/// One shopper's pen: writes her scenes, with message ids of their own.
struct Pen<'a> {
    dice: &'a mut Dice,
    scenes: &'a mut Vec<Scene>,
    shopper: usize,
    now: Timestamp,
    count: u32,
}

impl Pen<'_> {
    fn wait(&mut self, from: Span, to: Span) {
        let span = self.dice.between(from, to);
        self.now = self.now.plus(span);
    }

    fn push(&mut self, voice: Voice, what: Move) {
        self.scenes.push(Scene { at: self.now, shopper: self.shopper, voice, what });
    }

    fn call(&mut self, voice: Voice, path: &'static str, mut body: Value) {
        self.count += 1;
        body["messageId"] = json!(format!("s{}-{}", self.shopper, self.count));
        // The SDK of one in thirty retries although it was answered: the same message id again.
        let repeated = self.dice.percent(3);
        self.push(voice, Move::Call { path, body: body.clone() });
        if repeated {
            self.now = self.now.plus(Span::from_secs(1));
            self.push(voice, Move::Call { path, body });
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers write the object in place")]
    fn track(&mut self, voice: Voice, who: &Value, event: &str, properties: Value) {
        let mut body = json!({ "event": event, "properties": properties });
        if let (Some(body), Some(who)) = (body.as_object_mut(), who.as_object()) {
            body.extend(who.clone());
        }
        self.call(voice, "/v1/track", body);
    }

    fn browse(&mut self, who: &Value) {
        for _ in 0..=self.dice.below(3) {
            self.wait(Span::from_secs(20), Span::from_secs(240));
            let (id, name, category, price) = PRODUCTS[usize::try_from(self.dice.below(8)).unwrap_or(0)];
            self.track(
                Voice::Browser,
                who,
                "Product Viewed",
                json!({"product_id": id, "name": name, "category": category, "price": euros(price)}),
            );
        }
    }

    /// Fills her cart.
    fn fill(&mut self, who: &Value) {
        let cart = format!("k{}", self.shopper);
        for _ in 0..=self.dice.below(2) {
            self.wait(Span::from_secs(30), Span::from_secs(600));
            let (id, name, category, price) = PRODUCTS[usize::try_from(self.dice.below(8)).unwrap_or(0)];
            self.track(
                Voice::Browser,
                who,
                "Product Added",
                json!({"cart_id": cart, "product_id": id, "name": name, "category": category, "price": euros(price), "quantity": 1, "currency": "EUR"}),
            );
        }
    }

    fn order(&mut self, voice: Voice, who: &Value, cart: Option<&str>) {
        let mut properties = json!({"order_id": format!("o{}", self.shopper), "total": euros(4200), "currency": "EUR",
            "products": [{"product_id": "p1", "name": "Trail Runner", "price": euros(4200), "quantity": 1}]});
        if let Some(cart) = cart {
            properties["cart_id"] = json!(cart);
        }
        self.track(voice, who, "Order Completed", properties);
    }
}

fn euros(cents: u32) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// The story of `seed`, beginning at `start`, with so many shoppers.
pub(crate) fn story(seed: u64, start: Timestamp, shoppers: usize) -> Story {
    let mut dice = Dice(seed);
    let mut people = Vec::with_capacity(shoppers);
    let mut scenes = Vec::new();
    for index in 0..shoppers {
        let name = NAMES[index % NAMES.len()].to_owned();
        let email = format!("{}.{index}@mail.example", name.to_lowercase());
        let begins = start.plus(dice.between(Span::ZERO, Span::from_days(3)));
        let mut person = Shopper { name, email, habit: "", leaves: None };
        let mut pen = Pen { dice: &mut dice, scenes: &mut scenes, shopper: index, now: begins, count: 0 };
        live(&mut pen, &mut person);
        people.push(person);
    }
    strangers(&mut dice, &mut scenes, start, shoppers);
    scenes.sort_by_key(|scene| scene.at);
    Story { start, shoppers: people, scenes }
}

/// One life at the shop.
fn live(pen: &mut Pen<'_>, person: &mut Shopper) {
    let cookie = json!({"anonymousId": format!("c-{}", pen.shopper)});
    let phone = json!({"anonymousId": format!("m-{}", pen.shopper), "context": {"traits": {"email": person.email}}});
    let known = json!({"userId": format!("u-{}", pen.shopper), "anonymousId": format!("c-{}", pen.shopper)});
    let backend = json!({"userId": format!("u-{}", pen.shopper)});
    let identify = json!({"userId": format!("u-{}", pen.shopper), "anonymousId": format!("c-{}", pen.shopper),
        "traits": {"email": person.email, "firstName": person.name}});

    pen.browse(&cookie);
    let habit = pen.dice.below(100);
    if habit < 12 {
        person.habit = "browses, fills a cart, never says who she is";
        pen.fill(&cookie);
        return;
    }
    let late = habit < 30;
    if late {
        person.habit = "fills a cart anonymously, says who she is half an hour later";
        pen.fill(&cookie);
        pen.wait(Span::from_secs(600), Span::from_secs(1800));
    }
    pen.call(Voice::Browser, "/v1/identify", identify);
    pen.wait(Span::from_secs(1), Span::from_secs(5));
    let grants = pen.dice.percent(85);
    if grants {
        pen.track(Voice::Backend, &backend, "Subscribed", json!({"channel": "email", "topic": "cart-reminders"}));
        pen.track(Voice::Backend, &backend, "Subscribed", json!({"channel": "email", "topic": "welcome"}));
    }
    pen.wait(Span::from_secs(1), Span::from_secs(5));
    pen.track(Voice::Backend, &backend, "Signed Up", json!({}));
    if !grants {
        person.habit = "signs up without consent to mail";
    }

    if !late {
        pen.wait(Span::from_secs(300), Span::from_hours(20));
        pen.browse(&known);
        pen.fill(&known);
    }
    let end = pen.dice.below(100);
    if end < 25 {
        if grants {
            person.habit = if late { "identifies late, buys at once" } else { "buys at once" };
        }
        pen.wait(Span::from_secs(60), Span::from_secs(1500));
        let cart = format!("k{}", pen.shopper);
        pen.order(Voice::Browser, &known, Some(&cart));
    } else if end < 45 {
        if grants {
            person.habit = "leaves the cart, buys on her phone after the first reminder";
        }
        pen.wait(Span::from_hours(2), Span::from_hours(20));
        pen.order(Voice::Browser, &phone, None);
    } else if end < 55 {
        if grants {
            person.habit = "comes back to the cart twice, then buys at the till";
        }
        pen.wait(Span::from_secs(1800), Span::from_secs(3000));
        pen.fill(&known);
        pen.wait(Span::from_hours(30), Span::from_hours(50));
        pen.order(Voice::Backend, &backend, None);
    } else if end < 65 && grants {
        person.habit = "unsubscribes from the first reminder";
        person.leaves = Some(pen.dice.between(Span::from_secs(300), Span::from_hours(9)));
    } else if end < 72 {
        if grants {
            person.habit = "empties the cart herself";
        }
        pen.wait(Span::from_secs(60), Span::from_secs(2400));
        let cart = format!("k{}", pen.shopper);
        pen.track(Voice::Browser, &known, "Cart Updated", json!({"cart_id": cart, "products": []}));
    } else if grants {
        person.habit = if late { "identifies late, never buys" } else { "leaves the cart, never buys" };
    }
}

/// What comes to every open door.
fn strangers(dice: &mut Dice, scenes: &mut Vec<Scene>, start: Timestamp, shoppers: usize) {
    let deep = format!("{}1{}", "{\"a\":".repeat(60), "}".repeat(60));
    let bad: [(&str, String, u16, Voice); 7] = [
        ("/v1/track", "{\"event\": \"Product Viewed\", ".to_owned(), 400, Voice::Browser),
        (
            "/v1/track",
            json!({"event": "Product Added", "anonymousId": "bad-1", "properties": {"cart_id": "k"}}).to_string(),
            400,
            Voice::Browser,
        ),
        ("/v1/track", json!({"event": "Product Viewed", "properties": {"product_id": "p1"}}).to_string(), 400, Voice::Browser),
        ("/v1/track", json!({"anonymousId": "bad-2", "properties": {}}).to_string(), 400, Voice::Browser),
        (
            "/v1/track",
            json!({"event": "Page", "anonymousId": "bad-3", "properties": {"text": "x".repeat(40_000)}}).to_string(),
            400,
            Voice::Browser,
        ),
        ("/v1/track", format!("{{\"event\": \"Deep\", \"anonymousId\": \"bad-4\", \"properties\": {deep}}}"), 400, Voice::Browser),
        (
            "/v1/track",
            json!({"event": "Product Viewed", "anonymousId": "bad-5", "properties": {"product_id": "p1"}}).to_string(),
            401,
            Voice::Stranger,
        ),
    ];
    for _ in 0..4 {
        for (path, body, status, voice) in &bad {
            let at = start.plus(dice.between(Span::ZERO, Span::from_days(4)));
            let shopper = usize::try_from(dice.below(shoppers as u64)).unwrap_or(0);
            scenes.push(Scene { at, shopper, voice: *voice, what: Move::Bad { path, body: body.clone(), status: *status } });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_story() {
        let start = Timestamp::from_millis(1_774_600_000_000);
        assert_eq!(story(7, start, 40), story(7, start, 40));
        assert_ne!(story(7, start, 40).scenes, story(8, start, 40).scenes);
    }

    #[test]
    fn scenes_are_in_order_of_time() {
        let story = story(3, Timestamp::from_millis(1_774_600_000_000), 60);
        assert!(story.scenes.is_sorted_by_key(|s| s.at));
    }
}
