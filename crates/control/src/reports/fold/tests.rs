//! The figures of a partition: what rows count, and what crashes, late writers and compaction must not change.

use bytes::Bytes;
use waypost_codec::public::Decision;

use super::*;
use crate::reports::measure::Public;

const PLACE: Place = (Public::Decisions, 3);
const DAY: u32 = 24;
const LIMITS: Limits = Limits { hours: 10 * DAY, cells: 10_000 };
/// An hour long after the epoch.
const NOON: u32 = 493_000;

fn row(offset: u64, source: &str, number: u64, decision: &Decision) -> Delivery {
    let header = |name: &str, value: String| (name.to_owned(), Bytes::from(value));
    Delivery {
        partition: PLACE.1,
        offset,
        appended: decision.at,
        key: None,
        headers: vec![header("ce_source", source.to_owned()), header("ce_sequence", number.to_string())],
        payload: waypost_codec::avro::write(1, &decision.encode()),
    }
}

/// `ENTERED`, `EXITED GOAL` of a step of the journey `cart`, so many hours behind noon.
fn said(what: &str, step: &str, hours: u32) -> Decision {
    let (what, reason) = what.split_once(' ').unwrap_or((what, ""));
    Decision {
        workspace: 1,
        at: begin_of(NOON + hours),
        journey: "cart".to_owned(),
        version: 2,
        what: what.to_owned(),
        step: step.to_owned(),
        reason: reason.to_owned(),
        ..Decision::default()
    }
}

/// All that is known: `step@hours word=amount`, and how many are live.
fn told(fold: &Fold) -> Vec<String> {
    let mut all = Vec::new();
    let each = |series: &Series, hour: u32, word: &str, amount: i64| {
        all.push(format!("{}@{} {word}={amount}", series.step, hour - NOON));
    };
    fold.tell(|_| true, 0, u32::MAX, each);
    all.sort();
    all.push(format!("live {}", fold.live(|_| true)));
    all
}

fn fold_of(rows: &[(&str, &str, u32)]) -> Fold {
    let mut fold = Fold::new(PLACE, 1, LIMITS);
    fold.begin(0, 0);
    for (offset, (what, step, hours)) in (0..).zip(rows) {
        fold.take(&row(offset, "a", offset + 1, &said(what, step, *hours))).unwrap();
    }
    fold
}

#[test]
fn rows_count_in_the_hour_of_their_time_however_late_they_come() {
    let fold = fold_of(&[
        ("ENTERED", "first", 0),
        ("REFUSED NO_CONSENT", "", 0),
        ("SENT", "first", 5),
        ("WAITING", "first", 5),
        ("REFUSED NO_CONSENT", "", 0),
        ("ENTERED", "first", 5),
        ("EXITED GOAL", "last", 5),
    ]);
    let expected =
        ["@0 refused NO_CONSENT=2", "first@0 entered=1", "first@5 entered=1", "first@5 sent=1", "last@5 exited GOAL=1", "live 1"];
    assert_eq!(told(&fold), expected);
}

#[test]
fn hours_that_are_kept_no_longer_go_and_take_no_late_row_but_who_is_live_stays() {
    let kept = 10 * DAY;
    let fold = fold_of(&[("ENTERED", "a", 0), ("ENTERED", "a", 1), ("SENT", "a", kept + 1), ("ENTERED", "a", 0), ("SENT", "a", 1)]);
    assert_eq!(told(&fold), ["a@1 entered=1", "a@1 sent=1", &format!("a@{} sent=1", kept + 1), "live 2"]);
    assert_eq!(fold.kept_from(), NOON + 1);
}

#[test]
fn where_there_is_too_much_the_oldest_hours_go_and_that_is_told() {
    let mut fold = Fold::new(PLACE, 1, Limits { cells: 64, ..LIMITS });
    fold.begin(0, 0);
    for offset in 0..200 {
        fold.take(&row(offset, "a", offset + 1, &said("ENTERED", "a", u32::try_from(offset).unwrap()))).unwrap();
        assert!(fold.cells.len() <= 64);
    }
    let kept = 200 - (fold.kept_from() - NOON);
    assert!((60..64).contains(&kept), "{kept}");
    assert_eq!((told(&fold).len(), fold.live(|_| true)), (usize::try_from(kept).unwrap() + 1, 200));
}

#[test]
fn a_row_that_cannot_be_read_is_waited_for_and_one_of_nobody_is_passed_over() {
    let mut fold = Fold::new(PLACE, 1, LIMITS);
    fold.begin(0, 0);
    let good = row(0, "a", 1, &said("ENTERED", "", 0));
    let nobody = Delivery { headers: Vec::new(), payload: Bytes::from_static(b"?"), ..good.clone() };
    fold.take(&nobody).unwrap();
    let strange = Delivery { offset: 1, payload: Bytes::from_static(b"\0\0\0\0\x09?"), ..good.clone() };
    for _ in 0..2 {
        assert_eq!(fold.take(&strange), Err(Unreadable));
        assert_eq!(fold.next(), 1);
    }
    fold.take(&Delivery { offset: 1, ..good }).unwrap();
    assert_eq!(told(&fold), ["@0 entered=1", "live 1"]);
}

#[test]
fn what_has_gone_before_it_was_counted_is_told_and_counting_goes_on_behind_it() {
    let mut fold = fold_of(&[("ENTERED", "", 0), ("ENTERED", "", 0)]);
    assert_eq!(fold.begin(0, 2), (2, 0, false));
    // The topic now reaches from 5 to 9.
    assert_eq!(fold.begin(5, 9), (5, 3, false));
    fold.take(&row(5, "a", 6, &said("ENTERED", "", 0))).unwrap();
    fold.take(&row(6, "a", 6, &said("ENTERED", "", 0))).unwrap();
    assert_eq!((told(&fold), fold.missed()), (vec!["@0 entered=3".to_owned(), "live 3".to_owned()], 3));
    // It was deleted and made anew: its offsets begin again, and what they hold counts.
    assert_eq!(fold.begin(0, 1), (0, 0, true));
    fold.take(&row(0, "a", 9, &said("ENTERED", "", 0))).unwrap();
    assert_eq!(told(&fold), ["@0 entered=4", "live 4"]);
    // A life that begins later knows the same.
    let mut later = Fold::new(PLACE, 2, LIMITS);
    let batch = fold.batch().unwrap();
    for (key, value) in batch.figures.iter().chain([&batch.progress]) {
        later.take_in(record::read(key, value).unwrap().1);
    }
    assert_eq!((told(&later), later.begin(0, 1), later.missed()), (told(&fold), (1, 0, false), 3));
}

#[test]
fn a_batch_that_was_not_written_goes_with_the_next() {
    let mut fold = fold_of(&[("ENTERED", "a", 0)]);
    let batch = fold.batch().unwrap();
    assert_eq!(batch.figures.len(), 2, "the hour, and who is live");
    fold.put_back(batch);
    fold.take(&row(1, "a", 2, &said("SENT", "b", 0))).unwrap();
    let batch = fold.batch().unwrap();
    assert_eq!(batch.figures.len(), 3);
    fold.wrote(&batch);
    assert!(fold.batch().is_none(), "nothing has come since");
    // Of a topic that has gone everything is written again.
    fold.start_over();
    assert_eq!(fold.batch().unwrap().figures.len(), 3);
}

/// Small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Rows of a topic.
const ROWS: u64 = 60;

/// Rows as roles that crash write them, from these numbers on: some come again under the same numbers.
fn rows(chance: &mut Chance, first: [u64; 2]) -> (Vec<Delivery>, [u64; 2]) {
    let mut next = first;
    let mut one = |offset| {
        let source = usize::try_from(chance.below(2)).unwrap();
        let written = next[source] - first[source];
        let again = chance.below(4) == 0 && written > 0;
        let number = if again { next[source] - 1 - chance.below(2).min(written - 1) } else { next[source] };
        next[source] = next[source].max(number + 1);
        let what = ["ENTERED", "EXITED GOAL", "SENT", "REFUSED X"][usize::try_from(chance.below(4)).unwrap()];
        let step = ["a", "b"][usize::try_from(chance.below(2)).unwrap()];
        let hours = u32::try_from(chance.below(3)).unwrap();
        row(offset, ["s0", "s1"][source], number, &said(what, step, hours))
    };
    let all = (0..ROWS).map(&mut one).collect();
    (all, next)
}

/// Whether no row from there on comes again that first came before. A repeat is seconds behind its first, retention days.
fn is_clean(rows: &[Delivery], at: u64) -> bool {
    let (before, behind) = rows.split_at(usize::try_from(at).unwrap());
    let numbers =
        |rows: &[Delivery]| rows.iter().filter_map(once::numbered).map(|(source, n)| (source.to_owned(), n)).collect::<BTreeSet<_>>();
    numbers(before).is_disjoint(&numbers(behind))
}

/// Of each key the last stays, as far as compaction has come.
fn compact(topic: &mut Vec<Pair>, until: usize, key: impl Fn(&Bytes) -> Vec<u8>) {
    let later: Vec<Vec<u8>> = topic.iter().map(|(k, _)| key(k)).collect();
    let mut place = 0;
    topic.retain(|_| {
        let stays = place >= until || !later[place + 1..].contains(&later[place]);
        place += 1;
        stays
    });
}

/// What happens in stories besides crashes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Losses {
    None,
    /// Rows fall to retention, and the topic is deleted and made anew.
    Some,
}

/// How a story ended.
#[derive(Debug, Default)]
struct Told {
    /// What a last life says.
    said: Vec<String>,
    /// What is so.
    so: Vec<String>,
    /// Rows that some life found gone.
    lost: u64,
    /// Gaps and new topics that lives have found.
    gaps: u64,
    epochs: u64,
}

/// The topic, and what lives find out about it.
struct Stage {
    rows: Vec<Delivery>,
    start: Offset,
    end: Offset,
    told: Told,
}

impl Stage {
    /// As the reader does before it reads on.
    fn begin(&mut self, fold: &mut Fold) {
        let before = fold.next();
        let (next, gone, is_new) = fold.begin(self.start, self.end);
        if is_new {
            self.told.epochs += 1;
        } else {
            self.told.gaps += u64::from(gone > 0);
            self.told.lost += next - before;
        }
    }

    fn on(&mut self, fold: &mut Fold, count: u64) {
        self.begin(fold);
        let from = usize::try_from(fold.next()).unwrap();
        self.rows[from..].iter().take(usize::try_from(count).unwrap()).for_each(|row| fold.take(row).unwrap());
    }

    fn life(&mut self, topic: &[Pair], life: u64) -> Fold {
        let mut fold = Fold::new(PLACE, life, LIMITS);
        for (key, value) in topic {
            fold.take_in(record::read(key, value).unwrap().1);
        }
        self.begin(&mut fold);
        fold
    }
}

/// One story: lives that begin, count, write whole or half, die, and write late.
fn story(seed: u64, losses: Losses, key: impl Fn(&Bytes) -> Vec<u8>) -> Told {
    let mut chance = Chance(seed);
    let (first, next) = rows(&mut chance, [1, 1]);
    let mut stage = Stage { rows: first.clone(), start: 0, end: ROWS, told: Told::default() };
    let mut once = Fold::new(PLACE, 100, LIMITS);
    once.begin(0, ROWS);
    for row in &first {
        once.take(row).unwrap();
    }
    let mut topic: Vec<Pair> = Vec::new();
    let mut late: Vec<Vec<Pair>> = Vec::new();
    let mut lives: Vec<Fold> = Vec::new();
    let mut is_anew = false;
    for life in 0..30 {
        match chance.below(if losses == Losses::None { 7 } else { 9 }) {
            0 => lives.push(stage.life(&topic, life)),
            // dies, with whatever it had not written
            1 if !lives.is_empty() => drop(lives.remove(usize::try_from(chance.below(lives.len() as u64)).unwrap())),
            2 if !late.is_empty() => topic.extend(late.remove(0)),
            3 => {
                let until = usize::try_from(chance.below(topic.len() as u64 + 1)).unwrap();
                compact(&mut topic, until, &key);
            }
            // Retention; lives that stand before it find out when they read on.
            7 => {
                let start = (stage.start + chance.below(12)).min(ROWS);
                if is_clean(&stage.rows, start) {
                    stage.start = start;
                }
            }
            // The topic is made anew, and somebody who knows the old one sees that while it has not yet grown, and writes it down.
            8 if !is_anew && lives.iter().any(|fold| fold.next() > 0) => {
                is_anew = true;
                // Not in these stories: a late progress of the old topic that takes the new one's place, which would hide the new topic.
                late.clear();
                lives.retain(|fold| fold.next() > 0);
                stage.told.lost += lives.iter().map(|fold| ROWS - fold.next()).sum::<u64>();
                (stage.rows, stage.start, stage.end) = (rows(&mut chance, next).0, 0, 0);
                for fold in &mut lives {
                    stage.begin(fold);
                }
                stage.end = ROWS;
                let batch = lives[0].batch().unwrap();
                topic.extend(batch.figures.iter().chain([&batch.progress]).cloned());
                lives[0].wrote(&batch);
                once.begin(0, 0);
                stage.rows.iter().for_each(|row| once.take(row).unwrap());
            }
            _ if lives.is_empty() => {}
            _ => {
                let at = usize::try_from(chance.below(lives.len() as u64)).unwrap();
                stage.on(&mut lives[at], chance.below(9));
                let Some(batch) = lives[at].batch() else { continue };
                let all: Vec<Pair> = batch.figures.iter().chain([&batch.progress]).cloned().collect();
                match chance.below(4) {
                    // Killed between two records.
                    0 => {
                        let some = usize::try_from(chance.below(all.len() as u64)).unwrap();
                        topic.extend(all[..some].iter().cloned());
                        lives.remove(at);
                    }
                    // Stands still before it writes, and is taken for dead.
                    1 => {
                        late.push(all);
                        lives.remove(at);
                    }
                    2 => lives[at].put_back(batch),
                    _ => {
                        topic.extend(all);
                        lives[at].wrote(&batch);
                    }
                }
            }
        }
    }
    topic.extend(late.into_iter().flatten());
    let until = topic.len();
    compact(&mut topic, until, &key);
    let mut last = stage.life(&topic, 99);
    stage.on(&mut last, ROWS);
    Told { said: told(&last), so: told(&once), ..stage.told }
}

#[test]
fn crashes_late_writers_and_compaction_count_nothing_twice_and_lose_nothing() {
    for seed in 0..2_000 {
        let told = story(seed, Losses::None, |key| key.to_vec());
        assert_eq!(told.said, told.so, "seed {seed}");
    }
}

/// Everything but who is live, which is a difference.
fn amounts(told: &[String]) -> BTreeMap<&str, u64> {
    told.iter().filter_map(|line| line.rsplit_once('=')).map(|(figure, amount)| (figure, amount.parse().unwrap())).collect()
}

#[test]
fn with_gaps_and_new_topics_nothing_counts_twice_either_and_only_what_was_found_gone_is_missing() {
    let (mut gaps, mut epochs, mut whole) = (0, 0, 0);
    for seed in 0..2_000 {
        let told = story(seed, Losses::Some, |key| key.to_vec());
        let (said, so) = (amounts(&told.said), amounts(&told.so));
        for (figure, amount) in &said {
            assert!(amount <= so.get(figure).unwrap_or(&0), "seed {seed}: {figure} twice, {told:?}");
        }
        let missing = so.values().sum::<u64>() - said.values().sum::<u64>();
        assert!(missing <= told.lost, "seed {seed}: {missing} missing, {told:?}");
        (gaps, epochs, whole) = (gaps + told.gaps, epochs + told.epochs, whole + u64::from(told.lost == 0));
    }
    assert!(gaps > 500 && epochs > 500 && whole > 100, "{gaps} {epochs} {whole}");
}

#[test]
fn without_the_life_in_the_key_a_late_write_loses_something() {
    let without_life = |key: &Bytes| {
        let text = String::from_utf8(key.to_vec()).unwrap();
        text.split("\"life\"").map(|part| part.split_once(',').map_or(part, |(_, rest)| rest)).collect::<String>().into_bytes()
    };
    assert!((0..2_000).any(|seed| {
        let told = story(seed, Losses::None, without_life);
        told.said != told.so
    }));
}
