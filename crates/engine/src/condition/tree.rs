//! The checked form of an expression: names resolved, types known, patterns compiled.

use regex::Regex;
use waypost_types::Value;

use super::{Root, Type};

/// One checked expression.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    pub(super) ty: Type,
    /// Byte range in the source.
    pub(super) range: (usize, usize),
}

/// What it does.
#[derive(Clone, Debug)]
pub(super) enum NodeKind {
    Constant(Value),
    Path(Root, String),
    /// The variable of the enclosing `exists` or `all`; they do not nest, so there is only one.
    Item,
    Field(Box<Node>, String),
    Index(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    In(Box<Node>, Box<Node>),
    Arithmetic(Operation, Box<Node>, Box<Node>),
    Choose(Box<Node>, Box<Node>, Box<Node>),
    Text(TextTest, Box<Node>, Box<Node>),
    Matches(Box<Node>, Regex),
    Size(Box<Node>),
    Known(Box<Node>),
    ForSome(Box<Node>, Box<Node>),
    ForEach(Box<Node>, Box<Node>),
    Within(Box<Node>, Box<Node>),
    Elapsed(Box<Node>, Box<Node>),
    /// The flag: nothing there means it never happened, as far as coverage reaches.
    Idle(Box<Node>, Box<Node>, bool),
    Default(Box<Node>, Box<Node>),
    Segment(String),
    Cart(Box<Node>),
    Order(Box<Node>),
    CartOpen(Box<Node>),
    Double(Box<Node>),
    Days(Box<Node>),
    List(Vec<Node>),
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// An arithmetic operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// A test of two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}

// === impl Node ===

impl Node {
    /// The function and the id, if it reads a record.
    pub(super) fn record(&self) -> Option<(&'static str, &Self)> {
        if let NodeKind::Cart(id) = &self.kind {
            Some(("cart", id))
        } else if let NodeKind::Order(id) = &self.kind {
            Some(("order", id))
        } else if let NodeKind::CartOpen(id) = &self.kind {
            Some(("cart_open", id))
        } else {
            None
        }
    }

    /// Whether it is kept about a person: a field, a trait, a record, or within one.
    pub(super) fn is_of_person(&self) -> bool {
        if let NodeKind::Field(base, _) | NodeKind::Index(base, _) = &self.kind {
            return base.is_of_person();
        }
        matches!(self.kind, NodeKind::Path(Root::Profile, _) | NodeKind::Cart(_) | NodeKind::Order(_))
    }
}
