//! Linking as stories: a little world of identifiers that hand each other their links.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use prost::Message as _;
use waypost_codec::inbox::{Detach, Erase, EraseNode, Event, NamedCount, NodeRef, Receipt, RunCommand, StartRun, run_command};
use waypost_types::{IdentifierClass, Node};

use super::*;

mod model;
mod roads;

/// Every identifier's state, and what has been sent to segmenters.
#[derive(Default)]
struct World {
    states: BTreeMap<Bytes, IdentifierState>,
    links: VecDeque<(Bytes, Link)>,
    shares: VecDeque<(Bytes, Shared)>,
    items: Vec<(Bytes, SegmentItem)>,
    merges: Vec<MergeBegin>,
    refused: Vec<Refusal>,
    offset: u64,
}

fn id(class: IdentifierClass, n: u16) -> NodeRef {
    let mut hash = [class as u8; 16];
    hash[..2].copy_from_slice(&n.to_be_bytes());
    let custom = if class == Custom { "card".to_owned() } else { String::new() };
    NodeRef { class: class.number(), hash: Bytes::copy_from_slice(&hash), generation: Bytes::new(), custom }
}

/// A custom identifier of this name.
fn custom(name: &str, n: u16) -> NodeRef {
    let mut hash = [0xc0; 16];
    hash[..2].copy_from_slice(&n.to_be_bytes());
    hash[2..2 + name.len()].copy_from_slice(name.as_bytes());
    NodeRef { hash: Bytes::copy_from_slice(&hash), custom: name.to_owned(), ..id(Custom, 0) }
}

/// At this offset, at second 1, under the defaults.
fn here(offset: u64) -> Here {
    let mut record = [0; 16];
    record[..8].copy_from_slice(&offset.to_be_bytes());
    Here {
        now: Timestamp::from_millis(1_000),
        layout: Layout { number: 1, partitions: 16 },
        position: Position { offset, index: 0 },
        record,
        limits: Limits::default(),
        rules: Rules::default(),
    }
}

fn known(of: &NodeRef) -> Bytes {
    Bytes::copy_from_slice(&nodes::full(of).unwrap().to_bytes())
}

impl World {
    fn here(&mut self) -> Here {
        self.offset += 1;
        here(self.offset)
    }

    fn event(&mut self, identifiers: &[NodeRef]) {
        let here = self.here();
        let body = IdentityEvent { identifiers: identifiers.to_vec(), event: Bytes::from_static(b"e"), by_profile: false };
        let state = self.states.entry(identifiers[0].hash.clone()).or_default();
        let effects = event(state, &here, &body).unwrap();
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Item { profile, item, .. } => self.items.push((profile, item)),
                Effect::Link { to, link } => self.links.push_back((to, link)),
                Effect::Share { to, shared } => self.shares.push_back((to, shared)),
                Effect::MergeBegin(begin) => self.merges.push(begin),
                Effect::Flush(flush) => panic!("{flush:?}, although nothing was imported"),
                Effect::Refused(reason) => self.refused.push(reason),
            }
        }
    }

    fn settle(&mut self) {
        while let Some((to, body)) = self.links.pop_front() {
            let here = self.here();
            let effects = link(self.states.entry(to).or_default(), &here, &body).unwrap();
            self.take(effects);
        }
        while let Some((to, body)) = self.shares.pop_front() {
            let here = self.here();
            let effects = shared(self.states.entry(to).or_default(), &here, &body).unwrap();
            self.take(effects);
        }
    }

    /// The root of an identifier's current node.
    fn root(&self, of: &NodeRef) -> Node {
        let mut node = self.states[&of.hash].generations.last().unwrap().clone();
        while !nodes::is_root(&node) {
            let parent = nodes::stored(&node.parent).unwrap();
            node = self.states[parent.hash.as_bytes().as_slice()].generations.iter().find(|n| n.id == node.parent).unwrap().clone();
        }
        nodes::stored(&node.id).unwrap()
    }

    fn components(&self, of: &[NodeRef]) -> usize {
        of.iter().map(|n| self.root(n).to_bytes()).collect::<BTreeSet<_>>().len()
    }
}

/// How many cards the person of this identifier counts.
fn cards(world: &World, of: &NodeRef) -> u32 {
    let root = world.root(of);
    let state = &world.states[root.hash.as_bytes().as_slice()];
    let node = state.generations.iter().find(|node| node.id == root.to_bytes()[..]).unwrap();
    node.custom_counts.iter().find(|named| named.name == "card").map_or(0, |named| named.count)
}

use IdentifierClass::{Anonymous, Custom, Device, Email, Phone, UserId};

#[test]
fn identifiers_that_come_together_become_one_person_under_the_strongest() {
    let mut world = World::default();
    let (cookie, email, user) = (id(Anonymous, 1), id(Email, 1), id(UserId, 1));
    world.event(std::slice::from_ref(&cookie));
    world.event(&[email.clone(), cookie.clone()]);
    world.settle();
    assert_eq!(world.root(&cookie).class, Email);
    world.event(&[user.clone(), email.clone()]);
    world.settle();
    assert_eq!(world.root(&cookie), world.root(&user));
    assert_eq!(world.root(&email).class, UserId);
    assert_eq!(world.merges.len(), 2);
    let root = world.states[&user.hash].generations[0].clone();
    assert_eq!((root.size, root.counts), (3, vec![1, 1, 0, 0, 1, 0]));
    assert_eq!(world.items.iter().map(|(_, i)| i.first).collect::<Vec<_>>(), [true, true, true]);
}

#[test]
fn a_moved_identifier_keeps_its_road_until_it_is_switched() {
    let mut world = World::default();
    let (cookie, email) = (id(Anonymous, 1), id(Email, 1));
    world.event(std::slice::from_ref(&cookie));
    world.event(&[email, cookie.clone()]);
    world.settle();
    world.event(&[cookie]);
    assert_eq!(world.items[0].0, world.items[2].0);
    assert!(!world.items[2].1.first);
}

#[test]
fn an_item_says_whether_it_is_its_nodes_first() {
    let mut world = World::default();
    let (cookie, email) = (id(Anonymous, 1), id(Email, 1));
    // The email's node is made by the link, and has sent nothing when the cookie's profile comes to it.
    world.event(&[cookie, email.clone()]);
    world.settle();
    assert_eq!(world.merges.iter().map(|m| m.first).collect::<Vec<_>>(), [false]);
    world.event(std::slice::from_ref(&email));
    world.event(std::slice::from_ref(&email));
    assert_eq!(world.items.iter().map(|(_, i)| i.first).collect::<Vec<_>>(), [true, true, false]);
    // A cookie that was only ever named moves without having sent anything.
    let named = id(Anonymous, 2);
    world.event(&[email, named]);
    world.settle();
    assert_eq!(world.merges.iter().map(|m| m.first).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_link_is_sent_once() {
    let mut world = World::default();
    let (cookie, email) = (id(Anonymous, 1), id(Email, 1));
    world.event(&[email.clone(), cookie.clone()]);
    assert_eq!(world.links.len(), 1);
    world.settle();
    world.event(&[email, cookie]);
    assert_eq!(world.links.len(), 0);
}

#[test]
fn an_event_links_at_most_eight() {
    let mut world = World::default();
    let mut identifiers = vec![id(Email, 1)];
    identifiers.extend((0..9).map(|n| id(Device, n)));
    world.event(&identifiers);
    assert_eq!(world.links.len(), 8);
    // What was left over is linked when it comes again.
    world.links.clear();
    world.event(&identifiers);
    assert_eq!(world.links.len(), 1);
}

#[test]
fn a_repeated_message_id_is_dropped() {
    let mut state = IdentifierState::default();
    let mut world = World::default();
    let body = IdentityEvent { identifiers: vec![id(Email, 1)], event: Bytes::from_static(b"e"), by_profile: false };
    let mut once = world.here();
    assert_eq!(event(&mut state, &once, &body).unwrap().len(), 1);
    assert_eq!(event(&mut state, &once, &body).unwrap().len(), 0);
    once.rules.window = false;
    assert_eq!(event(&mut state, &once, &body).unwrap().len(), 1, "without the window it counts again");
}

#[test]
fn two_user_ids_never_meet() {
    let mut world = World::default();
    let (one, two, email, cookie) = (id(UserId, 1), id(UserId, 2), id(Email, 1), id(Anonymous, 1));
    world.event(&[one.clone(), email.clone()]);
    world.settle();
    world.event(&[two.clone(), email.clone()]);
    world.event(&[two, cookie.clone()]);
    world.settle();
    world.event(&[email.clone(), cookie.clone()]);
    world.settle();
    assert_eq!(world.refused, [Refusal::TwoUserIds, Refusal::TwoUserIds]);
    assert_eq!(world.root(&email), world.root(&one));
    assert_eq!(world.root(&cookie).class, Anonymous, "claimed by both, it is nobody's");
}

#[test]
fn a_cookie_that_two_user_ids_claim_becomes_nobodys() {
    let mut world = World::default();
    let (one, two, email, cookie) = (id(UserId, 1), id(UserId, 2), id(Email, 1), id(Anonymous, 1));
    world.event(&[one.clone(), email.clone(), cookie.clone()]);
    world.settle();
    world.event(&[two.clone(), email.clone(), cookie.clone()]);
    world.settle();
    assert_eq!(world.refused, [Refusal::TwoUserIds, Refusal::TwoUserIds]);
    assert_eq!(world.root(&email), world.root(&one), "an address stays with the first");
    assert_eq!(world.root(&cookie).class, Anonymous, "a cookie is alone");
    // Whoever comes with it from now on: it stays alone, and its own visits count for itself.
    let three = id(UserId, 3);
    world.event(&[three.clone(), cookie.clone()]);
    world.event(&[one.clone(), cookie.clone()]);
    world.event(&[cookie.clone(), id(Anonymous, 2)]);
    world.settle();
    assert_eq!(world.components(&[one, two, three, cookie.clone()]), 4);
    assert_eq!(world.items.last().unwrap().0, world.root(&cookie).to_bytes()[..]);
    assert_eq!(world.refused.len(), 2);
}

#[test]
fn a_shared_cookie_does_not_become_a_person() {
    let mut world = World::default();
    let cookie = id(Anonymous, 1);
    let emails: Vec<_> = (0..20).map(|n| id(Email, n)).collect();
    for email in &emails {
        world.event(&[email.clone(), cookie.clone()]);
        world.settle();
    }
    assert!(world.refused.iter().all(|r| *r == Refusal::IdentityLimit) && !world.refused.is_empty());
    assert!(world.components(&emails) >= 20 / 3);
}

#[test]
fn a_person_has_five_custom_identifiers_of_each_name() {
    let mut world = World::default();
    let email = id(Email, 1);
    let join = |world: &mut World, other: NodeRef| {
        world.event(&[email.clone(), other]);
        world.settle();
        world.refused.len()
    };
    for n in 0..5 {
        assert_eq!(join(&mut world, custom("card", n)), 0);
    }
    assert_eq!(join(&mut world, custom("card", 5)), 1, "the sixth card");
    assert_eq!(world.refused, [Refusal::IdentityLimit]);
    let (profile, item) = world.items.last().unwrap();
    assert_eq!((&profile[..], item.first), (&world.root(&email).to_bytes()[..], false), "what came with it counts for the address");
    assert_eq!(world.root(&custom("card", 5)).class, Custom, "it is somebody else's, or nobody's yet");
    for n in 0..5 {
        assert_eq!(join(&mut world, custom("crm", n)), 1, "another name has five of its own");
    }
    assert_eq!(join(&mut world, custom("crm", 5)), 2);
    let root = &world.states[&email.hash].generations[0];
    let named = |name: &str| NamedCount { name: name.to_owned(), count: 5 };
    assert_eq!((root.size, &root.counts[..]), (11, &[0, 1, 0, 0, 0, 10][..]));
    assert_eq!(root.custom_counts, [named("card"), named("crm")]);
}

#[test]
fn a_person_with_more_custom_identifiers_than_the_limit_goes_on_joining() {
    let mut world = World::default();
    let (user, email, cookie) = (id(UserId, 1), id(Email, 1), id(Anonymous, 1));
    // None of them has arrived when the next is sent.
    for n in 0..7 {
        world.event(&[email.clone(), custom("card", n)]);
    }
    world.settle();
    assert_eq!((cards(&world, &email), &world.refused[..]), (7, &[][..]));
    for other in [cookie.clone(), custom("crm", 1)] {
        world.event(&[email.clone(), other]);
    }
    world.event(&[user.clone(), email.clone()]);
    world.settle();
    assert_eq!(world.components(&[user.clone(), email, cookie, custom("crm", 1), custom("card", 6)]), 1);
    assert_eq!((cards(&world, &user), &world.refused[..]), (7, &[][..]));
    world.event(&[user.clone(), custom("card", 7)]);
    world.settle();
    assert_eq!((cards(&world, &user), &world.refused[..]), (7, &[Refusal::IdentityLimit][..]));
}

#[test]
fn an_event_brings_no_more_custom_identifiers_of_a_name_than_there_is_room_for() {
    for had in [0, 3] {
        let mut world = World::default();
        let email = id(Email, 1);
        for n in 0..had {
            world.event(&[email.clone(), custom("card", 10 + n)]);
            world.settle();
        }
        let mut shown = vec![email.clone()];
        shown.extend((0..6).map(|n| custom("card", n)));
        shown.push(custom("crm", 1));
        world.event(&shown);
        let over = usize::from(had) + 1;
        assert_eq!((world.links.len(), &world.refused[..]), (7 - over, &vec![Refusal::IdentityLimit; over][..]));
        world.settle();
        assert_eq!((cards(&world, &email), world.components(&[email, custom("card", 0), custom("crm", 1)])), (5, 1));
        // It is said once.
        world.event(&shown);
        assert_eq!((world.links.len(), world.refused.len()), (0, over));
    }
}

/// A user id with a phone below it that has sent something, and this many cards.
fn with_phone(cards: u16) -> (World, NodeRef, NodeRef) {
    let mut world = World::default();
    let (user, phone) = (id(UserId, 1), id(Phone, 1));
    world.event(std::slice::from_ref(&phone));
    world.event(&[user.clone(), phone.clone()]);
    world.settle();
    for n in 0..cards {
        world.event(&[user.clone(), custom("card", n)]);
        world.settle();
    }
    assert_eq!(world.root(&phone), world.root(&user));
    (world, user, phone)
}

#[test]
fn a_phone_finds_no_room_for_what_is_too_much_for_its_person() {
    let (mut world, user, phone) = with_phone(5);
    let sixth = custom("card", 5);
    for to in 1..=3 {
        // Also where the card has acted before, and where it is shown with one of another name.
        world.event(&[phone.clone(), sixth.clone(), custom("crm", to)]);
        world.settle();
        world.event(std::slice::from_ref(&sixth));
    }
    assert_eq!((cards(&world, &user), &world.refused[..]), (5, &[Refusal::IdentityLimit][..]));
    assert_eq!((world.root(&sixth).class, world.components(&[user, phone.clone(), custom("crm", 3)])), (Custom, 1));
    let of_phone = |(profile, item): &&(Bytes, SegmentItem)| item.node == profile && profile[1..17] == phone.hash[..];
    assert_eq!(world.items.iter().filter(of_phone).count(), 4, "what came with it counts for the phone");
}

#[test]
fn a_card_shown_with_a_phone_joins_the_person_above_it() {
    for (had, shown) in [(0, 1), (4, 1), (2, 3), (3, 3), (4, 5)] {
        let (mut world, user, phone) = with_phone(had);
        let mut identifiers = vec![phone.clone()];
        identifiers.extend((0..shown).map(|n| custom("card", 10 + n)));
        world.event(&identifiers);
        world.settle();
        assert_eq!(cards(&world, &user), u32::from(had + shown).min(5), "{shown} beside {had}");
        assert_eq!(world.refused.len(), usize::from((had + shown).saturating_sub(5)));
        assert_eq!(world.components(&[user.clone(), phone.clone(), custom("card", 10)]), 1);
        assert_eq!(nodes::stored(&world.states[&custom("card", 10).hash].generations[0].parent).unwrap(), world.root(&user));
        // Once for all, and hers already is hers.
        world.event(&identifiers);
        assert_eq!(world.links.len(), 0);
        world.event(&[id(Phone, 1), custom("card", 0)]);
        world.settle();
        assert_eq!(world.refused.len(), usize::from((had + shown).saturating_sub(5)));
    }
}

#[test]
fn a_card_that_is_somebodys_brings_her_along_to_the_person_above_a_phone() {
    for (theirs, root) in [(id(Email, 2), UserId), (id(UserId, 2), UserId)] {
        let (mut world, user, phone) = with_phone(1);
        let card = custom("card", 10);
        world.event(&[theirs.clone(), card.clone()]);
        world.settle();
        world.event(&[phone, card]);
        world.settle();
        let refused: &[Refusal] = if theirs.class == UserId.number() { &[Refusal::TwoUserIds] } else { &[] };
        assert_eq!((world.root(&theirs).class, &world.refused[..]), (root, refused));
        assert_eq!(world.components(&[user, theirs]), 1 + refused.len());
    }
}

#[test]
fn a_card_below_another_is_shown_with_a_third_and_with_its_own_root() {
    let mut world = World::default();
    let mut by_rank: Vec<NodeRef> = (0..3).map(|n| custom("card", n)).collect();
    by_rank.sort_by(|a, b| a.hash.cmp(&b.hash));
    let [first, second, third] = &by_rank[..] else { panic!("three") };
    world.event(&[third.clone(), second.clone()]);
    world.settle();
    assert_eq!(world.root(third), world.root(second));
    // The one above is not known to the one below as of now, and then there is one that is above both.
    world.states.get_mut(&third.hash).unwrap().generations[0].known.clear();
    world.event(&[third.clone(), second.clone(), first.clone()]);
    world.settle();
    assert_eq!((world.components(&by_rank), cards(&world, first), world.refused.len()), (1, 3, 0));
    assert_eq!(world.root(third), nodes::stored(&world.states[&first.hash].generations[0].id).unwrap());
    // A new life of the root is somebody else, until it is shown with the old one's.
    let here = world.here();
    assert_eq!(detach(world.states.get_mut(&first.hash).unwrap(), &here, &Detach { node: Some(first.clone()) }), Ok(Vec::new()));
    assert_ne!(world.root(third), world.root(first));
    world.states.get_mut(&third.hash).unwrap().generations[0].known.clear();
    world.event(&[third.clone(), first.clone()]);
    world.settle();
    assert_eq!(world.root(third), world.root(first));
}

#[test]
fn people_with_too_many_custom_identifiers_of_a_name_stay_apart() {
    for (theirs, people) in [(2, 1), (3, 2)] {
        let mut world = World::default();
        let (user, email) = (id(UserId, 1), id(Email, 1));
        for n in 0..3 {
            world.event(&[user.clone(), custom("card", n)]);
        }
        for n in 10..10 + theirs {
            world.event(&[email.clone(), custom("card", n)]);
            world.event(&[email.clone(), custom("crm", n)]);
        }
        world.settle();
        world.event(&[user.clone(), email.clone()]);
        world.settle();
        assert_eq!(world.components(&[user.clone(), email, custom("card", 10), custom("crm", 10)]), people, "3 and {theirs}");
        assert_eq!(world.refused.len(), people - 1);
        assert_eq!(world.items.last().unwrap().0, world.root(&user).to_bytes()[..], "the event counts where it came in");
        let cards = &world.states[&user.hash].generations[0].custom_counts[0];
        assert_eq!((cards.name.as_str(), cards.count), ("card", if people == 1 { 5 } else { 3 }));
    }
}

#[test]
fn custom_identifiers_link_to_each_other_and_count_under_all_together() {
    let mut world = World::default();
    world.event(&[custom("card", 1), custom("crm", 1)]);
    world.settle();
    assert_eq!(world.components(&[custom("card", 1), custom("crm", 1)]), 1);

    let user = id(UserId, 1);
    let mut others: Vec<NodeRef> = (0..100).map(|n| id(Anonymous, n)).chain((0..20).map(|n| id(Device, n))).collect();
    others.extend((0..3).flat_map(|n| [id(Email, n), id(Phone, n)]));
    others.extend((0..15).flat_map(|name| (0..5).map(move |n| custom(&format!("name_{name}"), 100 + n))));
    assert_eq!(1 + others.len(), 202);
    for other in others {
        world.event(&[user.clone(), other]);
        world.settle();
    }
    let root = &world.states[&user.hash].generations[0];
    assert_eq!((root.size, root.counts[5], root.custom_counts.len()), (200, 73, 15));
}

#[test]
fn a_new_life_of_a_custom_identifier_counts_under_its_name() {
    let mut world = World::default();
    let (email, card) = (id(Email, 1), custom("card", 1));
    world.event(&[email, card.clone()]);
    world.settle();
    let here = world.here();
    // Whoever asks for it names class and hash alone.
    let asked = NodeRef { custom: String::new(), ..card.clone() };
    let state = world.states.get_mut(&card.hash).unwrap();
    assert_eq!(detach(state, &here, &Detach { node: Some(asked) }), Ok(Vec::new()));
    assert_eq!((state.custom.as_str(), state.generations.len()), ("card", 2));
    assert_eq!(state.generations[1].custom_counts, [NamedCount { name: "card".to_owned(), count: 1 }]);
    world.event(&[id(Email, 2), card.clone()]);
    world.settle();
    assert_eq!(world.root(&card), world.root(&id(Email, 2)));
    // And after its person was erased.
    let first = world.states[&card.hash].generations[1].id.clone();
    erase_node(world.states.get_mut(&card.hash).unwrap(), &EraseNode { node: first }).unwrap();
    world.event(std::slice::from_ref(&card));
    assert_eq!(world.states[&card.hash].generations[2].custom_counts[0].name, "card");
}

#[test]
fn a_custom_identifier_that_two_user_ids_claim_stays_with_the_first() {
    let mut world = World::default();
    let (one, two, card) = (id(UserId, 1), id(UserId, 2), custom("card", 1));
    world.event(&[one.clone(), card.clone()]);
    world.settle();
    world.event(&[two, card.clone()]);
    world.settle();
    assert_eq!((world.root(&card), &world.refused[..]), (world.root(&one), &[Refusal::TwoUserIds][..]));
}

#[test]
fn links_settle_alike_in_every_order() {
    let identifiers = [id(UserId, 1), id(Email, 1), id(Email, 2), id(Device, 1), id(Anonymous, 1)];
    let pairs = [(0, 1), (1, 3), (2, 3), (3, 4)];
    for rotation in 0..pairs.len() {
        let mut world = World::default();
        for n in 0..pairs.len() {
            let (a, b) = pairs[(n + rotation) % pairs.len()];
            world.event(&[identifiers[a].clone(), identifiers[b].clone()]);
        }
        world.settle();
        assert_eq!(world.components(&identifiers), 1, "rotation {rotation}");
        assert_eq!(world.root(&identifiers[4]).class, UserId);
        assert_eq!(world.merges.len(), 4);
    }
}

#[test]
fn receipts_and_callbacks_follow_the_route_of_the_life_they_name() {
    let mut world = World::default();
    let email = id(Email, 1);
    world.event(std::slice::from_ref(&email));
    let profile = world.items[0].0.clone();
    let here = world.here();
    let state = world.states.get_mut(&email.hash).unwrap();
    let effects = receipt(state, &here, &Receipt { profile: profile.clone(), ..Receipt::default() }).unwrap();
    assert!(matches!(&effects[..], [Effect::Item { profile: to, .. }] if *to == profile));
    let callback = IdentityEvent {
        identifiers: vec![nodes::reference(&nodes::stored(&state.generations[0].id).unwrap())],
        event: Bytes::new(),
        by_profile: true,
    };
    assert!(matches!(&event(state, &here, &callback).unwrap()[..], [Effect::Item { profile: to, .. }] if *to == profile));
    let stranger = Receipt { profile: Bytes::from_static(&[2; 31]), ..Receipt::default() };
    assert_eq!(receipt(state, &here, &stranger), Err(IdentityError::UnknownNode));
}

#[test]
fn a_stop_for_a_life_that_is_over_reaches_the_next_one_or_is_refused() {
    let mut world = World::default();
    let email = id(Email, 1);
    world.event(std::slice::from_ref(&email));
    let first = world.items[0].0.clone();
    let link = |name: &str| IdentityEvent {
        identifiers: vec![nodes::reference(&nodes::stored(&first).unwrap())],
        event: Event { name: name.to_owned(), ..Event::default() }.encode_to_vec().into(),
        by_profile: true,
    };
    let here = world.here();
    let state = world.states.get_mut(&email.hash).unwrap();
    erase_node(state, &EraseNode { node: first.clone() }).unwrap();
    let before = state.clone();
    assert_eq!(event(state, &here, &link("Unsubscribed")), Err(IdentityError::GoneNode), "nobody is left: somebody must hear of it");
    assert_eq!(*state, before, "no trace of it, so that it may be put back");
    assert_eq!(event(state, &here, &link("Message Opened")), Ok(Vec::new()), "what stops nothing falls");

    world.event(std::slice::from_ref(&email));
    let second = world.items.last().unwrap().0.clone();
    assert_ne!(second, first);
    let here = world.here();
    let state = world.states.get_mut(&email.hash).unwrap();
    let effects = event(state, &here, &link("Unsubscribed")).unwrap();
    assert!(matches!(&effects[..], [Effect::Item { profile, .. }] if *profile == second), "{effects:?}");
    assert_eq!(event(state, &here, &link("Message Opened")), Ok(Vec::new()), "was not theirs");
    // The first life is so long ago that it was forgotten.
    state.generations.remove(0);
    let again = Here { record: [99; 16], ..here };
    let effects = event(state, &again, &link("Unsubscribed")).unwrap();
    assert!(matches!(&effects[..], [Effect::Item { profile, .. }] if *profile == second), "{effects:?}");
}

#[test]
fn garbage_is_an_error() {
    let mut state = IdentifierState::default();
    let here = World::default().here();
    let bad = NodeRef { class: 99, ..id(Email, 1) };
    let short = NodeRef { hash: Bytes::from_static(b"x"), ..id(Email, 1) };
    let nameless = NodeRef { custom: String::new(), ..id(Custom, 1) };
    let named = NodeRef { custom: "card".to_owned(), ..id(Email, 1) };
    for identifiers in [vec![], vec![bad], vec![short], vec![nameless], vec![named]] {
        let body = IdentityEvent { identifiers, event: Bytes::new(), by_profile: false };
        assert!(event(&mut state, &here, &body).is_err());
    }
    assert!(link(&mut state, &here, &Link::default()).is_err());
    for (a, b) in [(id(Email, 1), id(Email, 2)), (id(Custom, 1), id(Email, 2))] {
        let lifeless = Link { a: Some(a), b: Some(b), ..Link::default() };
        assert!(link(&mut state, &here, &lifeless).is_err());
    }
    assert_eq!(state, IdentifierState::default());
}

#[test]
fn a_command_about_runs_that_is_sent_again_is_done_once() {
    let (mut world, who) = (World::default(), id(UserId, 1));
    world.event(std::slice::from_ref(&who));
    let start = run_command::What::Start(StartRun { journey: "cart".to_owned(), key: "k1".to_owned() });
    let command = RunCommand { node: Some(who.clone()), what: Some(start) };
    let state = world.states.get_mut(&who.hash).unwrap();
    let first = here(9);
    let follow = |state: &mut IdentifierState, here: &Here| run_command(state, here, &command).unwrap().len();
    assert_eq!(follow(state, &first), 1);
    // What it began may have ended by now: the repeat does not get as far as to the runs.
    let later =
        |days| Here { now: first.now.plus(waypost_types::Span::from_days(days)), record: first.record, ..here(10 + days.unsigned_abs()) };
    let before = state.clone();
    assert_eq!(follow(state, &later(6)), 0);
    assert_eq!(*state, before);
    assert_eq!(follow(state, &here(12)), 1, "another record is another request");
    assert_eq!(follow(state, &later(7)), 1, "no longer known");
    assert_eq!(follow(&mut IdentifierState::default(), &first), 0, "nobody is called that");
}
