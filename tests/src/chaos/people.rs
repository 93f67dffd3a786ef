//! Who came and what each of them was told at the door: the input, as far as it was acknowledged.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use waypost_types::IdentifierClass;

/// An identifier as it was said.
pub type Name = (IdentifierClass, String);

/// What an event says, as far as the oracle needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A page, a product.
    Looked,
    /// Names that belong together.
    Identified,
    /// Consent to a topic's messages.
    Subscribed(&'static str),
    /// A cart was touched.
    Touched(String),
    /// A run of the greetings journey begins.
    Joined(String),
    /// A ticket, which must be answered.
    Asked(String),
    /// Everything bought.
    Ordered(String),
    /// No more reminders of carts.
    OptedOut,
    /// The same, by the link of a message; each press is an event of its own.
    Pressed,
}

/// One event.
#[derive(Clone, Debug)]
pub struct Said {
    /// What.
    pub what: What,
    /// Under which names.
    pub names: Vec<Name>,
    /// Not later than the event's own time.
    pub first_tried: i64,
    /// Not earlier than the acknowledgement; none while it is being said.
    pub acknowledged: Option<i64>,
    /// How often it was sent until it was acknowledged.
    pub tries: u32,
}

/// One person.
#[derive(Clone, Debug)]
pub struct Person {
    /// From 0.
    pub number: usize,
    /// What the person does.
    pub plot: &'static str,
    /// In order.
    pub said: Vec<Said>,
    /// Has nothing more to say.
    pub done: bool,
    /// Refused for good at the door.
    pub refused: Option<String>,
}

/// Everybody.
#[derive(Clone, Debug, Default)]
pub struct People(Arc<Mutex<Vec<Person>>>);

/// The topic of carts, whose messages somebody may want no more.
pub const REMINDERS: &str = "cart-reminders";

// === impl Person ===

impl Person {
    /// All names, each once.
    pub fn names(&self) -> Vec<Name> {
        let mut names: Vec<Name> = self.said.iter().flat_map(|said| said.names.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Each topic that was spoken of, and whether its messages are wanted: the last word. None where that word was never
    /// acknowledged, and both may be true.
    pub fn wants(&self) -> BTreeMap<&'static str, Option<bool>> {
        let words = self.said.iter().filter_map(|said| {
            let (topic, wanted) = match said.what {
                What::Subscribed(topic) => (topic, true),
                What::OptedOut | What::Pressed => (REMINDERS, false),
                What::Looked | What::Identified | What::Touched(_) | What::Joined(_) | What::Asked(_) | What::Ordered(_) => return None,
            };
            Some((topic, said.acknowledged.map(|_| wanted)))
        });
        words.collect()
    }

    /// Whether it is more than one profile until they meet.
    pub fn merges(&self) -> bool {
        self.plot == "merge"
    }
}

// === impl People ===

impl People {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Person>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody new; the number.
    pub fn arrive(&self, plot: &'static str) -> usize {
        let mut all = self.lock();
        let number = all.len();
        all.push(Person { number, plot, said: Vec::new(), done: false, refused: None });
        number
    }

    /// Notes what is about to be said; its index.
    pub fn say(&self, person: usize, said: Said) -> usize {
        let mut all = self.lock();
        let list = &mut all[person].said;
        list.push(said);
        list.len() - 1
    }

    /// Changes one person.
    pub fn change(&self, person: usize, change: impl FnOnce(&mut Person)) {
        change(&mut self.lock()[person]);
    }

    /// As they are now.
    pub fn all(&self) -> Vec<Person> {
        self.lock().clone()
    }

    /// Events acknowledged, and events that wait for it.
    pub fn events(&self) -> (usize, usize) {
        let all = self.lock();
        let said = || all.iter().flat_map(|p| &p.said);
        (said().filter(|s| s.acknowledged.is_some()).count(), said().filter(|s| s.acknowledged.is_none()).count())
    }

    /// Whether nobody has anything more to say.
    pub fn are_done(&self) -> bool {
        self.lock().iter().all(|p| p.done)
    }
}
