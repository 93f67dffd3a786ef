//! What explain shows of an evaluation: names and calls with their values.

use waypost_types::Value;

use super::{
    Answer, Operand,
    eval::Eval,
    print::{print, quoted},
    tree::{Node, NodeKind},
};

impl Eval<'_> {
    // The base of a field or the id of a record: what is made of it is shown instead.
    pub(super) fn quietly(&mut self, node: &Node) -> Answer {
        let quiet = std::mem::replace(&mut self.quiet, true);
        let answer = self.value(node);
        self.quiet = quiet;
        answer
    }

    pub(super) fn show(&mut self, node: &Node, answer: &Answer) {
        let what = self.describe(node);
        let value = print(answer.value.as_ref(), &node.ty, self.facts.currency());
        if let Some(operands) = &mut self.operands
            && operands.iter().all(|o| o.what != what)
        {
            operands.push(Operand { what, value });
        }
    }

    // As in the source, but for the ids of records, which say more than the path to them.
    fn describe(&mut self, node: &Node) -> String {
        if let NodeKind::Field(base, name) = &node.kind {
            return format!("{}.{name}", self.describe(base));
        }
        if let Some((function, id)) = node.record() {
            return self.described_call(function, id);
        }
        let text = self.source.get(node.range.0..node.range.1).unwrap_or("");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn described_call(&mut self, function: &str, id: &Node) -> String {
        let answer = self.quietly(id);
        match answer.value.as_ref().and_then(Value::as_text) {
            Some(id) => format!("{function}({})", quoted(id)),
            None => format!("{function}(unknown)"),
        }
    }
}

// Names and calls are shown; operators are not.
pub(super) fn is_shown(node: &Node, in_each: bool) -> bool {
    match &node.kind {
        NodeKind::Path(..) => true,
        NodeKind::Field(..)
        | NodeKind::Index(..)
        | NodeKind::Within(..)
        | NodeKind::Elapsed(..)
        | NodeKind::Idle(..)
        | NodeKind::Segment(_)
        | NodeKind::Cart(_)
        | NodeKind::Order(_)
        | NodeKind::CartOpen(_)
        | NodeKind::ForSome(..)
        | NodeKind::ForEach(..)
        | NodeKind::Matches(..)
        | NodeKind::Size(_) => !in_each,
        NodeKind::Constant(_)
        | NodeKind::Item
        | NodeKind::Not(_)
        | NodeKind::Negate(_)
        | NodeKind::All(_)
        | NodeKind::Any(_)
        | NodeKind::Compare(..)
        | NodeKind::In(..)
        | NodeKind::Arithmetic(..)
        | NodeKind::Choose(..)
        | NodeKind::Text(..)
        | NodeKind::Known(_)
        | NodeKind::Default(..)
        | NodeKind::Double(_)
        | NodeKind::Days(_)
        | NodeKind::List(_) => false,
    }
}
