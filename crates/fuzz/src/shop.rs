//! The library journeys, compiled: what folds and templates need of definitions.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use waypost_engine::{
    apply::{SetManifest, plan_apply, plan_publish},
    definitions::Workspace,
    library::Library,
    manifest::parse_files,
};
use waypost_types::{Timestamp, WorkspaceId};

/// 2026-03-01T12:00:00Z
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_772_366_400_000);
/// The one workspace.
pub(crate) const SHOP: WorkspaceId = WorkspaceId::new(1);

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../../journeys/", $path)))),*]
    };
}

/// Manifests and templates of the library.
pub(crate) static FILES: LazyLock<BTreeMap<&str, &str>> = LazyLock::new(|| {
    BTreeMap::from(files![
        "shop.yaml",
        "cart-recovery/journey.yaml",
        "cart-recovery/templates.yaml",
        "cart-recovery/remind.mjml",
        "cart-recovery/again.mjml",
        "cart-recovery/last-call.mjml",
        "welcome/journey.yaml",
        "welcome/templates.yaml",
        "welcome/welcome.mjml",
        "welcome/first-steps.mjml",
    ])
});

/// All of them published: the library and the name of the set.
pub(crate) static PUBLISHED: LazyLock<(Arc<Library>, String)> = LazyLock::new(|| {
    let library = Library::default();
    let yaml: Vec<(String, String)> =
        FILES.iter().filter(|(name, _)| !name.ends_with("mjml")).map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let manifests = parse_files(&yaml, &|path| FILES.get(path).map(|t| (*t).to_owned())).expect("the library's journeys parse");
    let plan = plan_apply(&SetManifest::empty(SHOP, "shop"), &library, SHOP, &manifests).expect("they apply");
    for (_, body) in plan.bodies {
        library.insert(body);
    }
    let mut set = plan.next;
    for journey in ["cart-recovery", "welcome"] {
        set = plan_publish(&set, &library, SHOP, journey, Timestamp::ZERO).expect("they publish").next;
    }
    let defv = Library::defv(&set);
    library.insert(set.to_bytes());
    (Arc::new(library), defv)
});

static WORKSPACE: LazyLock<Arc<Workspace>> =
    LazyLock::new(|| Arc::clone(&PUBLISHED.0.set(&PUBLISHED.1).expect("the set compiles").workspaces[&SHOP]));

/// The shop's definitions.
pub(crate) fn workspace() -> &'static Workspace {
    &WORKSPACE
}
