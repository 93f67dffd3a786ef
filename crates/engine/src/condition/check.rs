//! Names, types, cost and limits: a parsed expression becomes a checked one, or an error with its place.

use waypost_types::{Span, Value};

use super::{
    MAX_COST, Reads, Scope, Type,
    error::{COST_TOO_HIGH, ConditionError, LIMIT_EXCEEDED, TYPE_MISMATCH},
    lexer::place,
    syntax::{Expr, ExprKind},
    tree::{Comparison, Node, NodeKind, Operation},
};

/// Most names and calls in one expression (PRODUCT §6.5).
const MAX_OPERANDS: u32 = 200;

/// The checked expression, what it reads, and its cost.
pub(super) fn check(source: &str, scope: &Scope, expression: &Expr) -> Result<(Node, Reads, u32), ConditionError> {
    let mut check = Check { source, scope, reads: Reads::default(), cost: 0, times: 1, operands: 0, item: None };
    let node = check.expression(expression)?;
    Ok((node, check.reads, check.cost))
}

/// The state of one check.
pub(super) struct Check<'a> {
    pub(super) source: &'a str,
    pub(super) scope: &'a Scope,
    pub(super) reads: Reads,
    cost: u32,
    /// How often what is being checked is evaluated.
    pub(super) times: u32,
    operands: u32,
    /// The variable of the enclosing `exists` or `all`.
    pub(super) item: Option<(String, Type)>,
}

// === impl Check ===

impl Check<'_> {
    pub(super) fn error(&self, code: &'static str, at: usize, message: impl Into<String>) -> ConditionError {
        ConditionError::new(code, place(self.source, at), message)
    }

    pub(super) fn text(&self, expr: &Expr) -> &str {
        self.source.get(expr.range.0..expr.range.1).unwrap_or("")
    }

    /// Adds units, each as often as it is evaluated.
    pub(super) fn charge(&mut self, expr: &Expr, units: u32) -> Result<(), ConditionError> {
        self.cost = self.cost.saturating_add(units.saturating_mul(self.times));
        if self.cost <= MAX_COST {
            return Ok(());
        }
        Err(self.error(COST_TOO_HIGH, expr.range.0, format!("costs more than {MAX_COST} units from here on")))
    }

    /// Counts a name or call.
    pub(super) fn operand(&mut self, expr: &Expr) -> Result<(), ConditionError> {
        self.operands += 1;
        if self.operands <= MAX_OPERANDS {
            return Ok(());
        }
        Err(self.error(LIMIT_EXCEEDED, expr.range.0, format!("more than {MAX_OPERANDS} operands")))
    }

    pub(super) fn expression(&mut self, expr: &Expr) -> Result<Node, ConditionError> {
        self.charge(expr, 1)?;
        let leaf = |value, ty| Ok(Node { kind: NodeKind::Constant(value), ty, range: expr.range });
        match &expr.kind {
            ExprKind::Bool(b) => leaf(Value::Bool(*b), Type::Bool),
            ExprKind::Int(i) => leaf(Value::Int(*i), Type::Int),
            ExprKind::Decimal(d) => leaf(Value::Decimal(*d), Type::Double),
            ExprKind::Text(t) => leaf(Value::text(t), Type::Text),
            ExprKind::Name(_) | ExprKind::Member(..) | ExprKind::Index(..) => self.path(expr),
            ExprKind::Call(None, name, args) => self.function(expr, name, args),
            ExprKind::Call(Some(receiver), name, args) => self.method(expr, receiver, name, args),
            ExprKind::List(entries) => self.list(expr, entries),
            ExprKind::Not(inner) => {
                let inner = self.wanted(inner, &Type::Bool)?;
                Ok(Node { kind: NodeKind::Not(Box::new(inner)), ty: Type::Bool, range: expr.range })
            }
            ExprKind::Negate(inner) => self.negate(expr, inner),
            ExprKind::All(operands) => {
                let nodes = operands.iter().map(|o| self.wanted(o, &Type::Bool)).collect::<Result<_, _>>()?;
                Ok(Node { kind: NodeKind::All(nodes), ty: Type::Bool, range: expr.range })
            }
            ExprKind::Any(operands) => {
                let nodes = operands.iter().map(|o| self.wanted(o, &Type::Bool)).collect::<Result<_, _>>()?;
                Ok(Node { kind: NodeKind::Any(nodes), ty: Type::Bool, range: expr.range })
            }
            ExprKind::Compare(comparison, left, right) => self.comparison(expr, *comparison, left, right),
            ExprKind::In(left, right) => self.contained(expr, left, right),
            ExprKind::Arithmetic(operation, left, right) => self.arithmetic(expr, *operation, left, right),
            ExprKind::Choose(condition, yes, no) => {
                let condition = self.wanted(condition, &Type::Bool)?;
                let (yes, no) = (self.expression(yes)?, self.expression(no)?);
                let ty = self.joined(expr, &yes.ty, &no.ty)?;
                Ok(Node { kind: NodeKind::Choose(Box::new(condition), Box::new(yes), Box::new(no)), ty, range: expr.range })
            }
        }
    }

    /// An expression that must have this type.
    pub(super) fn wanted(&mut self, expr: &Expr, wanted: &Type) -> Result<Node, ConditionError> {
        let node = self.expression(expr)?;
        if node.ty.fits(wanted) {
            return Ok(node);
        }
        let message = format!("`{}` is {}; {} is wanted here", self.text(expr), node.ty.describe(), wanted.describe());
        Err(self.error(TYPE_MISMATCH, expr.range.0, message))
    }

    pub(super) fn joined(&self, expr: &Expr, a: &Type, b: &Type) -> Result<Type, ConditionError> {
        let message = || format!("{} and {} do not go together", a.describe(), b.describe());
        a.join(b).ok_or_else(|| self.error(TYPE_MISMATCH, expr.range.0, message()))
    }

    /// A duration: a literal such as `"60d"`, or an expression that gives one.
    pub(super) fn duration(&mut self, expr: &Expr) -> Result<Node, ConditionError> {
        if let Some(literal) = self.duration_literal(expr)? {
            return Ok(literal);
        }
        let node = self.expression(expr)?;
        if node.ty == Type::Duration {
            return Ok(node);
        }
        let message = format!("`{}` is {}; a duration is wanted here, as in \"60d\" or days(60)", self.text(expr), node.ty.describe());
        Err(self.error(TYPE_MISMATCH, expr.range.0, message))
    }

    fn duration_literal(&mut self, expr: &Expr) -> Result<Option<Node>, ConditionError> {
        let ExprKind::Text(text) = &expr.kind else { return Ok(None) };
        self.charge(expr, 1)?;
        let span: Span = text.parse().map_err(|e| self.error(TYPE_MISMATCH, expr.range.0, format!("{e}")))?;
        Ok(Some(Node { kind: NodeKind::Constant(Value::Int(span.millis())), ty: Type::Duration, range: expr.range }))
    }

    fn list(&mut self, expr: &Expr, entries: &[Expr]) -> Result<Node, ConditionError> {
        let mut nodes = Vec::with_capacity(entries.len());
        let mut ty: Option<Type> = None;
        for entry in entries {
            let node = self.expression(entry)?;
            ty = Some(match ty {
                Some(ty) => self.joined(entry, &ty, &node.ty)?,
                None => node.ty.clone(),
            });
            nodes.push(node);
        }
        Ok(Node { kind: NodeKind::List(nodes), ty: Type::list(ty.unwrap_or(Type::Any)), range: expr.range })
    }

    fn negate(&mut self, expr: &Expr, inner: &Expr) -> Result<Node, ConditionError> {
        let inner_node = self.expression(inner)?;
        let ty = inner_node.ty.clone();
        if !matches!(ty, Type::Int | Type::Double | Type::Money | Type::Duration | Type::Any) {
            return Err(self.error(
                TYPE_MISMATCH,
                inner.range.0,
                format!("`{}` is {}; `-` wants a number", self.text(inner), ty.describe()),
            ));
        }
        Ok(Node { kind: NodeKind::Negate(Box::new(inner_node)), ty, range: expr.range })
    }

    fn comparison(&mut self, expr: &Expr, comparison: Comparison, left: &Expr, right: &Expr) -> Result<Node, ConditionError> {
        let (a, b) = (self.expression(left)?, self.expression(right)?);
        self.comparable(left, &a.ty)?;
        self.comparable(right, &b.ty)?;
        let ordered = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        // A duration is an int as a value: against a value known at run time only, it would be any int.
        let vague = (a.ty == Type::Duration && b.ty == Type::Any) || (a.ty == Type::Any && b.ty == Type::Duration);
        if !a.ty.fits(&b.ty) || vague || (ordered && (a.ty == Type::Bool || b.ty == Type::Bool)) {
            let message = format!("{} cannot be compared with {}", a.ty.describe(), b.ty.describe());
            let suggestion = match (&a.ty, &b.ty) {
                (Type::Money, Type::Int | Type::Double | Type::Text) => {
                    Some(format!("money(\"{}\")", self.text(right).trim_matches(['"', '\''])))
                }
                (Type::Int, Type::Double) => Some(format!("double({})", self.text(left))),
                (Type::Double, Type::Int) => Some(format!("double({})", self.text(right))),
                _ => None,
            };
            return Err(self.error(TYPE_MISMATCH, expr.range.0, message).suggest(suggestion));
        }
        Ok(Node { kind: NodeKind::Compare(comparison, Box::new(a), Box::new(b)), ty: Type::Bool, range: expr.range })
    }

    fn comparable(&self, expr: &Expr, ty: &Type) -> Result<(), ConditionError> {
        match ty {
            Type::Amount => Err(self.amount(expr)),
            Type::List(_) | Type::Line | Type::Cart | Type::Order => Err(self.error(
                TYPE_MISMATCH,
                expr.range.0,
                format!("`{}` is {}, which cannot be compared", self.text(expr), ty.describe()),
            )),
            Type::Bool | Type::Int | Type::Double | Type::Text | Type::Money | Type::Time | Type::Date | Type::Duration | Type::Any => {
                Ok(())
            }
        }
    }

    fn amount(&self, expr: &Expr) -> ConditionError {
        let text = self.text(expr);
        let message = format!(
            "`{text}` is an amount in the currency it came in, for templates only; money in the workspace's currency can be compared"
        );
        // In events the name with `_base` is money, in records `total` has `value` beside it.
        let suggestion = match expr.member() {
            Some("total") if !text.starts_with("event") && !text.starts_with("entry") => {
                text.strip_suffix("total").map(|base| format!("{base}value"))
            }
            Some(_) => Some(format!("{text}_base")),
            None => None,
        };
        self.error(TYPE_MISMATCH, expr.range.0, message).suggest(suggestion)
    }

    fn contained(&mut self, expr: &Expr, left: &Expr, right: &Expr) -> Result<Node, ConditionError> {
        let (a, b) = (self.expression(left)?, self.expression(right)?);
        self.charge(expr, 10)?;
        self.comparable(left, &a.ty)?;
        let fits = match &b.ty {
            Type::Any => true,
            Type::List(item) if **item == Type::Amount => return Err(self.amount(right)),
            Type::List(item) => a.ty.fits(item) && !matches!(**item, Type::Line | Type::Cart | Type::Order | Type::List(_)),
            Type::Text if a.ty == Type::Text => {
                let instead = format!("{}.contains({})", self.text(right), self.text(left));
                return Err(self.error(TYPE_MISMATCH, expr.range.0, "`in` looks into lists, not into texts").suggest(Some(instead)));
            }
            Type::Bool
            | Type::Int
            | Type::Double
            | Type::Text
            | Type::Money
            | Type::Amount
            | Type::Time
            | Type::Date
            | Type::Duration
            | Type::Line
            | Type::Cart
            | Type::Order => false,
        };
        if !fits {
            let message = format!("{} cannot be in {}", a.ty.describe(), b.ty.describe());
            return Err(self.error(TYPE_MISMATCH, expr.range.0, message));
        }
        Ok(Node { kind: NodeKind::In(Box::new(a), Box::new(b)), ty: Type::Bool, range: expr.range })
    }

    fn arithmetic(&mut self, expr: &Expr, operation: Operation, left: &Expr, right: &Expr) -> Result<Node, ConditionError> {
        let mut a = self.expression(left)?;
        let mut b = self.expression(right)?;
        // Next to a time or a duration a text literal is a duration.
        if matches!(operation, Operation::Add | Operation::Subtract) {
            if matches!(a.ty, Type::Time | Type::Duration) {
                b = self.duration_literal(right)?.unwrap_or(b);
            } else if matches!(b.ty, Type::Time | Type::Duration) {
                a = self.duration_literal(left)?.unwrap_or(a);
            }
        }
        for (side, ty) in [(left, &a.ty), (right, &b.ty)] {
            if *ty == Type::Amount {
                return Err(self.amount(side));
            }
        }
        let Some(ty) = result(operation, &a.ty, &b.ty) else {
            let sign = match operation {
                Operation::Add => "+",
                Operation::Subtract => "-",
                Operation::Multiply => "*",
                Operation::Divide => "/",
                Operation::Remainder => "%",
            };
            let message = format!("`{sign}` does not take {} and {}", a.ty.describe(), b.ty.describe());
            let suggestion = match (&a.ty, &b.ty) {
                (Type::Int, Type::Double) => Some(format!("double({})", self.text(left))),
                (Type::Double, Type::Int) => Some(format!("double({})", self.text(right))),
                _ => None,
            };
            return Err(self.error(TYPE_MISMATCH, expr.range.0, message).suggest(suggestion));
        };
        Ok(Node { kind: NodeKind::Arithmetic(operation, Box::new(a), Box::new(b)), ty, range: expr.range })
    }
}

/// What an operation gives on two types; none where it takes them not.
fn result(operation: Operation, a: &Type, b: &Type) -> Option<Type> {
    use Operation::{Add, Divide, Multiply, Remainder, Subtract};
    match (operation, a, b) {
        (Add | Subtract | Multiply | Divide | Remainder, Type::Int, Type::Int) => Some(Type::Int),
        (Add | Subtract | Multiply | Divide, Type::Double, Type::Double) => Some(Type::Double),
        (Add | Subtract, Type::Money, Type::Money) | (Multiply | Divide, Type::Money, Type::Int) | (Multiply, Type::Int, Type::Money) => {
            Some(Type::Money)
        }
        (Add | Subtract, Type::Time, Type::Duration) | (Add, Type::Duration, Type::Time) => Some(Type::Time),
        (Add | Subtract, Type::Duration, Type::Duration) => Some(Type::Duration),
        (_, Type::Any, Type::Any | Type::Int | Type::Double | Type::Money) | (_, Type::Int | Type::Double | Type::Money, Type::Any) => {
            Some(Type::Any)
        }
        (Add, Type::Any | Type::Text, Type::Text) | (Add, Type::Text, Type::Any) => Some(Type::Text),
        _ => None,
    }
}
