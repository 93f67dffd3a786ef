//! An old binary among newer ones: its partitions halt at the barrier, until somebody replaces it (PROTOCOL §9.2).

use waypost_types::Role;

use super::World;
use crate::{chance::Chance, process::Process};

/// One world in so many that change their engine has a process of the release before.
const OLD_IN: usize = 3;
/// How such a process says that it lacks an engine.
const LACKS: &str = "this binary has 1 to 1";

/// Whose first process is an old one, and what its replacement is drawn from.
#[derive(Debug)]
pub(super) struct Old {
    role: Option<Role>,
    chance: Chance,
}

// === impl Old ===

impl Old {
    /// Of a world that activates another engine.
    pub(super) fn draw(mut chance: Chance) -> Option<Self> {
        if chance.index(OLD_IN) > 0 {
            return None;
        }
        let role = chance.pick(&Role::KEYED).copied();
        Some(Self { role, chance })
    }

    /// Whether the next process of this role is the one.
    pub(super) fn hires(&mut self, role: Role) -> bool {
        self.role.take_if(|of| *of == role).is_some()
    }
}

impl World {
    /// Whether a partition halts because its process is of the release before; then that is replaced soon.
    pub(super) fn is_barrier(&mut self, i: usize, why: &str) -> bool {
        let now = self.clock.now();
        let process = &mut self.processes[i];
        let Some(old) = self.old.as_mut().filter(|_| process.is_old && why.contains(LACKS)) else { return false };
        self.tally.barriers += 1;
        let at = now.plus(old.chance.span(100, 4_000));
        if !process.is_zombie() {
            process.replaced_at.get_or_insert(at);
        }
        true
    }

    /// Where that is due, an old binary makes room for newer ones.
    pub(super) fn renew(&mut self) {
        let now = self.clock.now();
        let is_due = |process: &Process| !process.is_zombie() && process.replaced_at.is_some_and(|at| at <= now);
        while let Some(i) = self.processes.iter().position(is_due) {
            self.story.tell(now, || format!("{} is of an old release, and is replaced", self.processes[i]));
            self.end(i);
        }
    }
}
