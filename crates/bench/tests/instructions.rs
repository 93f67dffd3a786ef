//! Instructions an event and stage, counted by callgrind over a fixed input, beside the committed figures. Skipped, and said so, where
//! there is no `valgrind`; `make test` installs it where it can, and `make guards-update` writes the figures anew.

use std::{fs, io::Write as _, process::Command};

use waypost_bench::{
    guards::{Figures, is_update, keep, settings},
    stages::{COUNTED, Settings},
};

const PEOPLE: u64 = 1_000;
const RUN_IN: usize = 300;
const EVENTS: u32 = 700;

#[test]
fn a_stage_takes_no_more_instructions_than_it_did() {
    let mut stderr = std::io::stderr();
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success()) {
        // past the capture of the test's output
        writeln!(stderr, "SKIPPED: instructions an event are not compared, there is no valgrind").unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("callgrind.out");
    let Settings { seed, size: _, known, events, run_in, frame, per_millisecond, partitions, journeys, segments } =
        settings(PEOPLE, RUN_IN, EVENTS as usize);
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", &format!("--callgrind-out-file={}", profile.display()), env!("CARGO_BIN_EXE_stages")])
        .arg(format!("--seed={seed}"))
        .arg(format!("--people={PEOPLE}"))
        .arg(format!("--known={known}"))
        .arg(format!("--events={events}"))
        .arg(format!("--run-in={run_in}"))
        .arg(format!("--frame={frame}"))
        .arg(format!("--per-millisecond={per_millisecond}"))
        .arg(format!("--partitions={partitions}"))
        .arg(format!("--journeys={journeys}"))
        .arg(format!("--segments={segments}"))
        .output()
        .unwrap();
    assert!(ran.status.success(), "callgrind: {}", String::from_utf8_lossy(&ran.stderr));
    let profile = fs::read_to_string(profile).unwrap();
    let mut figures = Figures::new();
    for (role, function) in COUNTED {
        let instructions = inclusive(&profile, function);
        assert!(instructions > 0, "callgrind has not seen {function}");
        let instructions = u32::try_from(instructions / 1_000).unwrap();
        figures.insert(format!("{role}.instructions"), f64::from(instructions) * 1_000.0 / f64::from(EVENTS));
    }
    for line in keep(&figures, is_update()).unwrap_or_else(|error| panic!("{error}")).better {
        writeln!(stderr, "cheaper than committed, make guards-update keeps it: {line}").unwrap();
    }
}

/// What all calls of a function cost, with everything that it called: behind `cfn=(7) name`, once `(7)` has been named, stand
/// `calls=…` and then a line of position and cost.
fn inclusive(profile: &str, function: &str) -> u64 {
    let mut number = None;
    let (mut is_callee, mut is_cost, mut sum) = (false, false, 0);
    for line in profile.lines() {
        if is_cost {
            (is_cost, is_callee) = (false, false);
            sum += line.rsplit(' ').next().and_then(|cost| cost.parse::<u64>().ok()).unwrap_or(0);
        } else if let Some(callee) = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn=")) {
            let (id, name) = callee.split_once(' ').unwrap_or((callee, ""));
            if name.contains(function) {
                number = Some(id);
            }
            is_callee = line.starts_with('c') && number == Some(id);
        } else if line.starts_with("calls=") {
            is_cost = is_callee;
        }
    }
    sum
}

#[test]
fn costs_of_calls_are_added_up() {
    let profile = "fn=(1) main\n12 5\ncfn=(7) stages::counted_identity::h0\ncalls=3 0\n+4 900\ncfn=(8) other\ncalls=1 0\n+5 7\n\
                   fn=(7)\n1 100\nfn=(2) again\ncfn=(7)\ncalls=1 0\n* 90\n";
    assert_eq!(inclusive(profile, "counted_identity"), 990);
    assert_eq!(inclusive(profile, "counted_nothing"), 0);
}
