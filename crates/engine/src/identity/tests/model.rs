//! Identity before the two stages it feeds, on perfect channels: everything arrives once, in order of its
//! channel, and otherwise in any order. The stages are PROTOCOL §10.2 in its plainest form: a profile is
//! nothing but how many events of each node it has folded.

#![expect(clippy::wildcard_enum_match_arm, reason = "a stage names what it takes; all else is wrong")]

use waypost_codec::inbox::{Detach, EraseNode, Flush, Flushed, MergeDone};

use super::*;

/// Stage (0 identity, 1 segmenter, 2 orchestrator) and partition.
type Place = (u8, u8);
type Nodes = BTreeSet<Bytes>;
type Counts = BTreeMap<Bytes, usize>;

#[derive(Clone, Debug)]
enum Message {
    // To identity.
    Event(IdentityEvent, u32),
    Link(Link),
    Shared(Shared),
    Done(MergeDone),
    Flushed(Flushed),
    EraseNode(EraseNode),
    Erase(Erase),
    Detach(Detach),
    // Along the road; what met a tombstone says so.
    Item { item: SegmentItem, passed: bool },
    Flush(Flush),
    Begin { begin: MergeBegin, segment: Counts },
    State { loser: Bytes, ids: Nodes, segment: Counts, journey: Counts },
    Bury,
    // Segmenter to orchestrator only.
    Pass(Box<Message>),
    Erased { ids: Nodes, losers: Nodes },
    Gone(Nodes),
}
use Message as M;

#[derive(Clone, Debug, Default)]
struct Profile {
    moved_to: Option<Bytes>,
    erased: bool,
    events: Counts,
    ids: Nodes,
    losers: Nodes,
    draining: Nodes,
}

struct Model {
    chance: u64,
    partitions: u8,
    /// A channel out of here moves seldom.
    starved: Option<Place>,
    limits: Limits,
    rules: Rules,
    offset: u64,
    states: BTreeMap<Bytes, IdentifierState>,
    /// Of both stages.
    profiles: [BTreeMap<Bytes, Profile>; 2],
    channels: BTreeMap<(Place, Place), VecDeque<(Bytes, Message)>>,
    /// Events of each node, in order.
    order: BTreeMap<Bytes, Vec<u32>>,
    /// What was said of which identifier (hash): its class, and its name where it is a custom one.
    names: BTreeMap<Bytes, (u8, String)>,
    /// Which were named together.
    together: Vec<(Bytes, Bytes)>,
    merges: usize,
    /// People in parts, because together they would have too many identifiers of a name.
    limited: usize,
    /// Nothing is said before everything of what was said is done, so that no limit is passed by what is in flight.
    calm: bool,
}

type Wrong = String;

impl Model {
    fn new(seed: u64, rules: Rules) -> Self {
        let mut model = Self {
            chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            partitions: 1,
            starved: None,
            limits: Limits::default(),
            rules,
            offset: 0,
            states: BTreeMap::new(),
            profiles: [BTreeMap::new(), BTreeMap::new()],
            channels: BTreeMap::new(),
            order: BTreeMap::new(),
            names: BTreeMap::new(),
            together: Vec::new(),
            merges: 0,
            limited: 0,
            calm: seed.is_multiple_of(4),
        };
        model.partitions = 1 + u8::try_from(model.below(3)).unwrap();
        let starved = (u8::try_from(model.below(6)).unwrap(), u8::try_from(model.below(3)).unwrap());
        model.starved = Some(starved).filter(|(stage, _)| *stage < 3);
        model.limits.held_items = [1, 2, 3, 1_000][model.below(4)];
        model.limits.by_class[5] = [1, 5][model.below(2)];
        model
    }

    fn below(&mut self, n: usize) -> usize {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        usize::try_from(self.chance % n as u64).unwrap()
    }

    fn place(&self, stage: u8, key: &[u8]) -> Place {
        // A profile's id begins with its class, and its hash follows.
        let hash = if stage == 0 { key } else { &key[1..17] };
        (stage, hash.iter().fold(stage, |sum, b| sum.wrapping_mul(31).wrapping_add(*b)) % self.partitions)
    }

    fn send(&mut self, from: Place, stage: u8, key: &Bytes, message: Message) {
        // The segmenter writes to the orchestrator's partition of its own number.
        let to = if stage == 2 { (2, from.1) } else { self.place(stage, key) };
        self.channels.entry((from, to)).or_default().push_back((key.clone(), message));
    }

    fn tell_node(&mut self, from: Place, node: &Bytes, message: Message) {
        self.send(from, 0, &node.slice(1..17), message);
    }

    /// The most custom identifiers of one name that anybody has.
    fn most_cards(&self) -> u32 {
        let nodes = self.states.values().flat_map(|state| &state.generations).filter(|node| !node.gone && nodes::is_root(node));
        nodes.flat_map(|node| &node.custom_counts).map(|named| named.count).max().unwrap_or(0)
    }

    /// A door says something. Whether it names a custom identifier beside another.
    fn say(&mut self, number: u32, storms: bool) -> bool {
        const CLASSES: [IdentifierClass; 7] = [Anonymous, Anonymous, Device, Email, Email, UserId, UserId];
        const CUSTOM: [&str; 3] = ["card", "card", "crm"];
        let mut pick = || {
            let n = self.below(CLASSES.len() + CUSTOM.len());
            let number = u16::try_from(n).unwrap();
            CLASSES.get(n).map_or_else(|| custom(CUSTOM[n - CLASSES.len()], number), |class| id(*class, number))
        };
        let (a, b) = (pick(), pick());
        for named in [&a, &b] {
            self.names.insert(named.hash.clone(), (u8::try_from(named.class).unwrap(), named.custom.clone()));
        }
        let door = (3, 0);
        let mut beside_card = false;
        let (key, message) = match self.below(if storms { 12 } else { 10 }) {
            0..=4 => (a.hash.clone(), M::Event(IdentityEvent { identifiers: vec![a], ..IdentityEvent::default() }, number)),
            5..=9 => {
                self.together.push((a.hash.clone(), b.hash.clone()));
                let mut both = vec![a, b];
                both.sort_by_key(|node| node.class);
                beside_card = !both[1].custom.is_empty();
                (both[0].hash.clone(), M::Event(IdentityEvent { identifiers: both, ..IdentityEvent::default() }, number))
            }
            10 => (a.hash.clone(), M::Detach(Detach { node: Some(a) })),
            _ => (a.hash.clone(), M::Erase(Erase { node: Some(a), suppress: true })),
        };
        self.send(door, 0, &key, message);
        beside_card
    }

    /// Delivers the next message of some channel; false where there is none.
    fn deliver(&mut self) -> Result<bool, Wrong> {
        let mut waiting: Vec<_> = self.channels.iter().filter(|(_, queue)| !queue.is_empty()).map(|(channel, _)| *channel).collect();
        let starved = self.starved;
        if waiting.iter().any(|channel| starved != Some(channel.0)) && self.below(16) > 0 {
            waiting.retain(|channel| starved != Some(channel.0));
        }
        if waiting.is_empty() {
            return Ok(false);
        }
        let channel = waiting[self.below(waiting.len())];
        let Some((key, message)) = self.channels.get_mut(&channel).and_then(VecDeque::pop_front) else { return Ok(false) };
        match channel.1.0 {
            0 => self.identity(channel.1, &key, message),
            1 => self.segmenter(channel.1, &key, message),
            _ => self.orchestrator(channel.1, &key, message),
        }?;
        self.what_is_held_is_waited_for().map(|()| true)
    }

    fn identity(&mut self, place: Place, key: &Bytes, message: Message) -> Result<(), Wrong> {
        self.offset += 1;
        let here = Here { limits: self.limits, rules: self.rules, ..here(self.offset) };
        let state = self.states.entry(key.clone()).or_default();
        let effects = match message {
            M::Event(mut body, number) => {
                body.event = Bytes::copy_from_slice(&number.to_be_bytes());
                let effects = event(state, &here, &body);
                let node = state.generations.last().unwrap().id.clone();
                self.order.entry(node).or_default().push(number);
                effects
            }
            M::Link(body) => link(state, &here, &body),
            M::Shared(body) => shared(state, &here, &body),
            M::Done(body) => merge_done(state, &here, &body),
            M::Flushed(body) => flushed(state, &here, &body),
            M::EraseNode(body) => erase_node(state, &body),
            M::Erase(body) => erase(state, &here, &body),
            M::Detach(body) => detach(state, &here, &body),
            other => return Err(format!("{other:?} at identity")),
        };
        self.put_out(place, effects.map_err(|e| e.to_string())?);
        Ok(())
    }

    /// While something of a node is held, whoever has what it sent before waits for it.
    fn what_is_held_is_waited_for(&self) -> Result<(), Wrong> {
        let held = self.states.values().flat_map(|state| &state.held).map(|held| &held.node);
        let live = |profile: &&Profile| !profile.erased && profile.moved_to.is_none();
        let mut waiting = held.flat_map(|node| self.profiles.iter().flat_map(|p| p.values()).filter(live).map(move |p| (node, p)));
        match waiting.find(|(node, profile)| profile.events.contains_key(*node) && !profile.draining.contains(*node)) {
            Some(_) => Err("something is held that nobody waits for".to_owned()),
            None => Ok(()),
        }
    }

    fn put_out(&mut self, place: Place, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Item { profile, item, .. } => self.send(place, 1, &profile, M::Item { item, passed: false }),
                Effect::Link { to, link } => self.send(place, 0, &to, M::Link(link)),
                Effect::Share { to, shared } => self.send(place, 0, &to, M::Shared(shared)),
                Effect::MergeBegin(begin) => {
                    self.merges += 1;
                    self.send(place, 1, &begin.loser.clone(), M::Begin { begin, segment: Counts::new() });
                }
                Effect::Flush(flush) => self.send(place, 1, &flush.profile.clone(), M::Flush(flush)),
                Effect::Refused(_) => {}
            }
        }
    }

    /// An event is folded in a state that holds exactly those of its node before it.
    fn fold(&mut self, stage: usize, x: &Bytes, item: &SegmentItem, passed: bool) -> Result<(), Wrong> {
        let settled = matches!(item.body, Some(Body::Settled(_))) && !passed;
        if settled && self.on_a_detour(x, &item.node) {
            return Err(format!("stage {stage} waits no longer for a node that has an event on a detour"));
        }
        let profile = self.profiles[stage].entry(x.clone()).or_default();
        profile.ids.insert(item.node.clone());
        match &item.body {
            Some(Body::Event(number)) => {
                let number = u32::from_be_bytes((&number[..]).try_into().unwrap());
                let before = profile.events.entry(item.node.clone()).or_default();
                let expected = self.order[&item.node].get(*before);
                if expected != Some(&number) {
                    return Err(format!("stage {stage} folds event {number} where {expected:?} is next"));
                }
                *before += 1;
            }
            Some(Body::Settled(_)) if settled => drop(profile.draining.remove(&item.node)),
            _ => {}
        }
        Ok(())
    }

    /// Whether an event of the node is under way otherwise than straight to this profile. What waits to be passed on
    /// at the profile's own second stage is behind its state, which moves before it.
    fn on_a_detour(&self, x: &Bytes, node: &Bytes) -> bool {
        let of_node = |item: &SegmentItem| item.node == *node && matches!(item.body, Some(Body::Event(_)));
        self.channels.values().flatten().any(|(key, message)| match message {
            M::Item { item, passed } => of_node(item) && (*passed || key != x),
            M::Pass(inner) => matches!(&**inner, M::Item { item, .. } if of_node(item)) && key != x,
            _ => false,
        })
    }

    fn segmenter(&mut self, place: Place, x: &Bytes, message: Message) -> Result<(), Wrong> {
        let profile = self.profiles[0].get(x).cloned();
        let is_new = profile.is_none();
        let profile = profile.unwrap_or_default();
        if let M::Bury = message {
            let profile = Profile { erased: true, ..Profile::default() };
            self.profiles[0].insert(x.clone(), profile);
            return Ok(());
        }
        if profile.erased {
            let nodes = match message {
                M::Item { item, .. } => Nodes::from([item.node]),
                M::Flush(flush) => Nodes::from([flush.node]),
                M::Begin { begin, .. } => Nodes::from([begin.node]),
                M::State { ids, .. } => ids,
                other => return Err(format!("{other:?} at an erased profile")),
            };
            self.send(place, 2, x, M::Gone(nodes));
            return Ok(());
        }
        if profile.moved_to.is_some() {
            if let M::Begin { .. } = message {
                return Err("moves twice".to_owned());
            }
            self.send(place, 2, x, M::Pass(Box::new(message)));
            return Ok(());
        }
        match message {
            M::Item { item, .. } if is_new && !item.first => return Err("an item of a profile that is gone".to_owned()),
            M::Begin { begin, .. } if is_new && !begin.first => return Err("a profile that is gone moves".to_owned()),
            M::Flush(_) if is_new => return Err("a flush of a profile that is gone".to_owned()),
            M::Item { item, .. } if matches!(item.body, Some(Body::Erase(_))) => {
                let mut ids = profile.ids;
                // The founder too, which may never have sent an item itself.
                ids.extend([item.node, x.clone()]);
                self.send(place, 2, x, M::Erased { ids, losers: profile.losers });
                self.profiles[0].insert(x.clone(), Profile { erased: true, ..Profile::default() });
            }
            M::Item { item, passed } => {
                self.fold(0, x, &item, passed)?;
                self.send(place, 2, x, M::Item { item, passed });
            }
            M::Flush(flush) => {
                self.profiles[0].entry(x.clone()).or_default();
                self.send(place, 2, x, M::Flush(flush));
            }
            M::Begin { begin, .. } => {
                let moved = Profile { moved_to: Some(begin.winner.clone()), ..Profile::default() };
                self.profiles[0].insert(x.clone(), moved);
                self.send(place, 2, x, M::Begin { begin, segment: profile.events });
            }
            M::State { loser, ids, segment, journey } => {
                import(self.profiles[0].entry(x.clone()).or_default(), &loser, &ids, segment);
                self.send(place, 2, x, M::State { loser, ids, segment: Counts::new(), journey });
            }
            other => return Err(format!("{other:?} at the segmenter")),
        }
        Ok(())
    }

    fn orchestrator(&mut self, place: Place, x: &Bytes, message: Message) -> Result<(), Wrong> {
        match message {
            M::Item { item, passed } => {
                self.fold(1, x, &item, passed)?;
                if passed {
                    self.tell_node(place, &item.node, M::Done(MergeDone { node: item.node.clone(), at: x.clone() }));
                }
            }
            M::Flush(flush) => {
                self.profiles[1].entry(x.clone()).or_default();
                let flushed = Flushed { node: flush.node.clone(), at: x.clone(), flush_no: flush.flush_no };
                self.tell_node(place, &flush.node, M::Flushed(flushed));
            }
            M::Begin { begin, segment } => {
                let moved = Profile { moved_to: Some(begin.winner.clone()), ..Profile::default() };
                let mut profile = self.profiles[1].insert(x.clone(), moved).unwrap_or_default();
                profile.ids.insert(begin.node);
                let state = M::State { loser: x.clone(), ids: profile.ids, segment, journey: profile.events };
                self.send(place, 1, &begin.winner, state);
            }
            M::State { loser, ids, journey, .. } => {
                import(self.profiles[1].entry(x.clone()).or_default(), &loser, &ids, journey);
                for node in ids {
                    self.tell_node(place, &node, M::Done(MergeDone { node: node.clone(), at: x.clone() }));
                }
            }
            M::Pass(inner) => {
                let to = self.profiles[1].get(x).and_then(|profile| profile.moved_to.clone());
                let to = to.ok_or("passed on by a profile that has not moved")?;
                let inner = if let M::Item { item, .. } = *inner { M::Item { item, passed: true } } else { *inner };
                self.send(place, 1, &to, inner);
            }
            M::Erased { ids, losers } => {
                self.profiles[1].insert(x.clone(), Profile { erased: true, ..Profile::default() });
                for loser in losers {
                    self.send(place, 1, &loser, M::Bury);
                }
                self.erase_nodes(place, ids);
            }
            M::Gone(nodes) => self.erase_nodes(place, nodes),
            other => return Err(format!("{other:?} at the orchestrator")),
        }
        Ok(())
    }

    fn erase_nodes(&mut self, place: Place, nodes: Nodes) {
        for node in nodes {
            self.tell_node(place, &node, M::EraseNode(EraseNode { node: node.clone() }));
        }
    }

    /// Where items to this profile end.
    fn end(&self, stage: usize, from: &Bytes) -> Bytes {
        let mut at = from.clone();
        while let Some(next) = self.profiles[stage].get(&at).and_then(|profile| profile.moved_to.clone()) {
            at = next;
        }
        at
    }

    fn at_rest(&mut self) -> Result<(), Wrong> {
        for state in self.states.values() {
            if !state.held.is_empty() {
                return Err("items are held at rest".to_owned());
            }
            for node in state.generations.iter().filter(|node| !node.gone) {
                if node.holding {
                    return Err("a node holds at rest".to_owned());
                }
                let sent = self.order.get(&node.id).map_or(0, Vec::len);
                for stage in 0..2 {
                    let end = self.end(stage, &node.route);
                    let folded = self.profiles[stage].get(&end).and_then(|profile| profile.events.get(&node.id)).copied().unwrap_or(0);
                    if folded != sent {
                        return Err(format!("stage {stage} has folded {folded} of {sent} events of a node"));
                    }
                    if node.parent != node.id && self.end(stage, &node.parent) != end {
                        return Err("a node and its parent are two people".to_owned());
                    }
                }
            }
        }
        let draining = self.profiles.iter().flatten().any(|(_, profile)| !profile.erased && !profile.draining.is_empty());
        if draining { Err("a profile drains at rest".to_owned()) } else { self.limits_are_kept() }
    }

    /// Whoever is whole knows how many identifiers of each class and name there are, and only a limit keeps people
    /// apart whom the events have named together. Counted anew, from what was said.
    fn limits_are_kept(&mut self) -> Result<(), Wrong> {
        let nodes: BTreeMap<Bytes, &waypost_codec::state::Node> =
            self.states.values().flat_map(|state| &state.generations).map(|node| (node.id.clone(), node)).collect();
        let mut people: BTreeMap<Bytes, Vec<Bytes>> = BTreeMap::new();
        for id in nodes.keys() {
            let mut root = id.clone();
            while nodes[&root].parent != root {
                root = nodes[&root].parent.clone();
            }
            people.entry(root).or_default().push(id.clone());
        }
        let named = |hash: &Bytes| self.names[hash].clone();
        for (root, members) in people.iter().filter(|(_, members)| members.iter().all(|id| !nodes[id].gone)) {
            let mut expected: BTreeMap<(u8, String), u32> = BTreeMap::new();
            for id in members {
                *expected.entry(named(&id.slice(1..17))).or_default() += 1;
            }
            let (mut found, root) = (BTreeMap::new(), nodes[root]);
            for (class, count) in (1..).zip(&root.counts).filter(|(class, count)| *class < 6 && **count > 0) {
                found.insert((class, String::new()), *count);
            }
            found.extend(root.custom_counts.iter().map(|named| ((6, named.name.clone()), named.count)));
            if found != expected || root.counts.iter().sum::<u32>() != root.size || root.size as usize != members.len() {
                return Err(format!("a root counts {found:?}, and has {expected:?}"));
            }
        }
        // Who was named together, by the events alone.
        let mut groups: BTreeMap<Bytes, BTreeSet<Bytes>> = self.names.keys().map(|hash| (hash.clone(), [hash.clone()].into())).collect();
        for (a, b) in &self.together {
            let union: BTreeSet<Bytes> = &groups[a] | &groups[b];
            for member in &union {
                groups.insert(member.clone(), union.clone());
            }
        }
        let mut limited = 0;
        for group in groups.into_values().collect::<BTreeSet<_>>() {
            let lives = |hash: &Bytes| self.states.get(hash).map_or(&[][..], |state| &state.generations);
            let whole = group.iter().all(|hash| matches!(lives(hash), [node] if !node.gone && !node.shared));
            let of = |class, name: &str| group.iter().filter(|hash| named(hash) == (class, name.to_owned())).count();
            if !whole || of(1, "") > 1 {
                continue;
            }
            let roots = people.values().filter(|members| members.iter().any(|id| group.contains(&id.slice(1..17)))).count();
            let most = self.limits.by_class[5] as usize;
            match (roots, of(6, "card") <= most && of(6, "crm") <= most) {
                (1, _) => {}
                (_, true) => return Err(format!("identifiers that were named together are {roots} people")),
                (_, false) => limited += 1,
            }
        }
        self.limited += limited;
        Ok(())
    }

    /// How many merges there were, and how many people in parts by a limit.
    fn run(mut self, events: u32) -> Result<(usize, usize), Wrong> {
        let storms = self.below(2) == 0;
        for number in 1..=events {
            let cards = self.most_cards();
            let beside_card = self.say(number, storms);
            if self.calm {
                while self.deliver()? {}
                let most = self.limits.by_class[5].max(cards);
                if beside_card && self.most_cards() > most {
                    return Err(format!("somebody got more than {most} of a name by showing one, with nothing under way"));
                }
            }
            for _ in 0..self.below(12) {
                self.deliver()?;
            }
            if self.below(40) == 0 {
                let late: Vec<Bytes> = self.states.keys().cloned().collect();
                for key in late {
                    let here = Here { limits: self.limits, rules: self.rules, ..here(self.offset) };
                    let effects = self.states.get_mut(&key).map(|state| expire_hold(state, &here)).unwrap_or_default();
                    self.put_out(self.place(0, &key), effects);
                }
            }
        }
        while self.deliver()? {}
        self.at_rest()?;
        Ok((self.merges, self.limited))
    }
}

fn import(profile: &mut Profile, loser: &Bytes, ids: &Nodes, events: Counts) {
    for (node, count) in events {
        let known = profile.events.entry(node).or_default();
        *known = count.max(*known);
    }
    profile.ids.extend(ids.iter().cloned());
    profile.draining.extend(ids.iter().cloned());
    profile.losers.insert(loser.clone());
}

/// The first seed that goes wrong, and how many merges and people in parts by a limit there were before it.
fn first_wrong(seeds: std::ops::Range<u64>, rules: Rules) -> (Option<(u64, Wrong)>, usize, usize) {
    let (mut merges, mut limited) = (0, 0);
    for seed in seeds {
        match Model::new(seed, rules).run(40) {
            Ok(some) => (merges, limited) = (merges + some.0, limited + some.1),
            Err(why) => return (Some((seed, why)), merges, limited),
        }
    }
    (None, merges, limited)
}

/// A late word of where a person was before turned a route around.
const ONCE_WRONG: u64 = 16_153;

#[test]
fn every_event_is_folded_in_the_state_of_those_before_it() {
    assert_eq!(first_wrong(ONCE_WRONG..ONCE_WRONG + 1, Rules::default()).0, None);
    let seeds = option_env!("WAYPOST_WORLDS").and_then(|n| n.parse().ok()).unwrap_or(2_000);
    let (wrong, merges, limited) = first_wrong(0..seeds, Rules::default());
    assert_eq!(wrong, None);
    assert!(merges > 1_000, "{merges} merges are not enough to show anything");
    assert!(limited > 10, "{limited} people in parts by a limit are not enough to show anything");
}

#[test]
fn without_flush_or_hold_some_world_goes_wrong() {
    for rules in [Rules { flush: false, ..Rules::default() }, Rules { hold: false, ..Rules::default() }] {
        let (wrong, ..) = first_wrong(0..2_000, rules);
        assert!(wrong.is_some(), "{rules:?}");
    }
}
