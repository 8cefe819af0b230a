//! Measures contenders side by side.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::contender::{Contender, Contenders, Operation};

/// One contender in one operation.
pub struct Cost {
    /// Microseconds an operation, the median of all rounds.
    pub time: f64,
    /// That over the floor's of the same round, the median of all rounds.
    pub to_floor: f64,
    /// The first contender but one, which is ours, over this one of the same round; the median of all rounds.
    pub ours_to_it: f64,
}

/// All operations, each with the contenders' costs; the first contender is the floor and the second one ours.
///
/// The contenders take turns, so that what else the machine does hits all alike.
pub async fn measure(
    contenders: &Contenders,
    callers: usize,
    turn_operations: usize,
) -> Vec<(Operation, Vec<Cost>)> {
    let mut costs = Vec::new();
    let mut times = Operation::ALL.map(|operation| (operation, vec![Vec::new(); contenders.len()]));
    for round in 0..=ROUNDS {
        for (operation, times) in &mut times {
            for turn_number in 0..contenders.len() {
                let who = (round + turn_number) % contenders.len();
                let time = turn(
                    &contenders[who].1,
                    *operation,
                    callers,
                    turn_operations / callers,
                )
                .await;
                // The first round warms up.
                if round > 0 {
                    times[who].push(time);
                }
            }
        }
    }
    for (operation, times) in times {
        let over = |a: &[f64], b: &[f64]| median(a.iter().zip(b).map(|(a, b)| a / b).collect());
        let cost = |own: &Vec<f64>| Cost {
            time: median(own.clone()),
            to_floor: over(own, &times[0]),
            ours_to_it: over(&times[1], own),
        };
        costs.push((operation, times.iter().map(cost).collect()));
    }
    costs
}

/// Puts the sessions in place that are loaded and updated.
pub async fn populate(contenders: &Contenders, sessions: usize) {
    for (_, contender) in contenders {
        for number in 0..sessions {
            contender.create(number).await;
        }
    }
}

/// Microseconds an operation.
async fn turn(
    contender: &Arc<dyn Contender>,
    operation: Operation,
    callers: usize,
    each: usize,
) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let contender = Arc::clone(contender);
            tokio::spawn(async move {
                for n in 0..each {
                    operation
                        .run(&*contender, number(operation, caller, callers, n))
                        .await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a caller");
    }
    micros(start.elapsed()) / (callers * each) as f64
}

/// Which session: those of a caller are its own, and those that come and go are not those that stay.
fn number(operation: Operation, caller: usize, callers: usize, n: usize) -> usize {
    match operation {
        Operation::Load | Operation::Update => {
            fastrand::usize(..SESSIONS / callers) * callers + caller
        }
        Operation::Create | Operation::Delete => SESSIONS + n * callers + caller,
    }
}

pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How many sessions are there to be loaded and updated.
pub const SESSIONS: usize = 2000;

const ROUNDS: usize = 60;
