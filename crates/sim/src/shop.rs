//! The definitions of every world: short journeys, a segment that lapses, four sets one after the other.

pub mod held;

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use waypost_codec::inbox;
use waypost_engine::{
    apply::{Plan, SetManifest, plan_apply, plan_archive, plan_publish},
    library::Library,
    manifest::{Manifest, Problem, parse_files},
};
use waypost_types::{ContentHash, Timestamp, WorkspaceId};

/// The workspace of every world.
pub const WORKSPACE: WorkspaceId = WorkspaceId::new(1);

/// Bodies, compiled sets, and what activates them.
#[derive(Clone, Debug)]
pub struct Shop {
    /// Shared by all worlds: it only ever grows by what it has already.
    pub library: Arc<Library>,
    /// In order of activation.
    pub sets: Vec<inbox::DefActivate>,
    /// What each set adds to a library that has those before.
    pub bodies: Vec<Vec<Bytes>>,
}

const BODY: &str = "<p>{{ profile.first_name }}, <a href=\"{{ action.url }}\">{{ action.label }}</a></p>\
<p><a href=\"{{ unsubscribe_url() }}\">stop</a> {{ postal_address() }}</p>";

const ANSWER: &str = "<p>{{ profile.first_name }}, <a href=\"{{ action.url }}\">{{ action.label }}</a></p>";

const FILES: &str = r#"
apiVersion: waypost.dev/v1
kind: Policy
metadata: {name: shop}
spec: {currency: EUR, timezone: UTC, shop: {postal_address: Street 1}}
---
apiVersion: waypost.dev/v1
kind: Topic
metadata: {name: carts}
spec: {title: Carts, class: marketing, defaults: {email: opt_out}, inherit: true}
---
apiVersion: waypost.dev/v1
kind: Channel
metadata: {name: mail}
spec: {type: email, provider: catcher, from: Shop <hello@shop.example>, default: true}
---
apiVersion: waypost.dev/v1
kind: Segment
metadata: {name: fresh-buyers}
spec: {describe: Bought a moment ago, where: 'within(profile.last_order_at, "6s")'}
---
apiVersion: waypost.dev/v1
kind: Template
metadata: {name: remind}
spec:
  optional: {profile.first_name: there}
  action: {label: Go, url: 'https://shop.example/'}
  channels: {email: {subject: Hello, html: body.html}}
---
apiVersion: waypost.dev/v1
kind: Journey
metadata: {name: cart}
spec:
  title: Cart
  describe: Two reminders of a cart, a few seconds apart. Any order ends it.
  owner: ops@shop.example
  topic: carts
  priority: 80
  max_age: 1d
  entries:
    - id: touched
      on_event: {names: [Product Added]}
      where: 'cart_open(event.cart_id)'
      key: event.cart_id
      while_live: rearm
  exit_on:
    - {id: ordered, event: Order Completed}
  steps:
    - {id: settle, delay: {for: 4s, from: entry}}
    - {id: remind, send: {channel: email, template: remind, valid_for: 40s, fresh: [cart]}}
    - {id: pause, delay: {for: 5s}}
    - {id: again, send: {channel: email, template: remind, valid_for: 40s, fresh: [cart]}}
---
apiVersion: waypost.dev/v1
kind: Template
metadata: {name: answer}
spec:
  optional: {profile.first_name: there}
  action: {label: Go, url: 'https://shop.example/'}
  channels: {email: {subject: Hello, html: answer.html}}
---
apiVersion: waypost.dev/v1
kind: Journey
metadata: {name: ticket}
spec:
  title: Ticket
  describe: Every ticket is answered at once.
  owner: ops@shop.example
  class: transactional
  max_age: 1d
  entries:
    - {id: asked, on_event: {names: [Ticket Asked]}, key: event.ticket_id}
  steps:
    - {id: answer, send: {channel: email, template: answer, valid_for: 20m}}
---
apiVersion: waypost.dev/v1
kind: Journey
metadata: {name: pledge}
spec:
  title: Pledge
  describe: Who has not kept a pledge is reminded of it.
  owner: ops@shop.example
  class: transactional
  max_age: 1d
  entries:
    - {id: made, on_event: {names: [Pledge Made]}, key: event.subscription_id}
  exit_on:
    - {id: kept, event: Pledge Kept, where: event.subscription_id == run.key}
  steps:
    - {id: patience, delay: {for: 3s, from: entry}}
    - {id: recall, send: {channel: email, template: answer, valid_for: 20m}}
---
apiVersion: waypost.dev/v1
kind: Journey
metadata: {name: welcome}
spec:
  title: Welcome
  describe: A welcome at once and another later. Any order ends it.
  owner: ops@shop.example
  topic: carts
  priority: 20
  max_age: 1d
  entries:
    - {id: joined, on_event: {names: [Signed Up]}}
  exit_on:
    - {id: ordered, event: Order Completed}
  steps:
    - {id: greet, send: {channel: email, template: remind, valid_for: 40s}}
    - {id: pause, delay: {for: 3s}}
    - {id: more, send: {channel: email, template: remind, valid_for: 40s}}
"#;

// === impl Shop ===

impl Shop {
    /// The one shop.
    ///
    /// # Panics
    /// If its definitions, which are constants, are wrong.
    pub fn get() -> &'static Self {
        static SHOP: OnceLock<Shop> = OnceLock::new();
        SHOP.get_or_init(|| Self::open().unwrap_or_else(|why| panic!("the shop's definitions: {why}")))
    }

    fn open() -> Result<Self, String> {
        let mut opening = Opening::begin()?;
        for journey in ["ticket", "pledge", "cart"] {
            opening.publish(journey)?;
        }
        opening.activate();
        opening.publish("welcome")?;
        opening.activate();
        // And back, and forth again.
        opening.keep(plan_archive(&opening.current, WORKSPACE, "welcome", Timestamp::ZERO))?;
        opening.activate();
        opening.apply()?;
        opening.publish("welcome")?;
        opening.activate();
        opening.open()
    }
}

/// A shop on its way: what has been applied and published, and which of it comes into force.
struct Opening {
    library: Library,
    all: BTreeSet<Bytes>,
    manifests: Vec<Manifest>,
    current: SetManifest,
    sets: Vec<SetManifest>,
}

// === impl Opening ===

impl Opening {
    /// With everything applied and nothing published.
    fn begin() -> Result<Self, String> {
        let attachments = |path: &str| match path {
            "body.html" => Some(BODY.to_owned()),
            "answer.html" => Some(ANSWER.to_owned()),
            _ => None,
        };
        let manifests = parse_files(&[("shop.yaml".to_owned(), FILES.to_owned())], &attachments).map_err(shown)?;
        let (library, all) = (Library::default(), BTreeSet::new());
        let mut opening = Self { library, all, manifests, current: SetManifest::empty(WORKSPACE, "shop"), sets: Vec::new() };
        opening.apply()?;
        Ok(opening)
    }

    fn keep(&mut self, plan: Result<Plan, Vec<Problem>>) -> Result<(), String> {
        let plan = plan.map_err(shown)?;
        for (_, body) in plan.bodies {
            self.library.insert(body.clone());
            self.all.insert(body);
        }
        self.current = plan.next;
        Ok(())
    }

    fn apply(&mut self) -> Result<(), String> {
        self.keep(plan_apply(&self.current, &self.library, WORKSPACE, &self.manifests))
    }

    fn publish(&mut self, journey: &str) -> Result<(), String> {
        self.keep(plan_publish(&self.current, &self.library, WORKSPACE, journey, Timestamp::ZERO))
    }

    /// What there is now is one of the sets.
    fn activate(&mut self) {
        self.sets.push(self.current.clone());
    }

    fn open(self) -> Result<Shop, String> {
        let (mut sets, mut bodies) = (Vec::new(), vec![self.all.into_iter().collect::<Vec<Bytes>>()]);
        for set in self.sets {
            let bytes = set.to_bytes();
            let hash = ContentHash::of(&bytes);
            self.library.insert(bytes.clone());
            bodies.push(vec![bytes]);
            self.library.set(&Library::defv(&set)).ok_or("a set does not compile")?;
            sets.push(inbox::DefActivate { set: set.number, hash: Bytes::copy_from_slice(hash.as_bytes()) });
        }
        // The first set comes with every definition, since all were applied before it.
        let first = bodies.swap_remove(1);
        bodies[0].extend(first);
        Ok(Shop { library: Arc::new(self.library), sets, bodies })
    }
}

fn shown(problems: impl IntoIterator<Item = Problem>) -> String {
    problems.into_iter().map(|problem| problem.to_string()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_set_follows_the_one_before() {
        let sets = &Shop::get().sets;
        assert_eq!(sets.len(), 4);
        assert!(sets.is_sorted_by(|a, b| a.set < b.set));
    }
}
