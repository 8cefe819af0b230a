//! The contenders side by side, in turns, so that what else the machine does hits all alike.

use std::time::Duration;

use crate::{
    case::Case,
    contender::Contender,
    load::{self, Load, Speed},
    process::ServerProcess,
};

/// Prints a table of these cases.
pub async fn print(
    servers: &mut [ServerProcess],
    rounds: usize,
    turn: Duration,
    cases: &[Case],
    load: Load,
) {
    let speeds = cases
        .iter()
        .map(|case| (*case, vec![Vec::new(); servers.len()]));
    let mut speeds: Vec<_> = speeds.collect();
    for round in 0..rounds {
        for (case, speeds) in &mut speeds {
            for number in 0..servers.len() {
                // Nobody is always the one after somebody else.
                let who = (round + number) % servers.len();
                speeds[who].push(load::run(&servers[who], *case, turn, load.sender).await);
            }
        }
    }
    println!(
        "Requests a second: medians of {rounds} rounds of {} s; {} connections\n",
        turn.as_secs(),
        load.connections
    );
    println!("{HEADER}");
    let floor = servers
        .iter()
        .position(|server| server.contender == Contender::Floor)
        .expect("a floor");
    for (case, speeds) in speeds {
        for (server, own) in servers.iter().zip(&speeds) {
            println!(
                "| {} | {} | {}",
                case.name(),
                server.contender.name(),
                row(own, &speeds[floor])
            );
        }
    }
}

fn row(own: &[Speed], floor: &[Speed]) -> String {
    let typical = |value: fn(&Speed) -> f64| median(&sorted(own.iter().map(value)));
    let over_floor = |value: fn(&Speed) -> f64| {
        let rounds = own.iter().zip(floor);
        sorted(rounds.map(|(own, floor)| value(own) / value(floor)))
    };
    let speeds = over_floor(|speed| speed.requests_per_second);
    let times = over_floor(|speed| speed.micros);
    format!(
        "{:.0} | {:.2} | {:.2} to {:.2} | {:.1} | {:.2} | {:.0} % | {:.0} % | {:.0} % |",
        typical(|speed| speed.requests_per_second),
        median(&speeds),
        speeds[0],
        speeds[speeds.len() - 1],
        typical(|speed| speed.micros),
        median(&times),
        100.0 * typical(|speed| speed.busy),
        100.0 * typical(|speed| speed.disturbed).max(0.0),
        100.0 * typical(|speed| speed.other_busy),
    )
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// The server's time tells what a contender costs also where the other core is the narrow place, or the machine is not
/// left alone.
const HEADER: &str = "\
| case | contender | requests/s | over the floor | lowest to highest | server's microseconds a request | over the floor \
| of its core | others there | of the other core |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|";
