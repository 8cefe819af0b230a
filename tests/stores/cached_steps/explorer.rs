//! Runs a scenario once for each way in which its steps can follow one another.

use std::collections::HashMap;

use super::{
    digests::Digest,
    footprint::Footprint,
    scenario::Scenario,
    world::{Step, World},
};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Explored {
    /// Runs to the end.
    pub(super) runs: u64,
    /// Runs that were broken off, as all that could follow had been tried.
    pub(super) broken_off: u64,
    /// Runs to the end in which a load answered something older than one before it, which is allowed while the
    /// write is under way. Of those that were broken off, some would have.
    pub(super) regressive: u64,
    /// The shortest that was met of runs that should not be, and why.
    pub(super) violation: Option<(String, Vec<Step>)>,
}

impl Explored {
    pub(super) fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.broken_off += other.broken_off;
        self.regressive += other.regressive;
        let length = |violation: &(String, Vec<Step>)| violation.1.len();
        let before = self.violation.as_ref().map_or(usize::MAX, length);
        if other.violation.as_ref().is_some_and(|v| length(v) < before) {
            self.violation = other.violation;
        }
    }
}

/// Depth first, by doing it again: a run is the list of its choices.
///
/// Of two runs that differ only in the order of neighbours which do not see one another, one is left out: what
/// has been tried at a branch *sleeps* on the branches after it, until something happens that it would notice
/// (Godefroid's sleep sets). And a run is broken off where one before it stood with no more asleep. What can follow
/// has been tried there, to the end: each step leads to where no run has come from, so that none meets itself. No
/// violation is left out by either.
pub(super) fn explore(scenario: &Scenario, stop_at_violation: bool) -> Explored {
    let mut explored = Explored::default();
    let mut choices: Vec<usize> = Vec::new();
    let mut known = Known::default();
    let mut widths: Vec<usize> = Vec::new();
    loop {
        let repeated = widths[..choices.len().min(widths.len())].to_vec();
        widths = run(scenario, &mut choices, &mut known, &mut explored);
        assert!(
            widths.starts_with(&repeated),
            "a run that is repeated goes as it did"
        );
        if stop_at_violation && explored.violation.is_some() {
            return explored;
        }
        loop {
            let Some(last) = choices.pop() else {
                return explored;
            };
            if last + 1 < widths[choices.len()] {
                choices.push(last + 1);
                break;
            }
        }
    }
}

/// Follows the choices and then the first one each time; answers how many there were.
fn run(
    scenario: &Scenario,
    choices: &mut Vec<usize>,
    known: &mut Known,
    explored: &mut Explored,
) -> Vec<usize> {
    let mut world = World::new(scenario);
    let mut asleep: Vec<Step> = Vec::new();
    let mut widths = Vec::new();
    let mut taken = Vec::new();
    while !world.is_over() {
        let mut steps = world.steps();
        steps.retain(|step| !asleep.contains(step));
        let depth = widths.len();
        if choices.len() == depth {
            if known.covers(&world, &asleep) {
                explored.broken_off += 1;
                return widths;
            }
            choices.push(0);
        }
        let Some(step) = steps.get(choices[depth]).copied() else {
            choices.truncate(depth);
            explored.broken_off += 1;
            return widths;
        };
        let footprint = world.footprint(step);
        asleep.extend_from_slice(&steps[..choices[depth]]);
        asleep.retain(|other| !other.is_of_same(step) && is_free(&world, *other, footprint));
        widths.push(steps.len());
        taken.push(step);
        world.take(step);
        if let Some(violation) = world.judge.violation() {
            choices.truncate(widths.len());
            explored.runs += 1;
            explored.add(Explored {
                violation: Some((violation, taken)),
                ..Explored::default()
            });
            return widths;
        }
    }
    explored.runs += 1;
    explored.regressive += u64::from(world.judge.is_regressive());
    widths
}

/// Where runs have stood, and what was asleep then.
#[derive(Debug, Default)]
struct Known(HashMap<Digest, Vec<Vec<Step>>>);

impl Known {
    /// Whether all that can follow has been tried.
    fn covers(&mut self, world: &World, asleep: &[Step]) -> bool {
        let Some(place) = world.place() else {
            return false;
        };
        let before = self.0.entry(place).or_default();
        let no_more = |slept: &Vec<Step>| slept.iter().all(|step| asleep.contains(step));
        let covers = before.iter().any(no_more);
        if !covers {
            before.push(asleep.to_vec());
        }
        covers
    }
}

fn is_free(world: &World, sleeper: Step, footprint: Footprint) -> bool {
    world.footprint(sleeper).is_independent_of(footprint)
}
