//! The shape of a journey: every step is reached, and no way leads back, because only `goto` may.

use super::{
    problem::{At, codes},
    reader::Reader,
};

/// A step as a place in the graph.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) id: String,
    pub(super) at: At,
    pub(super) path: String,
    pub(super) edges: Vec<Edge>,
}

/// A way from a step; to nowhere where the run ends.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    pub(super) to: Option<usize>,
    pub(super) at: At,
    pub(super) path: String,
}

/// How far a step has been walked.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

/// Reports cycles at the edge that closes them, and steps that no way reaches.
pub(super) fn check(r: &mut Reader<'_>, places: &[Place]) {
    if places.is_empty() {
        return;
    }
    let mut marks = vec![Mark::New; places.len()];
    walk(r, places, 0, &mut marks);
    for (place, mark) in places.iter().zip(&marks) {
        if *mark == Mark::New {
            r.problem(codes::UNREACHABLE_STEP, place.at, &place.path, format!("no way leads to `{}`", place.id));
        }
    }
}

/// Depth first; at most 100 deep, because a journey has at most 100 steps.
fn walk(r: &mut Reader<'_>, places: &[Place], index: usize, marks: &mut [Mark]) {
    marks[index] = Mark::Open;
    for edge in &places[index].edges {
        let Some(to) = edge.to else { continue };
        match marks[to] {
            Mark::New => walk(r, places, to, marks),
            Mark::Open => {
                let message = format!("`{}` leads back to `{}`; only `goto` may", places[index].id, places[to].id);
                r.problem(codes::CYCLE_WITHOUT_GOTO, edge.at, &edge.path, message);
            }
            Mark::Done => {}
        }
    }
    marks[index] = Mark::Done;
}
