//! Paths: which name leads where, and of what type it is.

use super::{
    Root, Type,
    check::Check,
    error::{ConditionError, NOT_YET_SUPPORTED, TYPE_MISMATCH, UNKNOWN_REFERENCE},
    names::nearest,
    syntax::{Expr, ExprKind},
    tree::{Node, NodeKind},
    vocabulary::{self, Known},
};

impl Check<'_> {
    /// A name, `a.b`, `a["b"]` or `a[b]`.
    pub(super) fn path(&mut self, expr: &Expr) -> Result<Node, ConditionError> {
        self.operand(expr)?;
        // From the root outwards: the expression, then each step with the expression it ends.
        let mut steps = Vec::new();
        let mut base = expr;
        while let ExprKind::Member(inner, _) | ExprKind::Index(inner, _) = &base.kind {
            steps.push(base);
            base = inner;
        }
        steps.reverse();
        let (mut node, used) = if let ExprKind::Name(name) = &base.kind {
            match &self.item {
                Some((item, ty)) if item == name => (Node { kind: NodeKind::Item, ty: ty.clone(), range: base.range }, 0),
                _ => self.rooted(base, name, &steps)?,
            }
        } else {
            (self.expression(base)?, 0)
        };
        for step in &steps[used..] {
            self.charge(step, 1)?;
            node = self.step(node, step)?;
        }
        Ok(node)
    }

    // The longest prefix that is a path of its own, and how many steps it takes.
    fn rooted(&mut self, base: &Expr, word: &str, steps: &[&Expr]) -> Result<(Node, usize), ConditionError> {
        let Some(root) = Root::named(word) else { return Err(self.unknown_root(base, word)) };
        if !self.scope.roots.contains(root) {
            let message = format!("`{word}` cannot be read here; what can: {}", self.scope.roots.names().join(" "));
            return Err(self.error(UNKNOWN_REFERENCE, base.range.0, message));
        }
        if root == Root::Global {
            return Err(self.error(NOT_YET_SUPPORTED, base.range.0, "workspace variables are not supported yet"));
        }
        if root == Root::Vars && self.scope.vars.is_empty() {
            return Err(self.error(NOT_YET_SUPPORTED, base.range.0, "journey variables are not supported yet"));
        }
        let Some((first, first_name)) = steps.first().and_then(|step| Some((*step, step.member()?))) else {
            return Err(self.error(TYPE_MISMATCH, base.range.0, format!("`{word}` is read by name, as in `{word}.<name>`")));
        };
        let static_names = |from: usize| steps[from..].iter().map_while(|step| step.member().filter(|name| !name.contains('.')));
        let (path, ty, used) = match root {
            Root::Profile => match vocabulary::profile(first_name) {
                Some(Known::As(Type::Any)) => match static_names(1).next() {
                    Some(name) => (format!("{first_name}.{name}"), Type::Any, 2),
                    None => (first_name.to_owned(), Type::Any, 1),
                },
                Some(Known::As(ty)) => (first_name.to_owned(), ty, 1),
                Some(Known::NotYet) => return Err(self.not_yet(base, first)),
                None => {
                    let suggestion = nearest(first_name, vocabulary::profile_names()).map(|n| format!("profile.{n}"));
                    let message = format!("a profile has no `{first_name}`; traits of the shop are profile.extra[\"{first_name}\"]");
                    return Err(self.error(UNKNOWN_REFERENCE, first.range.0, message).suggest(suggestion));
                }
            },
            Root::Event | Root::Entry if first_name == "meta" => {
                let Some((step, name)) = steps.get(1).and_then(|step| Some((step, step.member()?))) else {
                    return Err(self.error(
                        TYPE_MISMATCH,
                        first.range.0,
                        format!("`{word}.meta` is read by name, as in `{word}.meta.name`"),
                    ));
                };
                let Some(ty) = vocabulary::meta(name) else {
                    let suggestion = nearest(name, vocabulary::meta_names()).map(|n| format!("{word}.meta.{n}"));
                    return Err(self.error(UNKNOWN_REFERENCE, step.range.0, format!("`meta` has no `{name}`")).suggest(suggestion));
                };
                (format!("meta.{name}"), ty, 2)
            }
            Root::Event | Root::Entry => {
                let ty = vocabulary::property(first_name);
                if ty == Type::Any && !first_name.contains('.') {
                    let names: Vec<_> = static_names(0).collect();
                    (names.join("."), Type::Any, names.len())
                } else {
                    (first_name.to_owned(), ty, 1)
                }
            }
            Root::Run => {
                let Some(ty) = vocabulary::run(first_name) else {
                    let suggestion = nearest(first_name, vocabulary::run_names()).map(|n| format!("run.{n}"));
                    return Err(self.error(UNKNOWN_REFERENCE, first.range.0, format!("a run has no `{first_name}`")).suggest(suggestion));
                };
                (first_name.to_owned(), ty, 1)
            }
            Root::Vars | Root::Global => {
                let Some(ty) = self.scope.vars.get(first_name) else {
                    let names = self.scope.vars.keys().map(String::as_str);
                    let suggestion = nearest(first_name, names).map(|n| format!("vars.{n}"));
                    return Err(self.error(UNKNOWN_REFERENCE, first.range.0, format!("no variable `{first_name}`")).suggest(suggestion));
                };
                (first_name.to_owned(), ty.clone(), 1)
            }
        };
        self.note(root, &path);
        let end = steps.get(used.saturating_sub(1)).map_or(base.range.1, |step| step.range.1);
        Ok((Node { kind: NodeKind::Path(root, path), ty, range: (base.range.0, end) }, used))
    }

    fn note(&mut self, root: Root, path: &str) {
        match root {
            Root::Profile if path == "carts" => self.reads.carts = true,
            Root::Profile if path == "orders" => self.reads.orders = true,
            Root::Profile => _ = self.reads.profile.insert(path.to_owned()),
            Root::Event => _ = self.reads.event.insert(path.to_owned()),
            Root::Entry => _ = self.reads.entry.insert(path.to_owned()),
            Root::Vars | Root::Global | Root::Run => {}
        }
    }

    fn unknown_root(&self, base: &Expr, word: &str) -> ConditionError {
        let roots = self.scope.roots.names();
        let calls = vocabulary::words(vocabulary::FUNCTIONS).chain(vocabulary::words(vocabulary::FUNCTIONS_NOT_YET));
        if calls.into_iter().any(|f| f == word) {
            return self.error(UNKNOWN_REFERENCE, base.range.0, format!("`{word}` is a function")).suggest(Some(format!("{word}(…)")));
        }
        let message = format!("nothing is named `{word}`; a path begins with one of: {}; a text stands in quotes", roots.join(" "));
        self.error(UNKNOWN_REFERENCE, base.range.0, message).suggest(nearest(word, roots))
    }

    fn not_yet(&self, base: &Expr, step: &Expr) -> ConditionError {
        let path = self.source.get(base.range.0..step.range.1).unwrap_or("");
        self.error(NOT_YET_SUPPORTED, base.range.0, format!("`{path}` is not supported yet"))
    }

    // One step on from a value.
    fn step(&mut self, base: Node, step: &Expr) -> Result<Node, ConditionError> {
        let range = step.range;
        let ExprKind::Index(_, key) = &step.kind else {
            let name = step.member().unwrap_or_default();
            let ty = self.field(&base, step, name)?;
            return Ok(Node { kind: NodeKind::Field(Box::new(base), name.to_owned()), ty, range });
        };
        if base.ty != Type::Any {
            let message = if matches!(base.ty, Type::List(_)) {
                "a list has no keys; ask with exists or all".to_owned()
            } else {
                format!("{} has no keys", base.ty.describe())
            };
            return Err(self.error(TYPE_MISMATCH, key.range.0, message));
        }
        let key = self.wanted(key, &Type::Text)?;
        Ok(Node { kind: NodeKind::Index(Box::new(base), Box::new(key)), ty: Type::Any, range })
    }

    fn field(&self, base: &Node, step: &Expr, name: &str) -> Result<Type, ConditionError> {
        match vocabulary::field(&base.ty, name) {
            Some(Known::As(ty)) => return Ok(ty),
            Some(Known::NotYet) => {
                let message = format!("`{name}` of {} is not supported yet", base.ty.describe());
                return Err(self.error(NOT_YET_SUPPORTED, step.range.0, message));
            }
            None => {}
        }
        match &base.ty {
            Type::Any => Ok(Type::Any),
            Type::Line | Type::Cart | Type::Order => {
                let message = format!("{} has no `{name}`", base.ty.describe());
                let suggestion = nearest(name, vocabulary::field_names(&base.ty));
                Err(self.error(UNKNOWN_REFERENCE, step.range.0, message).suggest(suggestion))
            }
            Type::List(_) => Err(self.error(TYPE_MISMATCH, step.range.0, "a list has no fields; ask its entries with exists or all")),
            ty @ (Type::Bool
            | Type::Int
            | Type::Double
            | Type::Text
            | Type::Money
            | Type::Amount
            | Type::Time
            | Type::Date
            | Type::Duration) => Err(self.error(TYPE_MISMATCH, step.range.0, format!("{} has no fields", ty.describe()))),
        }
    }
}
