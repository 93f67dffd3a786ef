//! What a shop has defined: as many journeys and segments as asked for, of the kinds that shops have, or what a folder holds.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{frame::Record, inbox, kind};
use waypost_engine::{
    apply::{Plan, SetManifest, plan_apply, plan_publish},
    library::Library,
    manifest::{Kind, Manifest, Problem, parse_files},
};
use waypost_types::{ContentHash, Timestamp, WorkspaceId};

/// Compiled definitions, and the record that puts them in force.
#[derive(Clone, Debug)]
pub struct Shop {
    /// Bodies and compiled sets.
    pub library: Arc<Library>,
    set: inbox::DefActivate,
}

const BASE: &str = "
apiVersion: waypost.dev/v1
kind: Policy
metadata: {name: shop}
spec: {currency: EUR, timezone: Europe/Berlin, shop: {postal_address: Street 1, restore_url: 'https://shop.example/cart'}}
---
apiVersion: waypost.dev/v1
kind: Topic
metadata: {name: news}
spec: {title: News, class: marketing, defaults: {email: opt_out}, inherit: true}
---
apiVersion: waypost.dev/v1
kind: Channel
metadata: {name: mail}
spec: {type: email, provider: catcher, from: Shop <hello@shop.example>, default: true}
---
apiVersion: waypost.dev/v1
kind: Template
metadata: {name: hello}
spec:
  optional: {profile.first_name: there}
  action: {label: Go, url: 'https://shop.example/'}
  channels: {email: {subject: Hello, html: body.html}}
";

const BODY: &str = "<p>{{ profile.first_name }}, <a href=\"{{ action.url }}\">{{ action.label }}</a></p>\
<p><a href=\"{{ unsubscribe_url() }}\">stop</a> {{ postal_address() }}</p>";

/// Event names that start journeys beyond the first, by turns; most of a shop's many journeys wait for what is rare.
const TRIGGERS: [&str; 6] = ["Order Fulfilled", "Order Delivered", "Subscribed", "Checkout Started", "Product Reviewed", "Loyalty Joined"];

// === impl Shop ===

impl Shop {
    /// A shop with so many journeys and segments.
    ///
    /// # Errors
    /// If the engine refuses them.
    pub fn new(workspace: WorkspaceId, journeys: usize, segments: usize) -> anyhow::Result<Self> {
        let attachments = |path: &str| (path == "body.html").then(|| BODY.to_owned());
        let manifests = parse_files(&[("shop.yaml".to_owned(), manifests(journeys, segments))], &attachments).map_err(shown)?;
        Self::publish(workspace, &manifests)
    }

    /// What lies in folders, with all their journeys published.
    ///
    /// # Errors
    /// If one cannot be read, or the engine refuses it.
    pub fn from_folders(workspace: WorkspaceId, folders: &[&Path]) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        for folder in folders {
            manifests_in(folder, &mut files).with_context(|| folder.display().to_string())?;
        }
        let manifests = parse_files(&files, &|path| fs::read_to_string(path).ok()).map_err(shown)?;
        Self::publish(workspace, &manifests)
    }

    fn publish(workspace: WorkspaceId, manifests: &[Manifest]) -> anyhow::Result<Self> {
        let library = Library::default();
        let keep = |plan: Plan| {
            for (_, body) in plan.bodies {
                library.insert(body);
            }
            plan.next
        };
        let mut set = keep(plan_apply(&SetManifest::empty(workspace, "shop"), &library, workspace, manifests).map_err(shown)?);
        for journey in manifests.iter().filter(|manifest| manifest.kind == Kind::Journey) {
            set = keep(plan_publish(&set, &library, workspace, &journey.name, Timestamp::ZERO).map_err(shown)?);
        }
        let bytes = set.to_bytes();
        let hash = ContentHash::of(&bytes);
        library.insert(bytes);
        library.set(&Library::defv(&set)).context("the set does not compile")?;
        let set = inbox::DefActivate { set: set.number, hash: Bytes::copy_from_slice(hash.as_bytes()) };
        Ok(Self { library: Arc::new(library), set })
    }

    /// What a partition has to fold before the traffic.
    pub fn activation(&self, now: Timestamp) -> Record {
        Record::new(kind::DEF_ACTIVATE, WorkspaceId::new(0), [0xdd; 16], Bytes::new(), now, self.set.encode_to_vec().into())
    }
}

/// Every YAML file below a folder, in order of its path.
fn manifests_in(folder: &Path, files: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            manifests_in(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push((path.to_str().context("a file's name is no text")?.to_owned(), fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

fn journey_name(number: usize) -> String {
    if number == 0 { "cart".to_owned() } else { format!("journey-{number}") }
}

/// The manifests: a cart journey first, then journeys of rarer events; segments of recency, value, traits and carts by turns.
pub fn manifests(journeys: usize, segments: usize) -> String {
    let mut text = BASE.to_owned();
    for number in 0..segments {
        let days = 1 + number % 90;
        let condition = match number % 4 {
            0 => format!("within(profile.last_order_at, \"{days}d\")"),
            1 => format!("profile.ltv >= money(\"{}.00\")", 10 + number),
            2 => format!("profile.order_count >= {}", 1 + number % 20),
            _ => format!("profile.first_name == \"Name{number}\" || within(profile.created_at, \"{days}d\")"),
        };
        text.extend([format!(
            "---\napiVersion: waypost.dev/v1\nkind: Segment\nmetadata: {{name: segment-{number}}}\n\
             spec: {{describe: Number {number}, where: '{condition}'}}\n"
        )]);
    }
    for number in 0..journeys {
        let name = journey_name(number);
        let entry = if number == 0 {
            "{id: start, on_event: {names: [Product Added, Product Removed]}, where: 'cart_open(event.cart_id)', \
             key: event.cart_id, while_live: rearm}"
                .to_owned()
        } else {
            let trigger = TRIGGERS[number % TRIGGERS.len()];
            format!("{{id: start, on_event: {{name: {trigger}}}, where: 'profile.order_count >= {}'}}", 1 + number % 7)
        };
        text.extend([format!("---\napiVersion: waypost.dev/v1\nkind: Journey\nmetadata: {{name: {name}}}\nspec:\n  title: Number {number}\n  \
             describe: Two reminders.\n  owner: ops@shop.example\n  topic: news\n  priority: {}\n  max_age: 6d\n  entries:\n    - {entry}\n  \
             exit_on:\n    - {{id: ordered, event: Order Completed}}\n  steps:\n    - {{id: settle, delay: {{for: 1h, from: entry}}}}\n    \
             - {{id: remind, send: {{channel: email, template: hello, valid_for: 6h}}}}\n    - {{id: pause, delay: {{for: 1d}}}}\n    \
             - {{id: again, send: {{channel: email, template: hello, valid_for: 6h}}}}\n",
            1 + number % 90
        )]);
    }
    text
}

fn shown(problems: impl IntoIterator<Item = Problem>) -> anyhow::Error {
    anyhow!("{}", problems.into_iter().map(|problem| problem.to_string()).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shop_is_as_large_as_asked_for() {
        assert!(Shop::new(WorkspaceId::new(1), 30, 50).is_ok());
    }

    #[test]
    fn a_shop_is_what_folders_hold() {
        let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../journeys");
        assert!(Shop::from_folders(WorkspaceId::new(1), &[&library]).is_ok());
        assert!(Shop::from_folders(WorkspaceId::new(1), &[&library, &library.join("absent")]).is_err());
    }
}
