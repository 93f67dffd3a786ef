//! Shops whose operators hold journeys: pause them, let them go on, kill them and publish them anew (PRODUCT §7.9, 14).
//!
//! Beside each set stands in plain words what it says of each journey, so that the oracle need not read sets.

use std::{collections::BTreeMap, sync::OnceLock};

use waypost_engine::apply::{plan_kill, plan_pause, plan_resume};
use waypost_types::Timestamp;

use super::{Opening, Shop, WORKSPACE};
use crate::chance::Chance;

/// Every journey of these shops; all are published in the first set.
pub const JOURNEYS: [&str; 4] = ["ticket", "pledge", "cart", "welcome"];
/// Shops there are.
pub const SHOPS: usize = 24;
/// What they are drawn from.
const NAME: u64 = 0x6865_6c64;

/// A shop, and what each of its sets says.
#[derive(Clone, Debug)]
pub struct Held {
    /// With its sets.
    pub shop: Shop,
    /// By place of the set: of each journey.
    pub says: Vec<BTreeMap<&'static str, Says>>,
}

/// What a set says of one journey.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Says {
    /// The newest version that was published; 0: none.
    pub version: u32,
    /// Nobody enters, and nothing is sent.
    pub paused: bool,
    /// This version and all before it were killed.
    pub killed: u32,
}

// === impl Says ===

impl Says {
    /// Whether runs of this version are over.
    pub fn has_killed(self, version: u32) -> bool {
        version <= self.killed
    }
}

// === impl Held ===

impl Held {
    /// All of these shops.
    ///
    /// # Panics
    /// If a definition, which are constants, is wrong.
    pub fn all() -> &'static [Self] {
        static ALL: OnceLock<Vec<Held>> = OnceLock::new();
        ALL.get_or_init(|| {
            let shops = (0..SHOPS).map(|n| Self::open(&mut Chance::new(n as u64).at(NAME)));
            shops.collect::<Result<_, _>>().unwrap_or_else(|why| panic!("the held shops' definitions: {why}"))
        })
    }

    fn open(chance: &mut Chance) -> Result<Self, String> {
        let mut opening = Opening::begin()?;
        let mut now: BTreeMap<&'static str, Says> = BTreeMap::new();
        for journey in JOURNEYS {
            opening.publish(journey)?;
            now.entry(journey).or_default().version = 1;
        }
        opening.activate();
        let mut says = vec![now.clone()];
        // Of the others it is known what they send.
        let held: Vec<&'static str> = (0..chance.small(2)).map(|_| JOURNEYS[chance.index(JOURNEYS.len())]).collect();
        for _ in 0..3 + chance.index(4) {
            let journey = held[chance.index(held.len())];
            let of = now.entry(journey).or_default();
            if of.has_killed(of.version) {
                opening.apply()?;
                opening.publish(journey)?;
                of.version += 1;
            } else if chance.index(if of.paused { 4 } else { 3 }) == 0 {
                opening.keep(plan_kill(&opening.current, WORKSPACE, journey, Timestamp::ZERO))?;
                (of.killed, of.paused) = (of.version, false);
            } else if of.paused {
                opening.keep(plan_resume(&opening.current, WORKSPACE, journey))?;
                of.paused = false;
            } else {
                opening.keep(plan_pause(&opening.current, WORKSPACE, journey))?;
                of.paused = true;
            }
            opening.activate();
            says.push(now.clone());
        }
        Ok(Self { shop: opening.open()?, says })
    }

    /// Whether some set holds this journey.
    pub fn holds(&self, journey: &str) -> bool {
        self.says.iter().any(|says| says.get(journey).is_some_and(|of| of.paused || of.killed > 0))
    }

    /// What the set of this number says of a journey.
    pub fn says(&self, set: u64, journey: &str) -> Says {
        let place = self.shop.sets.iter().position(|body| body.set == set);
        place.and_then(|place| self.says.get(place)?.get(journey)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use waypost_engine::definitions::Standing;

    use super::*;

    /// The oracle's words and the product's sets are made by the same hands; here they are compared.
    #[test]
    fn sets_say_what_stands_beside_them() {
        let (mut paused, mut killed, mut anew) = (0, 0, 0);
        for held in Held::all() {
            assert_eq!(held.shop.sets.len(), held.says.len());
            for (set, says) in held.shop.sets.iter().zip(&held.says) {
                let compiled = held.shop.library.set(&format!("{}:{}", set.set, hex::encode(&set.hash))).unwrap();
                let journeys = &compiled.workspaces[&WORKSPACE].journeys;
                for (name, of) in says {
                    let versions = journeys.get(*name).unwrap();
                    for (version, journey) in &versions.versions {
                        let standing = if of.has_killed(*version) {
                            Standing::Killed
                        } else if of.paused {
                            Standing::Paused
                        } else {
                            Standing::Running
                        };
                        assert_eq!(journey.standing, standing, "{name} {version}");
                    }
                    let entered = versions.entered().map(|journey| journey.version);
                    assert_eq!(entered, (!of.has_killed(of.version)).then_some(of.version), "{name}");
                    paused += usize::from(of.paused);
                    killed += usize::from(of.has_killed(of.version));
                    anew += usize::from(of.version > 1);
                }
            }
        }
        assert!(paused > 0 && killed > 0 && anew > 0);
    }
}
