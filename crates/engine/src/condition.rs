//! Conditions: the typed, bounded subset of CEL (PRODUCT §6.3), three-valued, every answer with the
//! instant at which time alone may flip it (§6.4).
//!
//! `lexer` → `parser` → `check` with `paths` and `functions` (names, types, cost, limits) → `tree` → `eval`.

mod arithmetic;
mod check;
mod error;
mod eval;
mod explain;
mod functions;
mod gate;
mod lexer;
mod names;
mod parser;
mod paths;
mod print;
mod scope;
mod syntax;
mod timed;
mod tree;
mod types;
mod validity;
mod vocabulary;

use std::collections::BTreeSet;

use waypost_types::{Currency, Timestamp, Value};

pub(crate) use self::gate::{AGGREGATES, Gate};
pub use self::{
    error::ConditionError,
    scope::{Root, Roots, Scope},
    types::Type,
};
use self::{eval::Eval, tree::Node};

/// Longest source, bytes.
pub const MAX_SOURCE: usize = 4_096;
/// Deepest expression.
pub const MAX_DEPTH: u32 = 32;
/// Highest cost, units; one is about one comparison.
pub const MAX_COST: u32 = 10_000;
/// Longest list that `exists` and `all` go through; over a longer one they are unknown.
pub const MAX_LIST: usize = 200;

/// A compiled condition.
#[derive(Clone, Debug)]
pub struct Program {
    source: String,
    root: Node,
    reads: Reads,
    cost: u32,
}

/// What an evaluation says of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    Yes,
    /// It does not hold.
    No,
    /// Something it rests on is not known; never taken for yes.
    Unknown,
}

/// A value and how long it stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `None`: unknown.
    pub value: Option<Value>,
    /// Until then passing time alone cannot change the value; `None`: it never does.
    pub valid_until: Option<Timestamp>,
}

/// One thing that a condition looked at, for explain: `cart("k1").value` = `70.00 EUR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// The expression.
    pub what: String,
    /// Its value in words.
    pub value: String,
}

/// What a condition reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Paths of fields and traits: `order_count`, `extra.shoe_size`; `extra` where the name is computed.
    pub profile: BTreeSet<String>,
    /// Paths of `event`: properties as they are named, `meta.…` and `context.…`.
    pub event: BTreeSet<String>,
    /// Paths of `entry`, likewise.
    pub entry: BTreeSet<String>,
    /// Names of segments.
    pub segments: BTreeSet<String>,
    /// Whether it looks at carts.
    pub carts: bool,
    /// Whether it looks at orders.
    pub orders: bool,
    /// Whether time alone may change what it says, or since when events have been seen.
    pub time: bool,
}

/// What conditions are evaluated over.
pub trait Facts {
    /// Log time.
    fn now(&self) -> Timestamp;
    /// The value at a dotted path under a root; none: unknown.
    fn path(&self, root: Root, path: &str) -> Option<Value>;
    /// A membership and the instant at which time alone may flip it.
    fn segment(&self, name: &str) -> (Truth, Option<Timestamp>);
    /// The cart with this id, as an object.
    fn cart(&self, id: &str) -> Option<Value>;
    /// The order with this id, as an object.
    fn order(&self, id: &str) -> Option<Value>;
    /// One entry of the cart with this id, without making the others.
    fn cart_entry(&self, id: &str, name: &str) -> Option<Value> {
        self.cart(id)?.get(name).cloned()
    }
    /// One entry of the order with this id, without making the others.
    fn order_entry(&self, id: &str, name: &str) -> Option<Value> {
        self.order(id)?.get(name).cloned()
    }
    /// Since when everything that happened has been seen; none: it is not known since when.
    fn covered_since(&self) -> Option<Timestamp>;
    /// The workspace's currency.
    fn currency(&self) -> Currency;
}

/// Compiles a condition, or any other expression.
pub fn compile(source: &str, scope: &Scope) -> Result<Program, ConditionError> {
    if source.len() > MAX_SOURCE {
        return Err(ConditionError::new(error::LIMIT_EXCEEDED, (1, 1), format!("longer than {MAX_SOURCE} bytes")));
    }
    let expression = parser::parse(source)?;
    let (root, reads, cost) = check::check(source, scope, &expression)?;
    Ok(Program { source: source.to_owned(), root, reads, cost })
}

/// Compiles an expression that must give a value of this type (or one that is only known at run time).
pub fn compile_as(source: &str, scope: &Scope, wanted: &Type) -> Result<Program, ConditionError> {
    let program = compile(source, scope)?;
    if program.result().fits(wanted) {
        return Ok(program);
    }
    let message = format!("this gives {}; {} is wanted here", program.result().describe(), wanted.describe());
    Err(ConditionError::new(error::TYPE_MISMATCH, lexer::place(source, program.root.range.0), message))
}

// === impl Program ===

impl Program {
    /// The text it was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The type of its value.
    pub fn result(&self) -> &Type {
        &self.root.ty
    }

    /// What it reads.
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Its cost in units, at most [`MAX_COST`].
    pub fn cost(&self) -> u32 {
        self.cost
    }

    /// What must be reached for it to hold, if that is a number.
    pub(crate) fn gate(&self) -> Option<Gate> {
        gate::of(&self.root)
    }

    /// Its value over these facts.
    pub fn evaluate(&self, facts: &dyn Facts) -> Answer {
        Eval::new(&self.source, facts).value(&self.root)
    }

    /// Whether it holds over these facts, and until when that stays so.
    pub fn truth(&self, facts: &dyn Facts) -> (Truth, Option<Timestamp>) {
        let (truth, valid_until, _) = self.judge(facts);
        (truth, valid_until)
    }

    /// Like [`Program::truth`], and until when all of that stays as it is if nothing happens: of a `no && no` that holds as long
    /// as the longer lived of the two, the other may flip before, and how long it holds change with it.
    pub fn judge(&self, facts: &dyn Facts) -> (Truth, Option<Timestamp>, Option<Timestamp>) {
        let mut eval = Eval::new(&self.source, facts);
        let answer = eval.value(&self.root);
        (Truth::of(answer.value.as_ref()), answer.valid_until, eval.steady_until)
    }

    /// Like [`Program::truth`], with everything it looked at, in the order of the text.
    pub fn explain(&self, facts: &dyn Facts) -> (Truth, Option<Timestamp>, Vec<Operand>) {
        let mut eval = Eval::explaining(&self.source, facts);
        let answer = eval.value(&self.root);
        (Truth::of(answer.value.as_ref()), answer.valid_until, eval.into_operands())
    }
}

// === impl Truth ===

impl Truth {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it is yes; unknown is not.
    pub const fn is_yes(self) -> bool {
        matches!(self, Self::Yes)
    }

    /// The truth of a value; what is no boolean is unknown.
    pub fn of(value: Option<&Value>) -> Self {
        match value {
            Some(Value::Bool(true)) => Self::Yes,
            Some(Value::Bool(false)) => Self::No,
            Some(_) | None => Self::Unknown,
        }
    }

    /// Its value; none for unknown.
    pub const fn value(self) -> Option<Value> {
        match self {
            Self::Yes => Some(Value::Bool(true)),
            Self::No => Some(Value::Bool(false)),
            Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests;
