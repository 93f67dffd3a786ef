//! Functions and methods: how many arguments, of which types, at which cost.

use regex::{Error as RegexError, Regex, RegexBuilder};
use waypost_types::Value;

use super::{
    MAX_LIST, Root, Type,
    check::Check,
    error::{ConditionError, LIMIT_EXCEEDED, NOT_YET_SUPPORTED, SYNTAX, TYPE_MISMATCH, UNKNOWN_REFERENCE},
    names::nearest,
    syntax::{Expr, ExprKind},
    tree::{Node, NodeKind, TextTest},
    vocabulary::{FUNCTIONS, FUNCTIONS_NOT_YET, METHODS, words},
};

/// Bytes that one compiled pattern may take.
const MAX_PATTERN: usize = 256 * 1024;

impl Check<'_> {
    /// `f(x)`.
    pub(super) fn function(&mut self, expr: &Expr, name: &str, args: &[Expr]) -> Result<Node, ConditionError> {
        self.operand(expr)?;
        let (kind, ty) = match (name, args) {
            ("within" | "elapsed" | "idle", [time, duration]) => (self.timed(name, time, duration)?, Type::Bool),
            ("default", [value, instead]) => {
                let (a, b) = (self.expression(value)?, self.expression(instead)?);
                let ty = self.joined(expr, &a.ty, &b.ty)?;
                (NodeKind::Default(Box::new(a), Box::new(b)), ty)
            }
            ("known", [value]) => (NodeKind::Known(Box::new(self.expression(value)?)), Type::Bool),
            ("has", [value]) => {
                if !value.is_path() {
                    let error = self.error(TYPE_MISMATCH, value.range.0, "has wants a path, as in has(event.coupon)");
                    return Err(error.suggest(Some(format!("known({})", self.text(value)))));
                }
                (NodeKind::Known(Box::new(self.expression(value)?)), Type::Bool)
            }
            ("in_segment", [segment]) => (NodeKind::Segment(self.segment(segment)?), Type::Bool),
            ("money", [amount]) => (NodeKind::Constant(Value::Money(self.money(amount)?)), Type::Money),
            ("cart", [id]) => (NodeKind::Cart(self.record(expr, id)?), Type::Cart),
            ("cart_open", [id]) => (NodeKind::CartOpen(self.record(expr, id)?), Type::Bool),
            ("order", [id]) => {
                let id = self.wanted(id, &Type::Text)?;
                self.charge(expr, 10)?;
                self.reads.orders = true;
                (NodeKind::Order(Box::new(id)), Type::Order)
            }
            ("days", [count]) => (NodeKind::Days(Box::new(self.wanted(count, &Type::Int)?)), Type::Duration),
            ("double", [number]) => {
                let node = self.expression(number)?;
                if !matches!(node.ty, Type::Int | Type::Double | Type::Any) {
                    let message = format!("`{}` is {}; double wants a number", self.text(number), node.ty.describe());
                    return Err(self.error(TYPE_MISMATCH, number.range.0, message));
                }
                (NodeKind::Double(Box::new(node)), Type::Double)
            }
            ("size", [value]) => (self.size(value)?, Type::Int),
            _ => return Err(self.no_function(expr, name, args.len())),
        };
        Ok(Node { kind, ty, range: expr.range })
    }

    /// `x.f(y)`.
    pub(super) fn method(&mut self, expr: &Expr, receiver: &Expr, name: &str, args: &[Expr]) -> Result<Node, ConditionError> {
        let (kind, ty) = match (name, args) {
            ("contains", [part]) => (self.text_test(TextTest::Contains, receiver, part)?, Type::Bool),
            ("startsWith", [part]) => (self.text_test(TextTest::StartsWith, receiver, part)?, Type::Bool),
            ("endsWith", [part]) => (self.text_test(TextTest::EndsWith, receiver, part)?, Type::Bool),
            ("matches", [pattern]) => {
                let text = self.wanted(receiver, &Type::Text)?;
                self.charge(expr, 20)?;
                (NodeKind::Matches(Box::new(text), self.pattern(pattern)?), Type::Bool)
            }
            ("size", []) => (self.size(receiver)?, Type::Int),
            ("exists" | "all", [variable, body]) => (self.quantifier(name == "all", expr, receiver, variable, body)?, Type::Bool),
            _ => return Err(self.no_method(expr, receiver, name)),
        };
        Ok(Node { kind, ty, range: expr.range })
    }

    fn timed(&mut self, name: &str, time: &Expr, duration: &Expr) -> Result<NodeKind, ConditionError> {
        let t = self.wanted(time, &Type::Time)?;
        let d = self.duration(duration)?;
        // "It never happened" can only be said of what is kept about a person.
        let of_person = t.is_of_person();
        let (t, d) = (Box::new(t), Box::new(d));
        self.reads.time = true;
        Ok(match name {
            "within" => NodeKind::Within(t, d),
            "elapsed" => NodeKind::Elapsed(t, d),
            _ => NodeKind::Idle(t, d, of_person),
        })
    }

    fn segment(&mut self, argument: &Expr) -> Result<String, ConditionError> {
        let ExprKind::Text(name) = &argument.kind else {
            return Err(self.error(TYPE_MISMATCH, argument.range.0, "in_segment wants the name of a segment in quotes"));
        };
        if !self.scope.segments.contains(name) {
            let suggestion = nearest(name, self.scope.segments.iter().map(String::as_str));
            return Err(self.error(UNKNOWN_REFERENCE, argument.range.0, format!("there is no segment `{name}`")).suggest(suggestion));
        }
        self.reads.segments.insert(name.clone());
        Ok(name.clone())
    }

    fn money(&self, argument: &Expr) -> Result<i64, ConditionError> {
        let ExprKind::Text(text) = &argument.kind else {
            let suggestion = format!("money(\"{}\")", self.text(argument));
            return Err(self.error(TYPE_MISMATCH, argument.range.0, "money wants its number in quotes").suggest(Some(suggestion)));
        };
        let currency = self.scope.currency;
        match currency.minor_units(text) {
            Some((minor, false)) => Ok(minor),
            Some((_, true)) => {
                let message = format!("{currency} has {} digits behind the point", currency.minor_digits());
                Err(self.error(TYPE_MISMATCH, argument.range.0, message))
            }
            None => Err(self.error(TYPE_MISMATCH, argument.range.0, format!("`{text}` is not a decimal number, as in money(\"60.00\")"))),
        }
    }

    fn record(&mut self, expr: &Expr, id: &Expr) -> Result<Box<Node>, ConditionError> {
        let id = self.wanted(id, &Type::Text)?;
        self.charge(expr, 10)?;
        self.reads.carts = true;
        Ok(Box::new(id))
    }

    fn size(&mut self, value: &Expr) -> Result<NodeKind, ConditionError> {
        let node = self.expression(value)?;
        if !matches!(node.ty, Type::Text | Type::List(_) | Type::Any) {
            let message = format!("`{}` is {}; size wants a text or a list", self.text(value), node.ty.describe());
            return Err(self.error(TYPE_MISMATCH, value.range.0, message));
        }
        Ok(NodeKind::Size(Box::new(node)))
    }

    fn text_test(&mut self, asked: TextTest, receiver: &Expr, part: &Expr) -> Result<NodeKind, ConditionError> {
        let text = self.expression(receiver)?;
        if asked == TextTest::Contains && matches!(text.ty, Type::List(_)) {
            let suggestion = format!("{} in {}", self.text(part), self.text(receiver));
            return Err(self.error(TYPE_MISMATCH, receiver.range.0, "contains looks into texts, not into lists").suggest(Some(suggestion)));
        }
        if !text.ty.fits(&Type::Text) {
            let message = format!("`{}` is {}; a text is wanted here", self.text(receiver), text.ty.describe());
            return Err(self.error(TYPE_MISMATCH, receiver.range.0, message));
        }
        let part = self.wanted(part, &Type::Text)?;
        self.charge(receiver, 5)?;
        Ok(NodeKind::Text(asked, Box::new(text), Box::new(part)))
    }

    // Compiled once, here; matching is linear in the text.
    fn pattern(&self, argument: &Expr) -> Result<Regex, ConditionError> {
        let ExprKind::Text(pattern) = &argument.kind else {
            return Err(self.error(TYPE_MISMATCH, argument.range.0, "matches wants its pattern in quotes, known at publish"));
        };
        RegexBuilder::new(pattern).size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN).nest_limit(32).build().map_err(|error| {
            if matches!(error, RegexError::CompiledTooBig(_)) {
                let message = format!("the compiled pattern takes more than {MAX_PATTERN} bytes");
                return self.error(LIMIT_EXCEEDED, argument.range.0, message);
            }
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
            self.error(SYNTAX, argument.range.0, format!("the pattern cannot be read: {reason}"))
        })
    }

    fn quantifier(&mut self, all: bool, expr: &Expr, receiver: &Expr, variable: &Expr, body: &Expr) -> Result<NodeKind, ConditionError> {
        let ExprKind::Name(name) = &variable.kind else {
            return Err(self.error(
                SYNTAX,
                variable.range.0,
                "the first argument is a name for the entry, as in exists(p, p.quantity > 1)",
            ));
        };
        if Root::named(name).is_some() {
            return Err(self.error(SYNTAX, variable.range.0, format!("`{name}` has its own meaning; take another name for the entry")));
        }
        if self.item.is_some() {
            return Err(self.error(SYNTAX, expr.range.0, "exists and all do not nest"));
        }
        let list = self.expression(receiver)?;
        let item = if let Type::List(item) = &list.ty {
            (**item).clone()
        } else if list.ty == Type::Any {
            Type::Any
        } else {
            let message = format!("`{}` is {}; a list is wanted here", self.text(receiver), list.ty.describe());
            return Err(self.error(TYPE_MISMATCH, receiver.range.0, message));
        };
        self.item = Some((name.clone(), item));
        self.times = u32::try_from(MAX_LIST).unwrap_or(u32::MAX);
        let body = self.wanted(body, &Type::Bool);
        self.times = 1;
        self.item = None;
        let (list, body) = (Box::new(list), Box::new(body?));
        Ok(if all { NodeKind::ForEach(list, body) } else { NodeKind::ForSome(list, body) })
    }

    fn no_function(&self, expr: &Expr, name: &str, arguments: usize) -> ConditionError {
        let at = expr.range.0;
        if words(FUNCTIONS).any(|f| f == name) {
            let form = match name {
                "within" | "elapsed" | "idle" => "(time, duration)",
                "default" => "(value, instead)",
                "known" | "size" => "(value)",
                "has" => "(path)",
                "in_segment" => "(\"segment\")",
                "money" => "(\"60.00\")",
                "days" | "double" => "(number)",
                _ => "(id)",
            };
            return self.error(TYPE_MISMATCH, at, format!("{arguments} arguments do not fit")).suggest(Some(format!("{name}{form}")));
        }
        if words(FUNCTIONS_NOT_YET).any(|f| f == name) {
            return self.error(NOT_YET_SUPPORTED, at, format!("the function `{name}` is not supported yet"));
        }
        if words(METHODS).any(|m| m == name) {
            let message = format!("`{name}` is called on a value");
            return self.error(UNKNOWN_REFERENCE, at, message).suggest(Some(format!("x.{name}(…)")));
        }
        self.error(UNKNOWN_REFERENCE, at, format!("there is no function `{name}`")).suggest(nearest(name, words(FUNCTIONS)))
    }

    fn no_method(&self, expr: &Expr, receiver: &Expr, name: &str) -> ConditionError {
        // The place of the name, behind the receiver and its point.
        let behind = self.source.get(receiver.range.1..expr.range.1).and_then(|rest| rest.find(name)).unwrap_or(0);
        let at = receiver.range.1 + behind;
        if words(METHODS).any(|m| m == name) {
            let form = match name {
                "exists" | "all" => "(p, p.quantity > 1)",
                "size" => "()",
                "matches" => "(r\"pattern\")",
                _ => "(\"text\")",
            };
            return self.error(TYPE_MISMATCH, at, "the arguments do not fit").suggest(Some(format!("{name}{form}")));
        }
        if words(FUNCTIONS).any(|f| f == name) {
            let suggestion = format!("{name}({}, …)", self.text(receiver));
            return self.error(UNKNOWN_REFERENCE, at, format!("`{name}` is not called on a value")).suggest(Some(suggestion));
        }
        if words(FUNCTIONS_NOT_YET).any(|f| f == name) {
            return self.error(NOT_YET_SUPPORTED, at, format!("the function `{name}` is not supported yet"));
        }
        self.error(UNKNOWN_REFERENCE, at, format!("nothing named `{name}` can be called on a value")).suggest(nearest(name, words(METHODS)))
    }
}
