//! How the cost of an event grows; see `waypost_bench::scaling`.
#![expect(clippy::print_stdout, reason = "it prints figures")]

use std::{fs, path::PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum as _};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde_json::{Value, json};
use waypost_bench::scaling::{Axis, End, Growth, Options, ROLES, measure, sights};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How the cost of an event in the machines of all roles grows with journeys, segments, profiles, timers, partitions and
/// workspaces, in memory, on one thread. The pipelines of an axis are all in memory at once.
#[derive(Parser, Debug)]
struct Arguments {
    /// Along which; all of them unless given
    #[arg(long, value_enum, value_delimiter = ',')]
    axis: Vec<Axis>,
    /// One large size, instead of those that each axis has
    #[arg(long)]
    large: Option<u64>,
    /// Events of a window
    #[arg(long, default_value_t = 10_000)]
    events: usize,
    /// Windows of each size, by turns; the best of them counts
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Events before the first window
    #[arg(long, default_value_t = 60_000)]
    run_in: usize,
    /// Of whom the traffic is
    #[arg(long, default_value_t = 20_000)]
    people: u64,
    /// So many of them, the most frequent, have been there before and come in before the run-in; all unless given
    #[arg(long)]
    known: Option<u64>,
    /// So many of them are on the way at a time
    #[arg(long, default_value_t = 5_000)]
    visits: usize,
    /// Journeys, where these are not what grows
    #[arg(long, default_value_t = 30)]
    journeys: usize,
    /// Segments, where these are not what grows
    #[arg(long, default_value_t = 50)]
    segments: usize,
    /// Records of a frame
    #[arg(long, default_value_t = 200)]
    frame: usize,
    /// Events a millisecond of the clock that paces commits
    #[arg(long, default_value_t = 50)]
    per_millisecond: usize,
    /// Of the traffic
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Writes all figures there, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let Arguments { events, repetitions, run_in, people, visits, journeys, segments, frame, per_millisecond, seed, .. } = arguments;
    let known = arguments.known.unwrap_or(people).min(people);
    let options = Options { seed, people, known, visits, run_in, events, repetitions, frame, per_millisecond, journeys, segments };
    ensure!(people > 1 && visits > 0, "--people and --visits: there is nobody whose traffic it could be");
    ensure!(events > 0 && repetitions > 0, "--events and --repetitions: nothing would be measured");
    ensure!(frame > 0 && per_millisecond > 0, "--frame and --per-millisecond: no event would ever come");
    let [first, links, merges] = sights(&options)?.per_thousand();
    println!(
        "windows of {events} events, {repetitions} of each size by turns, behind a run-in of {run_in}, {known} of {people} people known \
         before; of a thousand events {first:.0} are first sights, {links:.0} bring another identifier, {merges:.0} merge; {frame} a frame, {journeys} journeys, {segments} segments, 8 partitions where these do not grow"
    );
    let axes = if arguments.axis.is_empty() { Axis::value_variants().to_vec() } else { arguments.axis };
    let mut all = Vec::new();
    for axis in axes {
        let sizes = arguments.large.map(|large| [axis.sizes()[0], large]);
        let growth = measure(axis, sizes.as_ref().map(<[u64; 2]>::as_slice), &options)?;
        println!("\n{}", costs(&growth));
        if matches!(axis, Axis::Journeys | Axis::Segments | Axis::Workspaces) {
            println!("\n{}", definitions(&growth));
        }
        all.push(growth);
    }
    if let Some(path) = &arguments.json {
        let options = format!("{options:?}");
        let document = json!({"options": options, "axes": all.iter().map(figures).collect::<Vec<_>>()});
        fs::write(path, format!("{document:#}\n")).with_context(|| format!("--json {}", path.display()))?;
    }
    Ok(())
}

fn name(axis: Axis) -> String {
    axis.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// Nanoseconds an event by role, and how they stand to those of the first size.
fn costs(growth: &Growth) -> Table {
    let bar = growth.axis.bar().map_or_else(|| "–".to_owned(), |bar| format!("{bar:.1}"));
    let axis = name(growth.axis);
    let mut table = table(&[
        axis.as_str(),
        "identity, ns",
        "segmenter",
        "orchestrator",
        "sum",
        "of the first",
        "window by window",
        "bar",
        "B a profile: segmenter",
        "orchestrator",
        "B an event: Kafka",
        "store",
        "wake-ups",
    ]);
    for end in &growth.ends {
        let (Some(best), Some((ratio, least, most))) = (end.best(), growth.ratio(end)) else { continue };
        let whole = |figure: f64| format!("{figure:.0}");
        let [identity, segmenter, orchestrator] = ROLES;
        let (kafka, store) = best.bytes();
        table.add_row([
            end.size.to_string(),
            whole(best.of(identity)),
            whole(best.of(segmenter)),
            whole(best.of(orchestrator)),
            whole(best.nanos()),
            format!("{ratio:.2}"),
            format!("{least:.2} to {most:.2}"),
            bar.clone(),
            whole(best.entity_bytes(segmenter)),
            whole(best.entity_bytes(orchestrator)),
            whole(kafka),
            whole(store),
            end.pending.to_string(),
        ]);
    }
    table
}

/// What it takes to hold them.
fn definitions(growth: &Growth) -> Table {
    let axis = name(growth.axis);
    let mut table = table(&[axis.as_str(), "definitions", "compiled in, ms", "µs each", "bytes each"]);
    for End { size, compiled, .. } in &growth.ends {
        let count = u32::try_from(compiled.definitions.max(1)).unwrap_or(u32::MAX);
        table.add_row([
            size.to_string(),
            compiled.definitions.to_string(),
            format!("{:.1}", compiled.took.as_secs_f64() * 1e3),
            format!("{:.1}", compiled.took.as_secs_f64() * 1e6 / f64::from(count)),
            compiled.bytes_each.map_or_else(|| "too few to tell".to_owned(), |bytes| bytes.to_string()),
        ]);
    }
    table
}

fn figures(growth: &Growth) -> Value {
    let end = |end: &End| {
        let window = |window: &waypost_bench::scaling::Window| {
            let role = |role: &waypost_types::Role| {
                let cost = window.cost(*role);
                json!({
                    "role": role.as_str(), "ns": window.of(*role), "append_bytes": cost.append_bytes, "commit_bytes": cost.commit_bytes,
                    "commit_entities": cost.commit_entities, "commits": cost.commits, "reads": cost.reads,
                })
            };
            json!({"ns": window.nanos(), "roles": ROLES.iter().map(role).collect::<Vec<_>>()})
        };
        let ratio = growth.ratio(end).map(|(ratio, least, most)| json!({"best": ratio, "least": least, "most": most}));
        json!({
            "size": end.size, "ratio": ratio, "windows": end.windows.iter().map(window).collect::<Vec<_>>(), "wake_ups": end.pending,
            "definitions": end.compiled.definitions, "compile_seconds": end.compiled.took.as_secs_f64(),
            "bytes_a_definition": end.compiled.bytes_each,
        })
    };
    json!({"axis": name(growth.axis), "bar": growth.axis.bar(), "events": growth.events, "ends": growth.ends.iter().map(end).collect::<Vec<_>>()})
}
