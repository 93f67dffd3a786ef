//! The committed code under `src/gen` is what the `.proto` files say.
//!
//! `WAYPOST_CODEGEN=write cargo test -p waypost-proto` writes it anew.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use std::{fs, path::Path};

#[test]
fn committed_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gen");
    let out = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    collect(&root.join("waypost"), &mut files);
    files.sort();
    let set = protox::compile(&files, [&root]).unwrap();
    let mut config = tonic_prost_build::Config::new();
    config.bytes(["."]);
    config.out_dir(out.path());
    tonic_prost_build::configure()
        .build_transport(true)
        .file_descriptor_set_path(out.path().join("descriptors.bin"))
        .out_dir(out.path())
        .compile_fds_with_config(set.clone(), config)
        .unwrap();
    fs::write(out.path().join("descriptors.bin"), prost_bytes(&set)).unwrap();

    let write = std::env::vars().any(|(k, v)| k == "WAYPOST_CODEGEN" && v == "write");
    let mut stale = Vec::new();
    let mut names: Vec<_> = fs::read_dir(out.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let fresh = fs::read(out.path().join(&name)).unwrap();
        let target = committed.join(&name);
        if fs::read(&target).ok().as_deref() != Some(&fresh[..]) {
            if write {
                fs::write(&target, &fresh).unwrap();
            } else {
                stale.push(name);
            }
        }
    }
    assert!(stale.is_empty(), "stale generated code: {stale:?}; run `make codegen`");
}

fn prost_bytes(set: &impl prost::Message) -> Vec<u8> {
    set.encode_to_vec()
}

fn collect(dir: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|e| e == "proto") {
            into.push(path);
        }
    }
}
