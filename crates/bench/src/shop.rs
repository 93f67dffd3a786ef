//! What a shop has defined: as many journeys and segments as asked for, of the kinds that shops have, or what a folder holds.

use std::{collections::BTreeMap, fs, iter, path::Path, sync::Arc};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{frame::Record, inbox, kind};
use waypost_engine::{
    apply::{DefinitionEntry, Plan, SetManifest, State, WorkspaceEntry, plan_apply, plan_publish},
    definitions::DefinitionSet,
    library::{Library, Shelf, compile},
    manifest::{Kind, Manifest, Problem, parse_files},
};
use waypost_types::{ContentHash, Timestamp, WorkspaceId};

/// Compiled definitions, and the record that puts them in force.
#[derive(Clone, Debug)]
pub struct Shop {
    /// Bodies and compiled sets.
    pub library: Arc<Library>,
    set: SetManifest,
    activate: inbox::DefActivate,
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

/// Beyond so many, segments are another team's.
const TEAM_SEGMENTS: usize = 50;
/// Beyond so many, journeys are another team's.
const TEAM_JOURNEYS: usize = 30;
/// A file of manifests holds a mebibyte.
const MANIFESTS_A_FILE: usize = 500;

/// Event names that start journeys beyond the first, by turns; most of a shop's many journeys wait for what is rare.
const TRIGGERS: [&str; 6] = ["Order Fulfilled", "Order Delivered", "Subscribed", "Checkout Started", "Product Reviewed", "Loyalty Joined"];

// === impl Shop ===

impl Shop {
    /// A shop with so many journeys and segments.
    ///
    /// # Errors
    /// If the engine refuses them.
    pub fn new(workspace: WorkspaceId, journeys: usize, segments: usize) -> anyhow::Result<Self> {
        let manifests = parse_files(&[("shop.yaml".to_owned(), manifests(journeys, segments).concat())], &attached).map_err(shown)?;
        Self::publish(workspace, &manifests)
    }

    /// The same shop in so many workspaces, numbered from 1. It is put in force as if it had been published long ago: nobody asks
    /// whether a workspace may have so many definitions.
    ///
    /// # Errors
    /// If the engine cannot read or compile it.
    pub fn in_force(workspaces: u32, journeys: usize, segments: usize) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for (number, texts) in manifests(journeys, segments).chunks(MANIFESTS_A_FILE).enumerate() {
            all.extend(parse_files(&[(format!("shop-{number}.yaml"), texts.concat())], &attached).map_err(shown)?);
        }
        let templates: BTreeMap<String, String> = all
            .iter()
            .filter(|manifest| manifest.kind == Kind::Template)
            .map(|manifest| (manifest.name.clone(), hex::encode(manifest.hash.as_bytes())))
            .collect();
        let entry = |workspace: u32, manifest: &Manifest| DefinitionEntry {
            workspace,
            kind: manifest.kind,
            name: manifest.name.clone(),
            version: 1,
            hash: manifest.hash,
            state: State::Active,
            etag: String::new(),
            templates: if manifest.kind == Kind::Journey { templates.clone() } else { BTreeMap::new() },
            superseded_at: None,
        };
        let library = Library::default();
        for manifest in &all {
            library.insert(manifest.body.clone());
        }
        let workspace = |id| WorkspaceEntry { id, name: format!("shop-{id}") };
        let set = SetManifest {
            number: 1,
            workspaces: (1..=workspaces).map(workspace).collect(),
            definitions: (1..=workspaces).flat_map(|workspace| all.iter().map(move |manifest| entry(workspace, manifest))).collect(),
        };
        Self::of(library, set)
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
        Self::of(library, set)
    }

    fn of(library: Library, set: SetManifest) -> anyhow::Result<Self> {
        let bytes = set.to_bytes();
        let hash = ContentHash::of(&bytes);
        library.insert(bytes);
        library.set(&Library::defv(&set)).context("the set does not compile")?;
        let activate = inbox::DefActivate { set: set.number, hash: Bytes::copy_from_slice(hash.as_bytes()) };
        Ok(Self { library: Arc::new(library), set, activate })
    }

    /// Compiles it once more, as a process does that hears of it.
    ///
    /// # Errors
    /// If that fails.
    pub fn compile(&self) -> anyhow::Result<Arc<DefinitionSet>> {
        let hash = ContentHash::of(&self.set.to_bytes());
        match compile(&self.set, hash, &*self.library) {
            Shelf::Ready(set) => Ok(set),
            Shelf::Missing(bodies) => bail!("{} bodies are missing", bodies.len()),
            Shelf::Broken(problems) => Err(shown(problems)),
        }
    }

    /// How many definitions it has.
    pub fn definitions(&self) -> usize {
        self.set.definitions.len()
    }

    /// What a partition has to fold before the traffic.
    pub fn activation(&self, now: Timestamp) -> Record {
        Record::new(kind::DEF_ACTIVATE, WorkspaceId::new(0), [0xdd; 16], Bytes::new(), now, self.activate.encode_to_vec().into())
    }
}

/// What a manifest names beside it.
fn attached(path: &str) -> Option<String> {
    (path == "body.html").then(|| BODY.to_owned())
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

/// The manifests, one or more in a text: a cart journey first, then journeys of rarer events; segments.
pub fn manifests(journeys: usize, segments: usize) -> Vec<String> {
    iter::once(BASE.to_owned()).chain((0..segments).map(segment)).chain((0..journeys).map(journey)).collect()
}

fn segment(number: usize) -> String {
    let condition = condition(number);
    format!(
        "---\napiVersion: waypost.dev/v1\nkind: Segment\nmetadata: {{name: segment-{number}}}\n\
         spec: {{describe: Number {number}, where: '{condition}'}}\n"
    )
}

/// Of the first segments: recency, value, traits and carts by turns. Each further fifty are another team's: twenty
/// thresholds, ten of recency, ten of traits, five of segments, five of relative dates, all but the thresholds of value for
/// people with orders or a name, as no person is in more than a few of thousands.
fn condition(number: usize) -> String {
    let days = 1 + number % 90;
    let (team, own) = (number / TEAM_SEGMENTS, number % TEAM_SEGMENTS);
    let orders = 2 + number % 40;
    match (team, own) {
        (0, _) => match number % 4 {
            0 => format!("within(profile.last_order_at, \"{days}d\")"),
            1 => format!("profile.ltv >= money(\"{}.00\")", 10 + number),
            2 => format!("profile.order_count >= {}", 1 + number % 20),
            _ => format!("profile.first_name == \"Name{number}\" || within(profile.created_at, \"{days}d\")"),
        },
        (_, ..10) => format!("profile.ltv >= money(\"{}.00\")", 50 + number),
        (_, ..20) => format!("profile.order_count >= {orders} && profile.city == \"City {team}\""),
        (_, ..25) => format!("profile.order_count >= {orders} && within(profile.last_order_at, \"{days}d\")"),
        (_, ..30) => format!("profile.order_count >= {orders} && idle(profile.last_seen_at, \"{days}d\")"),
        (_, ..40) => format!("profile.first_name == \"Name{number}\""),
        (_, ..45) => {
            let first = team * TEAM_SEGMENTS;
            format!("in_segment(\"segment-{first}\") && !in_segment(\"segment-{}\")", first + own % 10)
        }
        (..) => format!("profile.order_count >= {orders} && elapsed(profile.first_order_at, \"{}d\")", 300 + days),
    }
}

fn journey_name(number: usize) -> String {
    if number == 0 { "cart".to_owned() } else { format!("journey-{number}") }
}

fn journey(number: usize) -> String {
    let (name, entry) = (journey_name(number), entry(number));
    format!(
        "---\napiVersion: waypost.dev/v1\nkind: Journey\nmetadata: {{name: {name}}}\nspec:\n  title: Number {number}\n  \
         describe: Two reminders.\n  owner: ops@shop.example\n  topic: news\n  priority: {}\n  max_age: 6d\n  entries:\n    - {entry}\n  \
         exit_on:\n    - {{id: ordered, event: Order Completed}}\n  steps:\n    - {{id: settle, delay: {{for: 1h, from: entry}}}}\n    \
         - {{id: remind, send: {{channel: email, template: hello, valid_for: 6h}}}}\n    - {{id: pause, delay: {{for: 1d}}}}\n    \
         - {{id: again, send: {{channel: email, template: hello, valid_for: 6h}}}}\n",
        1 + number % 90
    )
}

/// What starts a journey. Beyond the first thirty, nine in ten wait for an event of their team's own; the tenth for one that all
/// teams share, of its own store or of few people.
fn entry(number: usize) -> String {
    let at_least = 1 + number % 7;
    if number == 0 {
        return "{id: start, on_event: {names: [Product Added, Product Removed]}, where: 'cart_open(event.cart_id)', \
                key: event.cart_id, while_live: rearm}"
            .to_owned();
    }
    let team = number / TEAM_JOURNEYS;
    let (trigger, filter) = match number % 10 {
        _ if team == 0 => (TRIGGERS[number % TRIGGERS.len()].to_owned(), format!("profile.order_count >= {at_least}")),
        0 if team.is_multiple_of(2) => (shared(number), format!("event.meta.source == \"store-{team}\"")),
        0 => (shared(number), format!("profile.ltv >= money(\"{}.00\")", 100 + number)),
        _ => (format!("Team {team} Event {at_least}"), format!("profile.order_count >= {at_least}")),
    };
    format!("{{id: start, on_event: {{name: {trigger}}}, where: '{filter}'}}")
}

fn shared(number: usize) -> String {
    TRIGGERS[number / 10 % TRIGGERS.len()].to_owned()
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
    fn a_shop_in_force_is_the_one_that_is_published() {
        let in_force = Shop::in_force(2, 300, 1_200).unwrap();
        assert_eq!(in_force.definitions(), 2 * (4 + 300 + 1_200));
        let set = in_force.compile().unwrap();
        assert_eq!(set.workspaces.len(), 2);
        for workspace in set.workspaces.values() {
            assert_eq!((workspace.journeys.len(), workspace.segments.len()), (300, 1_200));
        }
        let few = Shop::in_force(1, 3, 5).unwrap().compile().unwrap();
        let published = Shop::new(WorkspaceId::new(1), 3, 5).unwrap().compile().unwrap();
        let of = |set: &DefinitionSet| {
            let workspace = &set.workspaces[&WorkspaceId::new(1)];
            let entered: Vec<_> = workspace.journeys.values().map(|journey| journey.entered().unwrap().hash).collect();
            (entered, workspace.segment_order.clone())
        };
        assert_eq!(of(&few), of(&published));
    }

    #[test]
    fn most_of_many_journeys_wait_for_what_only_their_team_does() {
        let set = Shop::in_force(1, 1_000, 0).unwrap().compile().unwrap();
        let journeys = &set.workspaces[&WorkspaceId::new(1)].journeys;
        let entered = |event: &str| journeys.concern(event).map_or(0, |concern| concern.entered.len());
        assert_eq!(entered("Page Viewed"), 0);
        let shared: usize = TRIGGERS.iter().map(|event| entered(event)).sum();
        assert!((80..150).contains(&shared), "{shared}");
        assert!((2..10).contains(&entered("Team 3 Event 4")), "{}", entered("Team 3 Event 4"));
    }

    #[test]
    fn a_shop_is_what_folders_hold() {
        let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../journeys");
        assert!(Shop::from_folders(WorkspaceId::new(1), &[&library]).is_ok());
        assert!(Shop::from_folders(WorkspaceId::new(1), &[&library, &library.join("absent")]).is_err());
    }
}
