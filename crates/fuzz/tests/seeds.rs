//! The committed seeds, and small mutations of each, through every target: what `make fuzz` has found once
//! is not found twice, on any toolchain and without a fuzzer.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use waypost_fuzz::TARGETS;

/// Mutations of a seed; each target's are the same in every run.
const MUTATIONS: u64 = 300;

fn seeds_of(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A generator of Knuth's (MMIX): the point is that it is the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound.max(1)
    }
}

/// Flips, cuts, doubles and overwrites.
fn mutated(seed: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len());
        match chance.below(5) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << chance.below(8),
            1 => bytes.truncate(at),
            2 => {
                let piece = bytes[at..].to_vec();
                bytes.extend(piece.into_iter().take(64));
            }
            3 if !bytes.is_empty() => bytes[at] = [0, 0xff, 0x7f, 0x80, b'{', b'"'][chance.below(6)],
            _ => bytes.insert(at.min(bytes.len()), u8::try_from(chance.below(256)).unwrap()),
        }
    }
    bytes
}

#[test]
fn every_target_stands_its_seeds_and_their_mutations() {
    for target in TARGETS {
        let seeds = seeds_of(target.name);
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        let mut chance = Chance(1);
        let (mut seeds_taken, mut mutations_taken) = (0, 0);
        for seed in &seeds {
            seeds_taken += usize::from((target.run)(seed));
            for _ in 0..MUTATIONS {
                mutations_taken += usize::from((target.run)(&mutated(seed, &mut chance)));
            }
        }
        // What never gets past the decoder tries the decoder alone.
        assert!(seeds_taken > 0, "{}: no seed is taken in", target.name);
        // A token is sealed: a changed one must not open.
        assert_eq!(mutations_taken > 0, target.name != "unsubscribe_token", "{}: {mutations_taken} mutations", target.name);
    }
}

#[test]
fn seeds_are_small_enough_to_be_read_whole_and_kept() {
    let all: Vec<Vec<u8>> = TARGETS.iter().flat_map(|target| seeds_of(target.name)).collect();
    assert!(all.iter().all(|seed| seed.len() <= 16_384), "`make fuzz` would read half of it");
    assert!(all.iter().map(Vec::len).sum::<usize>() < 300_000);
}

#[test]
fn every_target_has_its_binary() {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cargo-fuzz");
    let cargo = fs::read_to_string(manifest.join("Cargo.toml")).unwrap();
    for target in TARGETS {
        assert!(manifest.join("fuzz_targets").join(format!("{}.rs", target.name)).exists(), "{}", target.name);
        assert!(cargo.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
    }
    let folders: BTreeSet<String> = fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, TARGETS.iter().map(|t| t.name.to_owned()).collect::<BTreeSet<_>>());
}
