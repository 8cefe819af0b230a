//! Where a world stands.

use super::{
    board::{Call, Caller, Stage},
    digests::Digest,
    footprint::Access,
    world::{Running, Step, World},
};

impl World {
    /// Where it stands: from the same place, the same can follow. `None` if that can not be told, as once something
    /// has failed; nodes remember it in ways of their own.
    pub(super) fn place(&self) -> Option<Digest> {
        if self.is_troubled() {
            return None;
        }
        // By whose clock caches tell the age of a copy.
        let _guard = self.runtime.enter();
        let stands = |(number, actor): (usize, &Running)| {
            let stage = self.board.stage(Caller::Actor(number));
            (actor.has_begun, actor.future.is_some(), stage)
        };
        let actors: Vec<_> = self.actors.iter().enumerate().map(stands).collect();
        let caches = self.nodes.caches.iter();
        let copies: Vec<_> = caches
            .map(|cache| Digest::of_record(cache.copy().as_ref()))
            .collect();
        Some(Digest::of(&(
            actors,
            copies,
            &self.past,
            self.sheet.digest(),
            self.judge.digest(),
            self.board.late(),
            (self.troubles_left, self.waits_left),
        )))
    }

    /// Notes what a step that is about to be taken will let its actor see, and what it will do to a cache. Nobody asks
    /// once something has failed.
    pub(super) fn remember(&mut self, step: Step) {
        if self.is_troubled() {
            return;
        }
        let footprint = self.footprint(step);
        if let Step::Go(Caller::Actor(actor), _) = step {
            let stored = (footprint.store != Access::None).then(|| self.sheet.present());
            let cached = match self.board.stage(Caller::Actor(actor)) {
                Stage::Before(Call::Get(cache)) => {
                    let copy = self.nodes.caches[cache].copy();
                    let done = copy.is_none().then(|| self.past.of_cache(cache));
                    Some((Digest::of_record(copy.as_ref()), done))
                }
                _ => None,
            };
            let node = self.actors[actor].node;
            let floor = footprint.begins.then(|| self.judge.floor(node));
            self.past.sees(actor, &(stored, cached, floor));
        }
        let altered = match step {
            Step::Go(caller, _) => match self.board.stage(caller) {
                Stage::Before(call) => Some(call),
                Stage::Elsewhere | Stage::After { .. } => None,
            },
            Step::Arrive(number) => {
                let mut late = self.board.late().into_iter();
                late.find(|(other, _)| *other == number)
                    .map(|(_, call)| call)
            }
            Step::Lose(cache) => Some(Call::Alter(cache, "lose")),
            Step::Tell(node) => Some(Call::Alter(node, "remove")),
            Step::Abandon { .. } | Step::Wait(_) | Step::End => None,
        };
        if let Some(Call::Alter(cache, what)) = altered {
            self.past.does(cache, what);
        }
    }
}
