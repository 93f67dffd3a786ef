//! Tokens to an expression: recursive descent, bounded in depth.

use super::{
    MAX_DEPTH,
    error::{ConditionError, LIMIT_EXCEEDED, SYNTAX},
    lexer::{Token, TokenKind, place, tokens},
    syntax::{Expr, ExprKind},
    tree::{Comparison, Operation},
};

/// The expression that a source is.
pub(super) fn parse(source: &str) -> Result<Expr, ConditionError> {
    let mut parser = Parser { source, tokens: tokens(source)?, next: 0, nesting: 0 };
    let expression = parser.expression()?;
    match parser.peek().kind {
        TokenKind::End => Ok(expression),
        TokenKind::Int(_) | TokenKind::Decimal(_) | TokenKind::Text(_) | TokenKind::Name(_) | TokenKind::Symbol(_) => {
            Err(parser.unexpected("an operator or the end"))
        }
    }
}

const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Token>,
    next: usize,
    nesting: u32,
}

impl Parser<'_> {
    fn expression(&mut self) -> Result<Expr, ConditionError> {
        self.nested(|parser| {
            let condition = parser.any()?;
            if !parser.eat("?") {
                return Ok(condition);
            }
            let yes = parser.expression()?;
            parser.expect(":")?;
            let no = parser.expression()?;
            let range = (condition.range.0, no.range.1);
            parser.node(ExprKind::Choose(Box::new(condition), Box::new(yes), Box::new(no)), range)
        })
    }

    fn any(&mut self) -> Result<Expr, ConditionError> {
        self.chain("||", Self::all, ExprKind::Any)
    }

    fn all(&mut self) -> Result<Expr, ConditionError> {
        self.chain("&&", Self::relation, ExprKind::All)
    }

    // `a && b && c` is one node: a long list is not a deep one.
    fn chain(
        &mut self,
        symbol: &str,
        operand: fn(&mut Self) -> Result<Expr, ConditionError>,
        kind: fn(Vec<Expr>) -> ExprKind,
    ) -> Result<Expr, ConditionError> {
        let first = operand(self)?;
        if !self.at(symbol) {
            return Ok(first);
        }
        let start = first.range.0;
        let mut operands = vec![first];
        while self.eat(symbol) {
            operands.push(operand(self)?);
        }
        let end = self.last_end();
        self.node(kind(operands), (start, end))
    }

    fn relation(&mut self) -> Result<Expr, ConditionError> {
        let mut left = self.sum()?;
        loop {
            let comparison = COMPARISONS.into_iter().find(|(symbol, _)| self.at(symbol)).map(|(_, comparison)| comparison);
            let is_in = matches!(&self.peek().kind, TokenKind::Name(name) if name == "in");
            if comparison.is_none() && !is_in {
                return Ok(left);
            }
            self.next += 1;
            let right = self.sum()?;
            let range = (left.range.0, right.range.1);
            let (left_box, right) = (Box::new(left), Box::new(right));
            left = match comparison {
                Some(comparison) => self.node(ExprKind::Compare(comparison, left_box, right), range)?,
                None => self.node(ExprKind::In(left_box, right), range)?,
            };
        }
    }

    fn sum(&mut self) -> Result<Expr, ConditionError> {
        self.arithmetic(Self::product, &[("+", Operation::Add), ("-", Operation::Subtract)])
    }

    fn product(&mut self) -> Result<Expr, ConditionError> {
        self.arithmetic(Self::unary, &[("*", Operation::Multiply), ("/", Operation::Divide), ("%", Operation::Remainder)])
    }

    fn arithmetic(
        &mut self,
        operand: fn(&mut Self) -> Result<Expr, ConditionError>,
        operations: &[(&str, Operation)],
    ) -> Result<Expr, ConditionError> {
        let mut left = operand(self)?;
        while let Some((_, operation)) = operations.iter().find(|(symbol, _)| self.at(symbol)) {
            self.next += 1;
            let right = operand(self)?;
            let range = (left.range.0, right.range.1);
            left = self.node(ExprKind::Arithmetic(*operation, Box::new(left), Box::new(right)), range)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, ConditionError> {
        let start = self.peek().range.0;
        let kind: fn(Box<Expr>) -> ExprKind = if self.at("!") {
            ExprKind::Not
        } else if self.at("-") {
            ExprKind::Negate
        } else {
            return self.postfix();
        };
        self.next += 1;
        let inner = self.nested(Self::unary)?;
        let range = (start, inner.range.1);
        self.node(kind(Box::new(inner)), range)
    }

    fn postfix(&mut self) -> Result<Expr, ConditionError> {
        let mut base = self.primary()?;
        loop {
            let start = base.range.0;
            if self.eat(".") {
                let name = self.name()?;
                if self.eat("(") {
                    let args = self.list(")")?;
                    base = self.node(ExprKind::Call(Some(Box::new(base)), name, args), (start, self.last_end()))?;
                } else {
                    base = self.node(ExprKind::Member(Box::new(base), name), (start, self.last_end()))?;
                }
            } else if self.eat("[") {
                let key = self.expression()?;
                self.expect("]")?;
                let kind = if let ExprKind::Text(name) = key.kind {
                    ExprKind::Member(Box::new(base), name)
                } else {
                    ExprKind::Index(Box::new(base), Box::new(key))
                };
                base = self.node(kind, (start, self.last_end()))?;
            } else {
                return Ok(base);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, ConditionError> {
        let token = self.peek().clone();
        let (start, _) = token.range;
        let leaf = |kind| Ok(Expr { kind, range: token.range, depth: 1 });
        match token.kind {
            TokenKind::Int(number) => self.take(|| leaf(ExprKind::Int(number))),
            TokenKind::Decimal(number) => self.take(|| leaf(ExprKind::Decimal(number))),
            TokenKind::Text(text) => self.take(|| leaf(ExprKind::Text(text))),
            TokenKind::Name(name) => match name.as_str() {
                "true" | "false" => self.take(|| leaf(ExprKind::Bool(name == "true"))),
                "in" => Err(self.unexpected("a value")),
                "null" => {
                    let message = "there is no null: what is missing is unknown; ask with known(…)";
                    Err(ConditionError::new(SYNTAX, place(self.source, start), message))
                }
                _ => {
                    self.next += 1;
                    if self.eat("(") {
                        let args = self.list(")")?;
                        return self.node(ExprKind::Call(None, name, args), (start, self.last_end()));
                    }
                    leaf(ExprKind::Name(name))
                }
            },
            TokenKind::Symbol("(") => {
                self.next += 1;
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            TokenKind::Symbol("[") => {
                self.next += 1;
                let entries = self.list("]")?;
                self.node(ExprKind::List(entries), (start, self.last_end()))
            }
            TokenKind::Symbol(_) | TokenKind::End => Err(self.unexpected("a value")),
        }
    }

    // Entries up to the closing symbol, which is taken too.
    fn list(&mut self, close: &'static str) -> Result<Vec<Expr>, ConditionError> {
        let mut entries = Vec::new();
        while !self.eat(close) {
            if !entries.is_empty() {
                if !self.at(",") {
                    return Err(self.unexpected(&format!("`,` or `{close}`")));
                }
                self.next += 1;
            }
            entries.push(self.expression()?);
        }
        Ok(entries)
    }

    fn name(&mut self) -> Result<String, ConditionError> {
        match &self.peek().kind {
            TokenKind::Name(name) => {
                let name = name.clone();
                self.next += 1;
                Ok(name)
            }
            TokenKind::Int(_) | TokenKind::Decimal(_) | TokenKind::Text(_) | TokenKind::Symbol(_) | TokenKind::End => {
                Err(self.unexpected("a name"))
            }
        }
    }

    // ---- small things ----------------------------------------------------------------------------

    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Result<Expr, ConditionError>) -> Result<Expr, ConditionError> {
        if self.nesting >= MAX_DEPTH {
            return Err(self.too_deep(self.peek().range.0));
        }
        self.nesting += 1;
        let result = inner(self);
        self.nesting -= 1;
        result
    }

    fn node(&self, kind: ExprKind, range: (usize, usize)) -> Result<Expr, ConditionError> {
        let deepest = |list: &[Expr]| list.iter().map(|e| e.depth).max().unwrap_or(0);
        let below = match &kind {
            ExprKind::Bool(_) | ExprKind::Int(_) | ExprKind::Decimal(_) | ExprKind::Text(_) | ExprKind::Name(_) => 0,
            ExprKind::Member(a, _) | ExprKind::Not(a) | ExprKind::Negate(a) => a.depth,
            ExprKind::Index(a, b) | ExprKind::Compare(_, a, b) | ExprKind::In(a, b) | ExprKind::Arithmetic(_, a, b) => a.depth.max(b.depth),
            ExprKind::Choose(a, b, c) => a.depth.max(b.depth).max(c.depth),
            ExprKind::Call(receiver, _, args) => receiver.as_ref().map_or(0, |r| r.depth).max(deepest(args)),
            ExprKind::List(list) | ExprKind::All(list) | ExprKind::Any(list) => deepest(list),
        };
        if below >= MAX_DEPTH {
            return Err(self.too_deep(range.0));
        }
        Ok(Expr { kind, range, depth: below + 1 })
    }

    fn too_deep(&self, at: usize) -> ConditionError {
        ConditionError::new(LIMIT_EXCEEDED, place(self.source, at), format!("nested deeper than {MAX_DEPTH} levels"))
    }

    fn take(&mut self, leaf: impl FnOnce() -> Result<Expr, ConditionError>) -> Result<Expr, ConditionError> {
        self.next += 1;
        leaf()
    }

    fn peek(&self) -> &Token {
        // The last token is the end, and nothing goes past it.
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn at(&self, symbol: &str) -> bool {
        matches!(&self.peek().kind, TokenKind::Symbol(s) if *s == symbol)
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = self.at(symbol);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), ConditionError> {
        if self.eat(symbol) { Ok(()) } else { Err(self.unexpected(&format!("`{symbol}`"))) }
    }

    fn last_end(&self) -> usize {
        self.tokens[self.next.saturating_sub(1).min(self.tokens.len() - 1)].range.1
    }

    fn unexpected(&self, wanted: &str) -> ConditionError {
        let token = self.peek();
        let text = &self.source[token.range.0..token.range.1];
        let found = if token.kind == TokenKind::End { "the end".to_owned() } else { format!("`{text}`") };
        let meant = match text {
            "and" | "AND" => Some("&&"),
            "or" | "OR" => Some("||"),
            "not" | "NOT" => Some("!"),
            _ => None,
        };
        ConditionError::new(SYNTAX, place(self.source, token.range.0), format!("{wanted} is wanted here, not {found}")).suggest(meant)
    }
}
