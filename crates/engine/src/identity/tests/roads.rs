//! One identifier's road, step by step: what each record leads to.

use waypost_codec::inbox::{Detach, EraseNode, Expire, Flush, Flushed, MergeDone};

use super::*;

/// One cookie, its first node, and the profiles `A` and `B` it may be moved to.
struct Cookie {
    state: IdentifierState,
    offset: u64,
    limits: Limits,
    rules: Rules,
    names: BTreeMap<Bytes, String>,
}

fn profile(name: &str) -> Bytes {
    let n = u16::from(name.as_bytes()[0]);
    let generation = Bytes::from_static(&[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    known(&NodeRef { generation, ..id(Email, n) })
}

impl Cookie {
    fn new(limits: Limits, rules: Rules) -> Self {
        let names = ["A", "B"].map(|name| (profile(name), name.to_owned())).into();
        Self { state: IdentifierState::default(), offset: 0, limits, rules, names }
    }

    /// The id of its `n`-th node, from 1.
    fn node(&self, n: usize) -> Bytes {
        self.state.generations[n - 1].id.clone()
    }

    /// Folds `event 1`, `receipt 1`, `done 1 A`, `flushed 1 A 1`, `gone 1`, `erase`, `expire`, `detach`, `shared`, `with B` or `late`.
    fn fold(&mut self, step: &str) -> String {
        self.offset += 1;
        let words: Vec<&str> = step.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let (me, class) = (id(Anonymous, 1), Email);
        let node = Some(me.clone());
        let mut here =
            Here { limits: self.limits, rules: self.rules, now: Timestamp::from_millis(self.offset.cast_signed()), ..here(self.offset) };
        let effects = match words[0] {
            "event" => {
                here.record = [u8::try_from(number(1)).unwrap(); 16];
                let body = IdentityEvent { identifiers: vec![me], event: words[1].to_owned().into(), by_profile: false };
                event(&mut self.state, &here, &body)
            }
            "with" => {
                let other = id(class, u16::from(words[1].as_bytes()[0]));
                event(&mut self.state, &here, &IdentityEvent { identifiers: vec![me, other], event: "with".into(), by_profile: false })
            }
            "receipt" => {
                let profile = self.node(words[1].parse().unwrap());
                receipt(&mut self.state, &here, &Receipt { profile, ..Receipt::default() })
            }
            "done" => {
                let done = MergeDone { node: self.node(words[1].parse().unwrap()), at: profile(words[2]) };
                merge_done(&mut self.state, &here, &done)
            }
            "flushed" => {
                let node = self.node(words[1].parse().unwrap());
                flushed(&mut self.state, &here, &Flushed { node, at: profile(words[2]), flush_no: number(3) })
            }
            "gone" => {
                let node = self.node(words[1].parse().unwrap());
                erase_node(&mut self.state, &EraseNode { node })
            }
            "erase" => erase(&mut self.state, &here, &Erase { node, suppress: true }),
            "expire" => expire(&mut self.state, &here, &Expire { node }),
            "detach" => detach(&mut self.state, &here, &Detach { node }),
            "shared" => shared(&mut self.state, &here, &Shared { node }),
            "late" => Ok(expire_hold(&mut self.state, &here)),
            other => panic!("no step {other}"),
        };
        let named = |cookie: &Self, id: &Bytes| {
            let own = cookie.state.generations.iter().position(|node| node.id == *id).map(|at| (at + 1).to_string());
            own.or_else(|| cookie.names.get(id).cloned()).unwrap_or_else(|| "?".to_owned())
        };
        let told = effects.unwrap().into_iter().map(|effect| match effect {
            Effect::Item { profile, item, origin } => {
                let what = match item.body.unwrap() {
                    Body::Event(name) => format!("event {}", String::from_utf8(name.to_vec()).unwrap()),
                    Body::Receipt(_) => "receipt".to_owned(),
                    Body::Settled(_) => "settled".to_owned(),
                    Body::Erase(body) => format!("erase{}", if body.suppress { "!" } else { "" }),
                    Body::Command(_) => "command".to_owned(),
                };
                let first = if item.first { " first" } else { "" };
                assert!(origin.at.millis() <= self.offset.cast_signed());
                format!("{what}{first} of {} > {}", named(self, &item.node), named(self, &profile))
            }
            Effect::Flush(Flush { profile, node, flush_no }) => {
                format!("flush {flush_no} of {} > {}", named(self, &node), named(self, &profile))
            }
            Effect::Link { .. } => "link".to_owned(),
            Effect::Share { .. } => "share".to_owned(),
            Effect::MergeBegin(_) => "merge".to_owned(),
            Effect::Refused(why) => why.reason().to_owned(),
        });
        told.collect::<Vec<_>>().join(", ")
    }
}

#[track_caller]
fn check(limits: Limits, rules: Rules, story: &[(&str, &str)]) -> Cookie {
    let mut cookie = Cookie::new(limits, rules);
    for (number, (step, expected)) in story.iter().enumerate() {
        assert_eq!(&cookie.fold(step), expected, "step {number}: {step}");
    }
    cookie
}

fn tiny(held_items: usize) -> Limits {
    Limits { held_items, generations: 3, ..Limits::default() }
}

#[test]
fn a_hold_ends_when_its_flush_has_passed() {
    let cookie = check(
        Limits::default(),
        Rules::default(),
        &[
            ("event 1", "event 1 first of 1 > 1"),
            ("done 1 B", "flush 1 of 1 > 1"),
            ("event 2", ""),
            ("receipt 1", ""),
            ("event 2", ""),
            ("done 1 A", ""),
            ("expire", ""),
            ("flushed 1 B 2", ""),
            ("flushed 1 B 1", "event 2 of 1 > B, receipt of 1 > B, erase of 1 > B, settled of 1 > B"),
            ("flushed 1 A 1", ""),
            ("event 3", "event 3 of 1 > B"),
            ("done 1 B", "settled of 1 > B"),
            ("done 1 A", "flush 2 of 1 > B"),
            ("flushed 1 A 2", "settled of 1 > A"),
            ("event 4", "event 4 of 1 > A"),
        ],
    );
    assert_eq!(held_since(&cookie.state), None);
}

#[test]
fn a_word_of_where_the_person_was_before_comes_too_late() {
    check(
        Limits::default(),
        Rules::default(),
        &[
            ("event 1", "event 1 first of 1 > 1"),
            ("done 1 A", "flush 1 of 1 > 1"),
            ("flushed 1 A 1", "settled of 1 > A"),
            ("done 1 B", ""),
            ("event 2", "event 2 of 1 > A"),
        ],
    );
}

#[test]
fn a_full_hold_is_given_up_in_order_on_the_old_road() {
    check(
        tiny(2),
        Rules::default(),
        &[
            ("event 1", "event 1 first of 1 > 1"),
            ("done 1 A", "flush 1 of 1 > 1"),
            ("event 2", ""),
            ("event 3", ""),
            ("event 4", "event 2 of 1 > 1, event 3 of 1 > 1, event 4 of 1 > 1, settled of 1 > 1"),
            ("flushed 1 A 1", ""),
            ("event 5", "event 5 of 1 > 1"),
            ("done 1 A", "flush 3 of 1 > 1"),
            ("flushed 1 A 3", "settled of 1 > A"),
            ("event 6", "event 6 of 1 > A"),
        ],
    );
    let bytes = Limits { held_bytes: 1, ..Limits::default() };
    check(
        bytes,
        Rules::default(),
        &[("event 1", "event 1 first of 1 > 1"), ("done 1 A", "flush 1 of 1 > 1"), ("event 2", "event 2 of 1 > 1, settled of 1 > 1")],
    );
}

#[test]
fn a_hold_that_takes_too_long_is_given_up() {
    let cookie = check(
        Limits::default(),
        Rules::default(),
        &[
            ("event 1", "event 1 first of 1 > 1"),
            ("late", ""),
            ("done 1 A", "flush 1 of 1 > 1"),
            ("late", ""),
            ("event 2", ""),
            ("event 3", ""),
        ],
    );
    assert_eq!(held_since(&cookie.state), Some(Timestamp::from_millis(5)), "the log time of event 2");
    let mut cookie = cookie;
    assert_eq!(cookie.fold("late"), "event 2 of 1 > 1, event 3 of 1 > 1, settled of 1 > 1");
    assert_eq!(cookie.fold("flushed 1 A 1"), "");
    assert_eq!(cookie.fold("event 4"), "event 4 of 1 > 1");
}

#[test]
fn an_erased_node_lets_go_and_its_identifier_goes_on() {
    check(
        Limits::default(),
        Rules::default(),
        &[
            ("with A", "event with first of 1 > 1, link"),
            ("with A", "event with of 1 > 1"),
            ("done 1 A", "flush 1 of 1 > 1"),
            ("event 2", ""),
            ("gone 1", ""),
            ("gone 1", ""),
            ("flushed 1 A 1", ""),
            ("done 1 A", ""),
            ("receipt 1", ""),
            ("erase", ""),
            ("with A", "event with first of 2 > 2, link"),
            ("erase", "erase! of 2 > 2"),
        ],
    );
}

#[test]
fn nobody_is_made_to_be_erased_or_detached() {
    for command in ["erase", "expire", "detach", "shared"] {
        let cookie = check(Limits::default(), Rules::default(), &[(command, "")]);
        assert_eq!(cookie.state, IdentifierState::default(), "{command}");
    }
}

#[test]
fn a_detached_identifier_begins_anew_and_its_old_node_stays_a_road() {
    check(
        Limits::default(),
        Rules::default(),
        &[
            ("event 1", "event 1 first of 1 > 1"),
            ("done 1 B", "flush 1 of 1 > 1"),
            ("event 2", ""),
            ("detach", ""),
            ("detach", ""),
            ("event 3", "event 3 first of 2 > 2"),
            ("receipt 1", ""),
            ("flushed 1 B 1", "event 2 of 1 > B, receipt of 1 > B, settled of 1 > B"),
            ("receipt 1", "receipt of 1 > B"),
            ("receipt 2", "receipt of 2 > 2"),
            ("done 1 A", "flush 2 of 1 > B"),
            ("with A", "event with of 2 > 2, link"),
        ],
    );
}

#[test]
fn a_shared_identifier_links_to_nobody() {
    let mut cookie = check(
        tiny(1),
        Rules::default(),
        &[
            ("with A", "event with first of 1 > 1, link"),
            ("shared", ""),
            ("shared", ""),
            ("with A", "event with first of 2 > 2"),
            ("detach", ""),
            ("with B", "event with first of 3 > 3"),
            ("detach", "IDENTITY_LIMIT"),
            ("gone 1", ""),
            ("detach", ""),
        ],
    );
    let a = NodeRef { generation: Bytes::from_static(&[1; 14]), ..id(Email, 1) };
    let b = id(Anonymous, 1);
    let asks = Link { a: Some(a), b: Some(b), ..Link::default() };
    assert_eq!(link(&mut cookie.state, &here(99), &asks), Ok(Vec::new()));
    assert_eq!(cookie.state.generations.len(), 3);
}

#[test]
fn switched_off_rules_are_off() {
    let rules = Rules { flush: false, ..Rules::default() };
    check(Limits::default(), rules, &[("event 1", "event 1 first of 1 > 1"), ("done 1 A", ""), ("event 2", "event 2 of 1 > A")]);
    let rules = Rules { hold: false, ..Rules::default() };
    check(
        Limits::default(),
        rules,
        &[
            ("event 1", "event 1 first of 1 > 1"),
            ("done 1 A", "flush 1 of 1 > 1"),
            ("event 2", "event 2 of 1 > 1"),
            ("flushed 1 A 1", "settled of 1 > A"),
            ("event 3", "event 3 of 1 > A"),
        ],
    );
}

#[test]
fn records_about_nodes_that_never_were_are_errors() {
    let mut state = IdentifierState::default();
    let (here, node, at) = (here(1), profile("A"), profile("B"));
    assert_eq!(merge_done(&mut state, &here, &MergeDone { node: node.clone(), at: at.clone() }), Err(IdentityError::UnknownNode));
    assert_eq!(flushed(&mut state, &here, &Flushed { node: node.clone(), at, flush_no: 1 }), Err(IdentityError::UnknownNode));
    assert_eq!(erase_node(&mut state, &EraseNode { node: node.clone() }), Err(IdentityError::UnknownNode));
    assert!(matches!(merge_done(&mut state, &here, &MergeDone { node, at: Bytes::new() }), Err(IdentityError::Malformed(_))));
    assert!(matches!(erase(&mut state, &here, &Erase::default()), Err(IdentityError::Malformed(_))));
    assert_eq!(state, IdentifierState::default());
}
