//! Evaluation: a value or unknown, and until when time alone cannot change it.

use waypost_types::{Span, Timestamp, Value};

use super::{
    Answer, Facts, MAX_LIST, Operand, Truth, Type,
    arithmetic::{compare, compute, millionths, negate, order},
    explain::is_shown,
    tree::{Comparison, Node, NodeKind, TextTest},
    validity::{Fold, earlier},
};

/// One evaluation.
pub(super) struct Eval<'a> {
    pub(super) source: &'a str,
    pub(super) facts: &'a dyn Facts,
    /// The entry that the enclosing `exists` or `all` is at.
    item: Option<Value>,
    /// What was looked at, where that is asked for.
    pub(super) operands: Option<Vec<Operand>>,
    /// Entries after the first say nothing new.
    pub(super) quiet: bool,
    /// The first instant at which something that was looked at may say something else.
    pub(super) steady_until: Option<Timestamp>,
}

// === impl Eval ===

impl<'a> Eval<'a> {
    pub(super) fn new(source: &'a str, facts: &'a dyn Facts) -> Self {
        Self { source, facts, item: None, operands: None, quiet: false, steady_until: None }
    }

    pub(super) fn explaining(source: &'a str, facts: &'a dyn Facts) -> Self {
        Self { operands: Some(Vec::new()), ..Self::new(source, facts) }
    }

    pub(super) fn into_operands(self) -> Vec<Operand> {
        self.operands.unwrap_or_default()
    }

    /// The value of an expression.
    pub(super) fn value(&mut self, node: &Node) -> Answer {
        let answer = self.compute(node);
        if self.operands.is_some() && !self.quiet && is_shown(node, self.item.is_some()) {
            self.show(node, &answer);
        }
        answer
    }

    fn compute(&mut self, node: &Node) -> Answer {
        match &node.kind {
            NodeKind::Constant(value) => Answer::lasting(Some(value.clone())),
            NodeKind::Path(root, path) => Answer::lasting(self.facts.path(*root, path).filter(|v| of_type(v, &node.ty))),
            NodeKind::Item => Answer::lasting(self.item.clone()),
            NodeKind::Field(base, name) => self.field(base, name).map(|v| Some(v).filter(|v| of_type(v, &node.ty))),
            NodeKind::Index(base, key) => {
                let base = self.quietly(base);
                base.zip(&self.value(key), |map, key| map.get(key.as_text()?).cloned())
            }
            NodeKind::Not(inner) => self.value(inner).map(|v| if let Value::Bool(b) = v { Some(Value::Bool(!b)) } else { None }),
            NodeKind::Negate(inner) => self.value(inner).map(|v| negate(&v)),
            NodeKind::All(nodes) => self.fold(Truth::No, nodes),
            NodeKind::Any(nodes) => self.fold(Truth::Yes, nodes),
            NodeKind::Compare(comparison, a, b) => {
                let a = self.value(a);
                // Compared where it stands, not copied first.
                if let NodeKind::Constant(b) = &b.kind {
                    return a.map(|a| compare(*comparison, &a, b).map(Value::Bool));
                }
                a.zip(&self.value(b), |a, b| compare(*comparison, a, b).map(Value::Bool))
            }
            NodeKind::In(element, list) => self.contained(element, list),
            NodeKind::Arithmetic(operation, a, b) => {
                let durations = a.ty != Type::Any && b.ty != Type::Any;
                let a = self.value(a);
                a.zip(&self.value(b), |a, b| compute(*operation, a, b, durations))
            }
            NodeKind::Choose(condition, yes, no) => {
                let condition = self.value(condition);
                match Truth::of(condition.value.as_ref()) {
                    Truth::Yes => self.value(yes).until(condition.valid_until),
                    Truth::No => self.value(no).until(condition.valid_until),
                    Truth::Unknown => Answer { value: None, valid_until: condition.valid_until },
                }
            }
            NodeKind::Text(asked, whole, part) => {
                let whole = self.value(whole);
                whole.zip(&self.value(part), |whole, part| {
                    let (whole, part) = (whole.as_text()?, part.as_text()?);
                    Some(Value::Bool(match asked {
                        TextTest::Contains => whole.contains(part),
                        TextTest::StartsWith => whole.starts_with(part),
                        TextTest::EndsWith => whole.ends_with(part),
                    }))
                })
            }
            NodeKind::Matches(text, pattern) => self.value(text).map(|v| Some(Value::Bool(pattern.is_match(v.as_text()?)))),
            NodeKind::Size(inner) => self.value(inner).map(|v| size(&v).and_then(|n| i64::try_from(n).ok()).map(Value::Int)),
            NodeKind::Known(inner) => {
                let inner = self.value(inner);
                Answer { value: Some(Value::Bool(inner.value.is_some())), valid_until: inner.valid_until }
            }
            NodeKind::ForSome(list, body) => self.each(Truth::Yes, list, body),
            NodeKind::ForEach(list, body) => self.each(Truth::No, list, body),
            NodeKind::Within(t, d) => self.within(t, d),
            NodeKind::Elapsed(t, d) => self.elapsed(t, d),
            NodeKind::Idle(t, d, of_person) => self.idle(t, d, *of_person),
            NodeKind::Default(value, instead) => {
                let value = self.value(value);
                if value.value.is_some() { value } else { self.value(instead).until(value.valid_until) }
            }
            NodeKind::Segment(name) => {
                let (truth, until) = self.facts.segment(name);
                let now = self.facts.now();
                let until = until.filter(|t| *t > now);
                self.steady_until = earlier(self.steady_until, until);
                Answer { value: truth.value(), valid_until: until }
            }
            NodeKind::Cart(id) => self.quietly(id).map(|id| self.facts.cart(id.as_text()?)),
            NodeKind::Order(id) => self.quietly(id).map(|id| self.facts.order(id.as_text()?)),
            NodeKind::CartOpen(id) => self.quietly(id).map(|id| {
                let status = self.facts.cart_entry(id.as_text()?, "status")?;
                Some(Value::Bool(matches!(status.as_text()?, "open" | "in_checkout")))
            }),
            NodeKind::Double(inner) => self.value(inner).map(|v| double(&v)),
            NodeKind::Days(count) => self.value(count).map(|v| {
                let Value::Int(days) = v else { return None };
                days.checked_mul(Span::from_days(1).millis()).map(Value::Int)
            }),
            NodeKind::List(nodes) => {
                let mut items = Vec::with_capacity(nodes.len());
                let mut until = None;
                for node in nodes {
                    let answer = self.value(node);
                    until = earlier(until, answer.valid_until);
                    items.push(answer.value);
                }
                Answer { value: items.into_iter().collect::<Option<_>>().map(Value::List), valid_until: until }
            }
        }
    }

    // Of a cart or an order that was asked for by its id, nothing but the entry is made.
    fn field(&mut self, base: &Node, name: &str) -> Answer {
        if let NodeKind::Cart(id) = &base.kind {
            return self.quietly(id).map(|id| self.facts.cart_entry(id.as_text()?, name));
        }
        if let NodeKind::Order(id) = &base.kind {
            return self.quietly(id).map(|id| self.facts.order_entry(id.as_text()?, name));
        }
        self.quietly(base).map(|v| v.get(name).cloned())
    }

    fn fold(&mut self, deciding: Truth, nodes: &[Node]) -> Answer {
        let mut fold = Fold::new(deciding);
        for node in nodes {
            fold.add(&self.value(node));
            // Explain shows the others too.
            if fold.settled() && self.operands.is_none() {
                break;
            }
        }
        fold.answer()
    }

    fn each(&mut self, deciding: Truth, list: &Node, body: &Node) -> Answer {
        let list = self.value(list);
        let Some(items) = list.value.and_then(entries) else { return Answer { value: None, valid_until: list.valid_until } };
        let mut fold = Fold::new(deciding);
        let quiet = self.quiet;
        for item in items {
            self.item = Some(item);
            fold.add(&self.value(body));
            self.quiet = true;
            if fold.settled() {
                break;
            }
        }
        self.item = None;
        self.quiet = quiet;
        fold.answer().until(list.valid_until)
    }

    fn contained(&mut self, element: &Node, list: &Node) -> Answer {
        let element = self.value(element);
        if let NodeKind::List(nodes) = &list.kind {
            let mut fold = Fold::new(Truth::Yes);
            for node in nodes {
                let entry = self.value(node);
                fold.add(&element.clone().zip(&entry, |a, b| compare(Comparison::Equal, a, b).map(Value::Bool)));
            }
            // In an empty list nothing is, known or not.
            return fold.answer();
        }
        element.zip(&self.value(list), |element, list| {
            if let Value::List(items) = list {
                return Some(Value::Bool(items.iter().any(|i| order(element, i) == Some(std::cmp::Ordering::Equal))));
            }
            let Value::Object(entries) = list else { return None };
            let name = element.as_text()?;
            Some(Value::Bool(entries.iter().any(|(n, _)| n == name)))
        })
    }
}

// The entries of a list that is not too long to go through.
fn entries(list: Value) -> Option<Vec<Value>> {
    let Value::List(items) = list else { return None };
    (items.len() <= MAX_LIST).then_some(items)
}

// Characters of a text, entries of a list or an object.
fn size(value: &Value) -> Option<usize> {
    match value {
        Value::Text(text) => Some(text.chars().count()),
        Value::List(items) => Some(items.len()),
        Value::Object(entries) => Some(entries.len()),
        Value::Bool(_) | Value::Int(_) | Value::Decimal(_) | Value::Money(_) | Value::Amount { .. } | Value::Time(_) | Value::Date(_) => {
            None
        }
    }
}

fn double(value: &Value) -> Option<Value> {
    if let Value::Int(i) = value {
        return millionths(*i).map(Value::Decimal);
    }
    matches!(value, Value::Decimal(_)).then(|| value.clone())
}

// Whether a stored value is what the check took it for; else it is unknown.
fn of_type(value: &Value, ty: &Type) -> bool {
    matches!(
        (ty, value),
        (Type::Any, _)
            | (Type::Bool, Value::Bool(_))
            | (Type::Int | Type::Duration, Value::Int(_))
            | (Type::Double, Value::Decimal(_))
            | (Type::Text, Value::Text(_))
            | (Type::Money, Value::Money(_))
            | (Type::Amount, Value::Amount { .. })
            | (Type::Time, Value::Time(_))
            | (Type::Date, Value::Date(_))
            | (Type::List(_), Value::List(_))
            | (Type::Line | Type::Cart | Type::Order, Value::Object(_))
    )
}
