//! Conditions that are plainly no as long as an aggregate is below a number: who is below it needs no look.

use waypost_types::Value;

use super::{
    Root,
    tree::{Comparison, Node, NodeKind},
};

/// Aggregates over a lifetime: numbers that begin at zero.
pub(crate) const AGGREGATES: [&str; 2] = ["ltv", "order_count"];

/// What an aggregate must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    /// Which of [`AGGREGATES`].
    pub(crate) aggregate: usize,
    /// Below it, no; and no passing of time changes that.
    pub(crate) least: i64,
    /// From there on, yes: there is nothing else to the condition.
    pub(crate) is_all: bool,
}

/// The gate of an expression, if it has one: it is a comparison with a constant, or one among others that must hold too.
pub(super) fn of(node: &Node) -> Option<Gate> {
    let NodeKind::All(nodes) = &node.kind else { return compared(node) };
    nodes.iter().find_map(compared).map(|gate| Gate { is_all: false, ..gate })
}

fn compared(node: &Node) -> Option<Gate> {
    let NodeKind::Compare(comparison, left, right) = &node.kind else { return None };
    let (NodeKind::Path(Root::Profile, path), NodeKind::Constant(constant)) = (&left.kind, &right.kind) else { return None };
    let aggregate = AGGREGATES.iter().position(|name| name == path)?;
    let (("ltv", Value::Money(number)) | ("order_count", Value::Int(number))) = (path.as_str(), constant) else { return None };
    let least = match comparison {
        Comparison::GreaterOrEqual => *number,
        Comparison::Greater => number.checked_add(1)?,
        Comparison::Equal | Comparison::NotEqual | Comparison::Less | Comparison::LessOrEqual => return None,
    };
    Some(Gate { aggregate, least, is_all: true })
}
