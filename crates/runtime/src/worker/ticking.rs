//! Ticks: the only thing that moves the partition clock, and what fires timers of entities that nothing
//! else touches (PROTOCOL §8.2–8.4).

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{frame::Record, inbox, kind};
use waypost_types::{EntityId, Timestamp};

use super::{
    Turn, Worker,
    emitting::Scene,
    folding::{Step, Work, unreadable},
};
use crate::processor::Processor;

/// A tick under way.
#[derive(Debug, Default)]
pub(super) struct Tick {
    /// The last wake-up it looked at.
    after: Option<(Timestamp, EntityId)>,
    /// Entities woken, each once.
    woken: BTreeSet<EntityId>,
    /// Entities of which a timer fired.
    fired: usize,
}

impl<P: Processor> Worker<P> {
    pub(super) fn fold_tick(&mut self, turn: &mut Turn<'_>, work: &mut Work, record: &Record, scene: &mut Scene) -> Step {
        let mut tick = if let Some(tick) = work.tick.take() {
            tick
        } else {
            self.begin_chain(scene.position);
            match inbox::Tick::decode(record.body.clone()) {
                Ok(body) => self.pass_time(turn, work, &body, scene),
                Err(why) => self.poisoned(turn, scene, record, &unreadable(&why)),
            }
            Tick::default()
        };
        let step = self.fire_due(turn, &mut tick, scene);
        work.outputs = scene.outputs;
        if step == Step::Blocked {
            work.tick = Some(tick);
        } else {
            self.ticks.folded(&record.id, self.meta.clk);
        }
        step
    }

    /// Moves the clock, and the upstream watermark where ticks carry it.
    fn pass_time(&mut self, turn: &mut Turn<'_>, work: &Work, tick: &inbox::Tick, scene: &mut Scene) {
        let told = if turn.config.rules.ticks_in_log { Timestamp::from_millis(tick.now).min(work.appended) } else { turn.now };
        self.meta.clk = self.meta.clk.max(told);
        let wm = Timestamp::from_millis(tick.wm);
        if P::WATERMARKED && wm > self.meta.wm {
            self.meta.wm = wm;
            // Behind everything older on its way down, and before what this tick fires.
            let body: Bytes = inbox::Mark { wm: tick.wm }.encode_to_vec().into();
            self.relay(turn, scene, kind::MARK, body);
        }
    }

    /// Fires the first entities by (due, entity id), once everything due is known.
    fn fire_due(&mut self, turn: &mut Turn<'_>, tick: &mut Tick, scene: &mut Scene) -> Step {
        let limit = self.fireable(turn);
        while self.is_folding() && tick.fired < turn.config.tick_entities && tick.woken.len() < turn.config.tick_examined {
            let next = self.timers.next(tick.after.as_ref(), limit.plain).cloned();
            // A wake-up is the next one only if none before it can be missing.
            let known = next.as_ref().map_or(limit.plain, |(due, _)| *due);
            if self.timers.complete_until().is_none_or(|until| until < known) {
                self.load_timers(turn);
                return Step::Blocked;
            }
            let Some((due, id)) = next else { break };
            if !self.knows(&id) {
                let wanted: Vec<EntityId> =
                    self.timers.following(tick.after.as_ref(), limit.plain, turn.config.tick_entities).cloned().collect();
                self.load(turn, wanted);
                return Step::Blocked;
            }
            tick.after = Some((due, id.clone()));
            if tick.woken.insert(id.clone()) {
                tick.fired += usize::from(self.wake(turn, &id, scene));
            }
        }
        Step::Done
    }

    /// Fires what may fire of one entity and re-arms it. Returns whether anything did.
    fn wake(&mut self, turn: &mut Turn<'_>, id: &EntityId, scene: &mut Scene) -> bool {
        let limit = self.fireable(turn);
        let mut fired = false;
        for _ in 0..turn.config.own_timers {
            match self.fire(turn, id, limit, scene) {
                Ok(true) => fired = true,
                Ok(false) => break,
                Err(poison) => {
                    self.timer_poisoned(turn, scene, id, &poison);
                    // It would be poison again at every tick.
                    self.wake_at(id, None, scene.position.offset);
                    return true;
                }
            }
        }
        let (earliest, absent) = self.dues(id);
        if earliest.is_some_and(|due| self.is_set_aside(id, due)) {
            self.wake_at(id, None, scene.position.offset);
            return fired;
        }
        self.wake_at(id, earliest, scene.position.offset);
        if !fired && earliest.is_some_and(|due| due <= limit.plain) {
            self.timers.sleep(id, absent.unwrap_or(Timestamp::MAX));
        }
        fired
    }
}
