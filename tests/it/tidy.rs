//! Rules of the repository, as tests: who may depend on whom, and what is absent where (ARCHITECTURE.md).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Workspace crates with their normal dependencies: (ours, all).
fn crates() -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let short = |name: &str| match name {
        "waypost" => "app".to_owned(),
        "waypostctl" => "ctl".to_owned(),
        other => other.trim_start_matches("waypost-").to_owned(),
    };
    let mut crates = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let (mut ours, mut all) = (BTreeSet::new(), BTreeSet::new());
        for dependency in package["dependencies"].as_array().unwrap() {
            if !dependency["kind"].is_null() {
                continue;
            }
            let name = dependency["name"].as_str().unwrap();
            all.insert(name.to_owned());
            if name.starts_with("waypost") {
                ours.insert(short(name));
            }
        }
        crates.insert(short(package["name"].as_str().unwrap()), (ours, all));
    }
    crates
}

const LAYERS: &[(&str, &[&str])] = &[
    ("leaves", &["types", "telemetry"]),
    ("formats", &["proto", "codec"]),
    ("core", &["runtime", "engine"]),
    ("roles", &["ingest", "identity", "segmenter", "orchestrator", "sender", "control"]),
    ("adapters", &["memory", "kafka", "redis", "providers"]),
    ("composition", &["app", "sim", "ctl", "fuzz", "bench", "tests"]),
];
const ROLES: &[&str] = LAYERS[3].1;
const ADAPTERS: &[&str] = LAYERS[4].1;

fn layer(name: &str) -> usize {
    LAYERS
        .iter()
        .position(|(_, names)| names.contains(&name))
        .unwrap_or_else(|| panic!("crate `{name}` is in no layer: add it to tidy.rs and ARCHITECTURE.md"))
}

#[test]
fn crates_depend_downwards_only() {
    for (name, (ours, _)) in crates() {
        if name == "tests" {
            continue;
        }
        for dependency in ours {
            let within = layer(&name) == layer(&dependency);
            let allowed = layer(&dependency) < layer(&name)
                || (within
                    && matches!(
                        (name.as_str(), dependency.as_str()),
                        ("codec", "proto") | ("telemetry", "types") | ("app", "sim") | ("bench", "tests")
                    ));
            assert!(allowed, "{name} may not depend on {dependency}");
        }
    }
}

#[test]
fn roles_do_not_import_roles() {
    for (name, (ours, _)) in crates() {
        if ROLES.contains(&name.as_str()) {
            let others: Vec<_> = ours.iter().filter(|d| ROLES.contains(&d.as_str())).collect();
            assert!(others.is_empty(), "role {name} imports {others:?}");
        }
    }
}

#[test]
fn runtime_and_engine_do_not_know_each_other() {
    let crates = crates();
    assert!(!crates["runtime"].0.contains("engine"));
    assert!(!crates["engine"].0.contains("runtime"));
}

#[test]
fn only_composition_sees_roles_and_adapters_together() {
    for (name, (ours, _)) in crates() {
        let roles = ours.iter().any(|d| ROLES.contains(&d.as_str()));
        let adapters = ours.iter().any(|d| ADAPTERS.contains(&d.as_str()));
        if roles && adapters {
            assert!(matches!(name.as_str(), "app" | "sim" | "fuzz" | "bench"), "{name} sees roles and adapters");
        }
    }
}

#[test]
fn outside_clients_have_one_parent_each() {
    let parents = [
        // the bench's baseline is a chain of plain clients
        ("rdkafka", &["kafka", "bench"][..]),
        ("redis", &["redis"]),
        ("reqwest", &["providers"]),
        ("lettre", &["providers"]),
        ("mail-builder", &["providers", "sender"]),
    ];
    for (name, (_, all)) in crates() {
        for (client, allowed) in parents {
            if all.contains(client) {
                assert!(allowed.contains(&name.as_str()), "{name} names {client}; only {allowed:?} may");
            }
        }
    }
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "target" && n != "gen") {
                sources(&path, into);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn engine_has_no_clock_chance_io_async_or_logging() {
    let (_, (_, all)) = crates().into_iter().find(|(name, _)| name == "engine").unwrap();
    for banned in ["tokio", "futures", "async-trait", "tracing", "log", "rand", "fastrand", "getrandom", "rdkafka", "redis", "reqwest"] {
        assert!(!all.contains(banned), "engine depends on {banned}");
    }
    let words = [
        "SystemTime",
        "Instant::",
        "std::fs",
        "std::net",
        "std::env",
        "std::thread",
        "std::process",
        "async fn",
        ".await",
        "HashMap",
        "HashSet",
        "println!",
        "eprintln!",
        "Zoned::now",
        "Timestamp::now",
        "thread_rng",
        "RandomState",
    ];
    let mut files = Vec::new();
    sources(&root().join("crates/engine/src"), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            for word in words {
                assert!(!line.contains(word), "{}:{}: `{word}` in the engine", file.display(), number + 1);
            }
        }
    }
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    sources(&root().join("tests"), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!"), "{} does not begin with `//!`", file.display());
    }
}

#[test]
fn nothing_is_left_undone() {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for word in ["todo!(", "unimplemented!(", "#[ignore", "#[should_panic", "FIXME"] {
            assert!(!text.contains(word), "{} contains {word}", file.display());
        }
    }
}
