//! The parsed form of an expression, before names and types are known.

use super::tree::{Comparison, Operation};

/// One parsed expression.
#[derive(Clone, Debug)]
pub(super) struct Expr {
    pub(super) kind: ExprKind,
    /// Byte range in the source.
    pub(super) range: (usize, usize),
    /// Levels of nesting, this one counted.
    pub(super) depth: u32,
}

/// Its form.
#[derive(Clone, Debug)]
pub(super) enum ExprKind {
    Bool(bool),
    Int(i64),
    /// Millionths.
    Decimal(i64),
    Text(String),
    Name(String),
    /// Also `m["key"]` with a literal key.
    Member(Box<Expr>, String),
    Index(Box<Expr>, Box<Expr>),
    Call(Option<Box<Expr>>, String, Vec<Expr>),
    List(Vec<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    In(Box<Expr>, Box<Expr>),
    Arithmetic(Operation, Box<Expr>, Box<Expr>),
    Choose(Box<Expr>, Box<Expr>, Box<Expr>),
}

// === impl Expr ===

impl Expr {
    /// Its last name, if it is a path that ends in one.
    pub(super) fn member(&self) -> Option<&str> {
        if let ExprKind::Member(_, name) = &self.kind { Some(name) } else { None }
    }

    /// Whether it is a path that may or may not lead somewhere.
    pub(super) fn is_path(&self) -> bool {
        matches!(self.kind, ExprKind::Member(..) | ExprKind::Index(..))
    }
}
