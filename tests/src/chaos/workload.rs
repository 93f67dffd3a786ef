//! People come at a steady rate; each follows a plot that the seed draws.

use std::{sync::Arc, time::Duration};

use serde_json::{Value as Json, json};
use tokio::time::Instant;
use waypost_types::IdentifierClass;

use super::{
    chance::Chance,
    door::Door,
    people::{Name, People, REMINDERS, Said, What},
    sink::Sink,
    story::now,
};

/// Events that a person says, on average.
const EVENTS_A_PERSON: u64 = 6;

/// What the workload needs of the world.
#[derive(Clone, Debug)]
pub struct World {
    /// Where they speak.
    pub door: Door,
    /// What they said.
    pub people: People,
    /// Their mailboxes.
    pub sink: Arc<Sink>,
}

/// One person at work.
struct Actor {
    world: World,
    number: usize,
    chance: Chance,
    events: u32,
}

/// Lets people come until `until`; those that have come go on with their plots.
pub async fn run(world: World, mut chance: Chance, rate: u64, until: Instant) {
    let pause = Duration::from_millis(1_000 * EVENTS_A_PERSON / rate);
    while Instant::now() < until {
        let actor_chance = chance.fork();
        let plot = plot(&mut chance);
        let number = world.people.arrive(plot);
        let actor = Actor { world: world.clone(), number, chance: actor_chance, events: 0 };
        tokio::spawn(actor.play(plot));
        tokio::time::sleep(pause).await;
    }
}

fn plot(chance: &mut Chance) -> &'static str {
    match chance.below(100) {
        0..28 => "cart",
        28..48 => "merge",
        48..61 => "join",
        61..73 => "ask",
        73..82 => "opt-out",
        82..91 => "press",
        _ => "browse",
    }
}

// === impl Actor ===

impl Actor {
    async fn play(mut self, plot: &str) {
        match plot {
            "cart" => self.cart().await,
            "merge" => self.merge().await,
            "join" => self.join().await,
            "ask" => self.ask().await,
            "opt-out" => self.opt_out().await,
            "press" => self.press().await,
            _ => self.browse().await,
        }
        self.world.people.change(self.number, |person| person.done = true);
    }

    fn user(&self) -> Name {
        (IdentifierClass::UserId, format!("u{}", self.number))
    }

    fn cookie(&self) -> Name {
        (IdentifierClass::Anonymous, format!("c{}", self.number))
    }

    fn email(&self) -> Name {
        (IdentifierClass::Email, format!("u{}@mail.example", self.number))
    }

    async fn sleep(&mut self, least: u64, most: u64) {
        tokio::time::sleep(Duration::from_millis(self.chance.between(least, most))).await;
    }

    /// Says one event until it is acknowledged.
    async fn say(&mut self, path: &str, what: What, names: &[Name], mut call: Json) {
        self.events += 1;
        call["messageId"] = json!(format!("p{}-{}", self.number, self.events));
        for (class, value) in names {
            match class {
                IdentifierClass::UserId => call["userId"] = json!(value),
                IdentifierClass::Email => call["context"]["traits"]["email"] = json!(value),
                IdentifierClass::Phone | IdentifierClass::Device | IdentifierClass::Anonymous | IdentifierClass::Custom => {
                    call["anonymousId"] = json!(value);
                }
            }
        }
        let said = Said { what, names: names.to_vec(), first_tried: now(), acknowledged: None, tries: 0 };
        let index = self.world.people.say(self.number, said);
        let first = self.chance.index(2);
        match self.world.door.say(first, path, &call).await {
            Ok(tries) => self.world.people.change(self.number, |person| {
                person.said[index].acknowledged = Some(now());
                person.said[index].tries = tries;
            }),
            Err(why) => self.world.people.change(self.number, |person| person.refused = Some(why)),
        }
    }

    async fn track(&mut self, what: What, names: &[Name], event: &str, properties: Json) {
        self.say("/v1/track", what, names, json!({"event": event, "properties": properties})).await;
    }

    async fn look(&mut self, name: &Name) {
        let product = format!("p{}", self.chance.below(50));
        self.track(What::Looked, std::slice::from_ref(name), "Product Viewed", json!({"product_id": product, "price": "20.00"})).await;
    }

    /// A user with an address and consent to both topics.
    async fn known(&mut self) {
        let names = [self.user(), self.email()];
        self.say("/v1/identify", What::Identified, &names, json!({"traits": {"email": self.email().1, "firstName": "Ann"}})).await;
        for topic in [REMINDERS, "greetings"] {
            let user = self.user();
            self.track(What::Subscribed(topic), &[user], "Subscribed", json!({"channel": "email", "topic": topic})).await;
        }
    }

    async fn touch(&mut self, name: &Name, cart: &str) {
        let line = json!({"cart_id": cart, "product_id": "p1", "name": "Blue vase", "price": "89.00", "currency": "EUR", "quantity": 1});
        self.track(What::Touched(cart.to_owned()), std::slice::from_ref(name), "Product Added", line).await;
    }

    async fn order(&mut self, name: &Name) {
        let order = format!("o{}-{}", self.number, self.events);
        let products = json!([{"product_id": "p1", "price": "89.00", "quantity": 1}]);
        let properties = json!({"order_id": order, "currency": "EUR", "total": "89.00", "products": products});
        self.track(What::Ordered(order), std::slice::from_ref(name), "Order Completed", properties).await;
    }

    fn key(&self, letter: char) -> String {
        format!("{letter}{}", self.number)
    }

    async fn browse(&mut self) {
        let cookie = self.cookie();
        for _ in 0..self.chance.between(3, 8) {
            self.look(&cookie).await;
            self.sleep(200, 2_000).await;
        }
    }

    /// A cart, perhaps touched again, perhaps bought.
    async fn cart(&mut self) {
        self.known().await;
        let (user, key) = (self.user(), self.key('k'));
        self.look(&user).await;
        self.touch(&user, &key).await;
        if self.chance.one_in(4) {
            self.sleep(500, 3_000).await;
            self.touch(&user, &key).await;
        }
        if self.chance.one_in(2) {
            self.sleep(200, 12_000).await;
            self.order(&user).await;
        }
    }

    /// A cart filled by a cookie that later turns out to be somebody; perhaps bought, under one name or another.
    async fn merge(&mut self) {
        self.known().await;
        let (cookie, user, key) = (self.cookie(), self.user(), self.key('k'));
        self.look(&cookie).await;
        self.touch(&cookie, &key).await;
        self.sleep(0, 2_500).await;
        self.say("/v1/identify", What::Identified, &[user.clone(), cookie.clone()], json!({"traits": {}})).await;
        self.look(&cookie).await;
        if self.chance.one_in(2) {
            self.sleep(100, 9_000).await;
            let name = match self.chance.below(3) {
                0 => cookie,
                1 => self.email(),
                _ => user,
            };
            self.order(&name).await;
        }
    }

    /// A greeting, another one unless there is an order.
    async fn join(&mut self) {
        self.known().await;
        let (user, key) = (self.user(), self.key('j'));
        self.track(What::Joined(key.clone()), std::slice::from_ref(&user), "Signed Up", json!({"cart_id": key})).await;
        if self.chance.one_in(3) {
            self.sleep(500, 9_000).await;
            self.order(&user).await;
        }
    }

    /// A ticket, and perhaps another. Some have opted out of reminders, which is no reason not to answer them.
    async fn ask(&mut self) {
        self.known().await;
        let user = self.user();
        if self.chance.one_in(3) {
            self.no_more(&user).await;
        }
        for letter in ['t', 'v'].into_iter().take(if self.chance.one_in(3) { 2 } else { 1 }) {
            let key = self.key(letter);
            self.track(What::Asked(key.clone()), std::slice::from_ref(&user), "Ticket Asked", json!({"ticket_id": key})).await;
            self.sleep(0, 4_000).await;
        }
    }

    async fn no_more(&mut self, user: &Name) {
        let what = json!({"channel": "email", "topic": REMINDERS});
        self.track(What::OptedOut, std::slice::from_ref(user), "Unsubscribed", what).await;
    }

    /// A cart, and no more reminders.
    async fn opt_out(&mut self) {
        self.known().await;
        let (user, key) = (self.user(), self.key('k'));
        self.touch(&user, &key).await;
        self.sleep(100, 13_000).await;
        self.no_more(&user).await;
    }

    /// A cart; the link in the reminder is pressed; another cart.
    async fn press(&mut self) {
        self.known().await;
        let (user, first, second) = (self.user(), self.key('k'), self.key('l'));
        self.touch(&user, &first).await;
        let Some(path) = self.link(&format!("remind {first}")).await else { return };
        let said = Said { what: What::Pressed, names: vec![user.clone()], first_tried: now(), acknowledged: None, tries: 0 };
        let index = self.world.people.say(self.number, said);
        let mut tries = 0;
        loop {
            let answer = self.world.door.post(self.chance.index(2), &path, "List-Unsubscribe=One-Click").await;
            tries += 1;
            // every press that was sent may count
            self.world.people.change(self.number, |person| person.said[index].tries = tries);
            if matches!(answer, Ok((200, _))) {
                break;
            }
            self.sleep(300, 600).await;
        }
        self.world.people.change(self.number, |person| person.said[index].acknowledged = Some(now()));
        self.touch(&user, &second).await;
    }

    /// The path of the link in the mail with this subject; none if it does not come for a while.
    async fn link(&self, subject: &str) -> Option<String> {
        for _ in 0..120 {
            if let Some(mail) = self.world.sink.mails().into_iter().find(|mail| mail.subject == subject) {
                let at = mail.unsubscribe.find("/u/")?;
                return Some(mail.unsubscribe[at..].to_owned());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        None
    }
}
