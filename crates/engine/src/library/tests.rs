//! The shop's own journeys, from files to a compiled set.

use waypost_types::{Span, Timestamp};

use super::*;
use crate::{
    apply::{plan_apply, plan_publish, plan_workspace},
    definitions::{Delay, Match, StepKind, WhileLive},
    manifest::parse_files,
};

const SHOP: WorkspaceId = WorkspaceId::new(1);

/// The files of `journeys/`, by their path from there.
fn files() -> BTreeMap<&'static str, &'static str> {
    macro_rules! file {
        ($path:literal) => {
            ($path, include_str!(concat!("../../../../journeys/", $path)))
        };
    }
    BTreeMap::from([
        file!("shop.yaml"),
        file!("cart-recovery/journey.yaml"),
        file!("cart-recovery/templates.yaml"),
        file!("cart-recovery/remind.mjml"),
        file!("cart-recovery/again.mjml"),
        file!("cart-recovery/last-call.mjml"),
        file!("welcome/journey.yaml"),
        file!("welcome/templates.yaml"),
        file!("welcome/welcome.mjml"),
        file!("welcome/first-steps.mjml"),
    ])
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn shown(problems: Vec<Problem>) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn shop() -> Vec<Manifest> {
    let all = files();
    let yaml = all.iter().filter(|(name, _)| !name.ends_with("mjml"));
    let yaml: Vec<(String, String)> = yaml.map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    parse_files(&yaml, &|path| all.get(path).map(|t| (*t).to_owned())).map_err(shown).unwrap()
}

/// Applies and publishes everything into a library.
fn published(library: &Library) -> (SetManifest, String) {
    let start = SetManifest::empty(SHOP, "shop");
    let plan = plan_apply(&start, library, SHOP, &shop()).map_err(shown).unwrap();
    for (_, body) in plan.bodies {
        library.insert(body);
    }
    let mut set = plan.next;
    for journey in ["cart-recovery", "welcome"] {
        set = plan_publish(&set, library, SHOP, journey, Timestamp::ZERO).map_err(shown).unwrap().next;
    }
    let defv = Library::defv(&set);
    library.insert(set.to_bytes());
    (set, defv)
}

#[test]
fn the_shops_journeys_compile() {
    let library = Library::default();
    let (set, defv) = published(&library);
    assert_eq!(set.number, 3);
    let compiled = library.set(&defv).unwrap();
    let w = &compiled.workspaces[&SHOP];
    assert_eq!((w.name.as_str(), w.policy.timezone.as_str(), w.sources.len(), w.templates.len()), ("shop", "Europe/Berlin", 3, 5));

    let cart = &w.journeys["cart-recovery"].versions[&1];
    assert_eq!(w.journeys["cart-recovery"].active, Some(1));
    assert_eq!(cart.entries[0].while_live, WhileLive::Rearm);
    assert_eq!(cart.event_names, ["Cart Updated", "Order Completed", "Product Added", "Product Removed"]);
    assert_eq!(cart.event_paths, ["cart_id"]);
    let StepKind::Delay(Delay::For { span, from_entry: true, min: None }) = cart.steps[0].kind else { panic!("{:?}", cart.steps[0]) };
    assert_eq!(span, Span::from_hours(1));
    let StepKind::Send(send) = &cart.steps[1].kind else { panic!("{:?}", cart.steps[1]) };
    assert_eq!((send.channel.as_str(), send.channel_kind.as_str()), ("email", "email"));
    let template = &w.templates[&send.template];
    assert_eq!((template.name.as_str(), template.data.len()), ("cart-remind", 2));
    assert!(template.email.as_ref().unwrap().source.contains("unsubscribe_url()"));

    let welcome = &w.journeys["welcome"].versions[&1];
    assert!(matches!(&welcome.exit_on[0].on, Match::Event { names, filter: None } if names == &["Order Completed"]));
    assert_eq!(welcome.steps[2].next, None);
}

#[test]
fn a_channel_has_the_secret_of_its_own_workspace() {
    let library = Library::default();
    let channel = "{apiVersion: waypost.dev/v1, kind: Channel, metadata: {name: mail}, \
        spec: {type: email, provider: http, from: a@shop.example, url: 'https://relay.example/send', secret: relay, default: true}}";
    let channel = parse_files(&[("c.yaml".to_owned(), channel.to_owned())], &|_| None).map_err(shown).unwrap();
    let (other, plan) = plan_workspace(&SetManifest::empty(SHOP, "default"), "shop").unwrap();
    let mut set = plan.next;
    for workspace in [SHOP, other] {
        let plan = plan_apply(&set, &library, workspace, &channel).map_err(shown).unwrap();
        for (_, body) in plan.bodies {
            library.insert(body);
        }
        set = plan.next;
    }
    library.insert(set.to_bytes());
    let compiled = library.set(&Library::defv(&set)).unwrap();
    let secrets = [SHOP, other].map(|id| compiled.workspaces[&id].channels["mail"].secret.clone());
    assert_eq!(secrets, [Some("relay".to_owned()), Some("shop.relay".to_owned())]);
}

#[test]
fn a_set_waits_for_its_bodies() {
    let full = Library::default();
    let (set, defv) = published(&full);
    let library = Library::default();
    assert!(matches!(library.look_up(&defv), Shelf::Missing(m) if m.len() == 1));
    library.insert(set.to_bytes());
    let Shelf::Missing(missing) = library.look_up(&defv) else { panic!() };
    for hash in missing {
        assert!(library.set(&defv).is_none());
        library.insert(full.body(&hash).unwrap());
    }
    assert!(library.set(&defv).is_some());
}

#[test]
fn before_the_first_set_nothing_is_defined() {
    let set = Library::default().set("").unwrap();
    assert_eq!((set.number, set.workspaces.len()), (0, 0));
    assert!(matches!(Library::default().look_up("nonsense"), Shelf::Broken(_)));
}

#[test]
fn stored_bodies_read_as_their_files_did() {
    for manifest in shop() {
        let again = Manifest::from_body(&manifest.body, "stored").map_err(shown).unwrap();
        assert_eq!((again.kind, &again.name, again.hash), (manifest.kind, &manifest.name, manifest.hash));
    }
}
