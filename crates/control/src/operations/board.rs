//! All operations as the topic has them, folded.

use std::{cmp::Ordering, collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use waypost_runtime::ports::{Delivery, Offset};
use waypost_types::Span;

use super::record::{Record, State};

/// Who works on an operation says so at least this often.
pub(super) const BEAT: Duration = Duration::from_secs(3);
/// A worker that has said nothing for so long, ms, is told of as gone.
pub(super) const SILENT_MS: i64 = 10_000;
/// A worker begins nothing more so long after its last word that was heard: somebody may be about to take over.
pub(super) const SURE: Duration = Duration::from_secs(15);
/// So long a producer goes on trying (`message.timeout.ms`).
const TRYING: Duration = Duration::from_secs(30);
/// For what lies between looking whether one is sure and handing over to the producer.
const MARGIN: Duration = Duration::from_secs(5);
/// After such a silence another takes over: what the silent one began at the last moment at which it was sure is in the log by then,
/// or never will be.
pub(super) const TAKEN_OVER: Duration = SURE.saturating_add(TRYING).saturating_add(MARGIN);
/// The topic keeps them for so long, and so does a process that runs for longer.
const KEPT: Span = Span::from_days(30);

/// What this process knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Board {
    operations: BTreeMap<String, Known>,
    /// Who asked for an end, and when, ms, by operation. It may stand before the operation's last word.
    cancels: BTreeMap<String, (String, i64)>,
    /// First offset that was not read.
    pub(super) next: Offset,
}

/// One operation.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) state: State,
    /// When the broker took the last word, ms.
    pub(super) heard_at: i64,
    /// When this process read it: no two clocks are compared to find somebody gone.
    pub(super) read_at: Instant,
}

// === impl Board ===

impl Board {
    /// Takes one record in.
    pub(super) fn fold(&mut self, delivery: &Delivery, now: Instant) {
        self.next = delivery.offset + 1;
        let at = delivery.appended.millis();
        let since = at - KEPT.millis();
        self.operations.retain(|_, known| known.heard_at > since);
        self.cancels.retain(|_, (_, asked_at)| *asked_at > since);
        match serde_json::from_slice(&delivery.payload) {
            Ok(Record::State(state)) => self.hear(*state, at, now),
            Ok(Record::Cancel { id, by }) => {
                self.cancels.entry(id).or_insert((by, at));
            }
            // A later release's.
            Err(_) => {}
        }
    }

    fn hear(&mut self, state: State, heard_at: i64, read_at: Instant) {
        let known = self.operations.get(&state.id);
        if known.is_none_or(|known| state.rank(&known.state) != Ordering::Less) {
            self.operations.insert(state.id.clone(), Known { state, heard_at, read_at });
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&Known> {
        self.operations.get(id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Known> {
        self.operations.values()
    }

    /// Who has asked for its end.
    pub(super) fn cancelled_by(&self, id: &str) -> Option<&str> {
        self.cancels.get(id).map(|(by, _)| by.as_str())
    }

    /// Operations that this life may begin to work on now.
    pub(super) fn due(&self, life: &str, now: Instant) -> Vec<State> {
        let due = |known: &&Known| {
            let state = &known.state;
            // Asked for here, or given up in order: at once.
            let at_once = state.free || state.is_of(life, 0);
            state.end.is_none() && (at_once || now.duration_since(known.read_at) >= TAKEN_OVER)
        };
        self.operations.values().filter(due).map(|known| known.state.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use waypost_types::Timestamp;

    use super::*;
    use crate::operations::record::{Asked, End, Outcome, Progress, Work};

    fn state(attempt: u32, worker: &str, done: u64) -> State {
        let work = Work::Redrive { reason: "R".into(), source: String::new(), again: false };
        let asked = Asked { by: "ana".into(), how: "token".into(), from: String::new(), workspaces: None };
        let progress = Progress { done, ..Progress::default() };
        State {
            id: "o1".into(),
            work,
            asked,
            started: 1,
            attempt,
            worker: worker.into(),
            free: false,
            progress,
            trouble: String::new(),
            end: None,
        }
    }

    fn delivery(offset: Offset, record: &Record) -> Delivery {
        let payload = serde_json::to_vec(record).unwrap().into();
        Delivery { partition: 0, offset, appended: Timestamp::from_millis(9), key: None, headers: Vec::new(), payload }
    }

    fn board(records: &[Record]) -> Board {
        let mut board = Board::default();
        for (offset, record) in (0..).zip(records) {
            board.fold(&delivery(offset, record), Instant::now());
        }
        board
    }

    fn word(state: State) -> Record {
        Record::State(Box::new(state))
    }

    #[tokio::test]
    async fn of_several_words_the_greatest_counts_in_whatever_order_they_come() {
        let ended = State { end: Some(End { at: 5, outcome: Outcome::Succeeded }), ..state(2, "b", 9) };
        let words = [word(state(0, "a", 0)), word(state(1, "a", 4)), word(state(2, "b", 6)), word(ended.clone()), word(state(3, "c", 1))];
        let mut order: Vec<usize> = (0..words.len()).collect();
        for turn in 0..words.len() {
            order.rotate_left(1);
            let turned: Vec<Record> = order.iter().map(|place| words[*place].clone()).collect();
            assert_eq!(board(&turned).get("o1").unwrap().state, ended, "turned by {turn}");
        }
        let late = board(&[word(state(2, "b", 6)), word(state(1, "a", 5)), word(state(2, "b", 7))]);
        assert_eq!(late.get("o1").unwrap().state.progress.done, 7, "a sleeper's word changes nothing, one's own next word does");
        assert_eq!(late.next, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_works_on_is_taken_over_and_what_somebody_works_on_is_not() {
        let due = |record: &State, life: &str| board(&[word(record.clone())]).due(life, Instant::now()).len();
        assert_eq!((due(&state(0, "a", 0), "a"), due(&state(0, "a", 0), "b")), (1, 0), "asked for here, or elsewhere");
        assert_eq!((due(&state(1, "a", 0), "a"), due(&state(1, "a", 0), "b")), (0, 0));
        let free = State { free: true, ..state(1, "a", 0) };
        assert_eq!(due(&free, "b"), 1, "given up in order");
        let silent = board(&[word(state(1, "a", 3))]);
        tokio::time::advance(SURE + TRYING).await;
        assert!(silent.due("b", Instant::now()).is_empty(), "what it began last may be under way");
        tokio::time::advance(MARGIN).await;
        assert_eq!(silent.due("b", Instant::now()), [state(1, "a", 3)]);
        let ended = State { end: Some(End { at: 5, outcome: Outcome::Cancelled }), ..free };
        assert_eq!(due(&ended, "b"), 0);
    }

    #[tokio::test]
    async fn an_end_is_asked_for_once_and_a_later_release_s_words_are_passed_over() {
        let cancel = |by: &str| Record::Cancel { id: "o1".into(), by: by.into() };
        let mut board = board(&[cancel("ana"), cancel("ben"), word(state(1, "a", 0))]);
        assert_eq!(board.cancelled_by("o1"), Some("ana"));
        let unknown = Delivery { payload: (&br#"{"kind":"pause","id":"o1"}"#[..]).into(), ..delivery(3, &cancel("x")) };
        board.fold(&unknown, Instant::now());
        assert_eq!((board.next, board.all().count()), (4, 1));
    }

    #[test]
    fn a_record_reads_as_it_was_written() {
        let outcome = Outcome::Failed { code: 9, reason: "NO".into(), message: "no".into() };
        let progress = Progress {
            total: Some(3),
            next: vec![1, 2],
            until: vec![3, 4],
            refusals: vec![("0-1".into(), "why".into())],
            ..Progress::default()
        };
        let whole = word(State { end: Some(End { at: 5, outcome }), progress, trouble: "away".into(), ..state(1, "a", 0) });
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), whole, "{text}");
        let before = text.replace(r#""trouble":"away","#, "");
        assert!(before != text && serde_json::from_str::<Record>(&before).is_ok(), "a record of before has none: {before}");
        assert_eq!((whole.key(), Record::Cancel { id: "o1".into(), by: String::new() }.key()), ("o1/a".into(), "o1/cancel".into()));
    }
}
