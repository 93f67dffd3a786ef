//! Who works in a world: processes, and which partitions they own.

use std::sync::Arc;

use waypost_codec::unsubscribe::TokenKey;
use waypost_runtime::{Config, Input};
use waypost_sender::{Calls, Links, Provider};
use waypost_types::{Role, Span};

use super::{START, World};
use crate::process::{Life, Process, machine};

// === impl World ===

impl World {
    pub(super) fn found(&mut self) {
        let layout = self.layout;
        self.story.tell(START, || format!("V = {}; {}", layout.partitions, self.dice.describe()));
        for role in Role::KEYED {
            for _ in 0..[1, 1, 1, 2, 2, 3, 4][self.chance.index(7)] {
                self.hire(role);
            }
            for index in 0..layout.partitions {
                self.assign_anew(role, index);
            }
        }
    }

    /// A new process of this role, with limits of its own: none of these may change what is folded.
    pub(crate) fn hire(&mut self, role: Role) -> usize {
        let is_old = self.old.as_mut().is_some_and(|old| old.hires(role));
        let chance = &mut self.chance;
        let config = Config {
            engines: if is_old { 1..=1 } else { self.config.engines.clone() },
            batch_records: chance.small(4),
            batch_late: if self.processes_so_far.is_multiple_of(3) { 4 } else { 1 },
            frame_records: chance.small(6),
            frames_in_flight: chance.small(4),
            cache_entities: chance.index(6),
            commit_entities: chance.small(8),
            uncommitted_records: 4 + chance.index(60),
            timer_page: chance.small(3),
            timer_horizon: Span::from_millis(chance.within(2_000, 60_000)),
            commit_interval: Span::from_millis(chance.within(0, 400)),
            linger: Span::from_millis(chance.within(-3, 3).max(0)),
            linger_late: Span::from_millis(if self.processes_so_far.is_multiple_of(2) { 50 } else { 0 }),
            tick_lost: Span::from_secs(10),
            silence: Span::from_secs(5),
            ..self.config.clone()
        };
        let skew = self
            .skews
            .as_mut()
            .map_or(Span::ZERO, |skews| if skews.index(6) == 0 { skews.span(-2_500, 2_500) } else { skews.span(-80, 80) });
        self.processes_so_far += 1;
        let number = self.processes_so_far;
        let life = Life { number, entropy: chance.fork(), fatal: self.fatal.clone(), skips: self.skips.clone() };
        let machine = machine(role, config, self.roles, life, self.library.clone());
        let provider: Arc<dyn Provider> = Arc::new(self.provider.clone());
        let links = Links { public_url: "https://in.shop.example".to_owned(), keys: TokenKey::new([7; 32]).into() };
        let providers = [("catcher".to_owned(), provider)].into();
        let calls = Arc::new(Calls::new(self.library.clone(), providers, links, Arc::new(self.clock.clone())));
        let mut process = Process::new(number, role, machine, calls, self.store.clone(), skew);
        process.is_old = is_old;
        self.processes.push(process);
        let off = if skew == Span::ZERO { String::new() } else { format!(", its clock {} ms off", skew.millis()) };
        let old = if is_old { ", of the release before" } else { "" };
        self.story.tell(self.clock.now(), || format!("{role} process {number} starts{old}{off}"));
        self.processes.len() - 1
    }

    /// Gives a partition to one of the role's live processes, or to a new one.
    pub(crate) fn assign_anew(&mut self, role: Role, index: u32) {
        let live: Vec<usize> =
            (0..self.processes.len()).filter(|i| self.processes[*i].role == role && self.processes[*i].is_live()).collect();
        let process = match self.chance.pick(&live) {
            Some(process) if live.len() > 1 || self.chance.index(3) > 0 => *process,
            Some(_) | None => self.hire(role),
        };
        self.processes[process].assigned.insert(index);
        let number = self.processes[process].number;
        self.story.tell(self.clock.now(), || format!("{role}/{index} goes to process {number}"));
        self.handle(process, Input::Assigned(vec![index]));
    }
}
