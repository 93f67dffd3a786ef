//! `within`, `elapsed`, `idle`: what time alone flips, each at its exact instant (PRODUCT §6.3).

use waypost_types::{Span, Timestamp, Value};

use super::{Answer, eval::Eval, tree::Node, validity::earlier};

impl Eval<'_> {
    // Instant and duration, and until when they stay so; none where either is unknown.
    fn instant(&mut self, t: &Node, d: &Node) -> (Option<(Timestamp, Span)>, Option<Timestamp>) {
        let (t, d) = (self.value(t), self.value(d));
        let until = earlier(t.valid_until, d.valid_until);
        match (t.value, d.value) {
            (Some(Value::Time(t)), Some(Value::Int(d))) => (Some((t, Span::from_millis(d))), until),
            _ => (None, until),
        }
    }

    pub(super) fn within(&mut self, t: &Node, d: &Node) -> Answer {
        let (known, until) = self.instant(t, d);
        let Some((start, span)) = known else { return Answer { value: None, valid_until: until } };
        let (now, end) = (self.facts.now(), start.plus(span));
        let (holds, flip) = if span <= Span::ZERO || now >= end {
            (false, None)
        } else if now < start {
            (false, Some(start))
        } else {
            (true, Some(end))
        };
        self.flipping(Some(Value::Bool(holds)), flip).until(until)
    }

    pub(super) fn elapsed(&mut self, t: &Node, d: &Node) -> Answer {
        let (known, until) = self.instant(t, d);
        let Some((start, span)) = known else { return Answer { value: None, valid_until: until } };
        self.reached(start.plus(span), Some(false)).until(until)
    }

    pub(super) fn idle(&mut self, t: &Node, d: &Node, of_person: bool) -> Answer {
        let time = self.value(t);
        let duration = self.value(d);
        let until = earlier(time.valid_until, duration.valid_until);
        let Some(Value::Int(span)) = duration.value else { return Answer { value: None, valid_until: until } };
        let span = Span::from_millis(span);
        let answer = match time.value {
            Some(Value::Time(t)) => self.reached(t.plus(span), Some(false)),
            // There is something, but no time: nothing can be said.
            Some(_) => Answer::UNKNOWN,
            None if !of_person => Answer::UNKNOWN,
            // It never happened, as far as has been seen; for sure once that is long enough.
            None => match self.facts.covered_since() {
                Some(covered) => self.reached(covered.plus(span), None),
                None => Answer::UNKNOWN,
            },
        };
        answer.until(until)
    }

    // Yes from `end` on, `before` until then.
    fn reached(&mut self, end: Timestamp, before: Option<bool>) -> Answer {
        if self.facts.now() >= end {
            return Answer::lasting(Some(Value::Bool(true)));
        }
        self.flipping(before.map(Value::Bool), Some(end))
    }

    // A value that time changes at `flip`.
    fn flipping(&mut self, value: Option<Value>, flip: Option<Timestamp>) -> Answer {
        let valid_until = flip.filter(|t| *t < Timestamp::MAX);
        self.steady_until = earlier(self.steady_until, valid_until);
        Answer { value, valid_until }
    }
}
