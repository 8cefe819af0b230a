//! How it is measured.

use std::{env, time::Instant};

use tokio::runtime::{Builder, Runtime};

use crate::{
    allocations::allocations,
    cases::{CASES, Case},
    contender::{Client, Contender},
};

/// What a contender adds to a request over the bare router.
#[derive(Clone, Copy, Debug)]
pub struct Added {
    pub nanoseconds: f64,
    pub allocations: f64,
}

/// Measures all cases and prints them, or does what the command line asks for.
///
/// `-- loop CONTENDER CASE TIMES` (its number in the table, from 1) sends one case's request so
/// many times and measures nothing: a program that counts instructions is run over it twice, and
/// the difference of two counts is free of the start.
///
/// # Panics
///
/// If a contender does not do what a case asks.
pub fn main(contenders: &[Contender]) {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["loop", contender, case, times] => {
            let named = |c: &&Contender| c.name.starts_with(contender);
            let contender = contenders.iter().find(named).expect("a contender");
            let case: usize = case.parse().expect("a number");
            runtime.block_on(async {
                let mut client = contender.client(&CASES[case - 1]).await;
                client.repeat(times.parse().expect("a number")).await;
            });
        }
        _ => print_table(
            contenders,
            &CASES.map(|case| (case, measure(&runtime, contenders, &case))),
        ),
    }
}

/// All contenders in one case. They take turns, so that what else the machine does hits all alike,
/// and the best turn of each counts: noise only ever adds.
fn measure(runtime: &Runtime, contenders: &[Contender], case: &Case) -> Vec<Added> {
    let client = |contender: &Contender| runtime.block_on(contender.client(case));
    let mut clients: Vec<Client> = contenders.iter().map(client).collect();
    let mut best = vec![turn(runtime, &mut clients[0]); clients.len()];
    for round in 0..ROUNDS {
        for (best, client) in best.iter_mut().zip(&mut clients) {
            let turn = turn(runtime, client);
            if round == 0 {
                *best = turn;
            }
            best.nanoseconds = best.nanoseconds.min(turn.nanoseconds);
            best.allocations = best.allocations.min(turn.allocations);
        }
    }
    let bare = best[0];
    let over_bare = |cost: &Added| Added {
        nanoseconds: cost.nanoseconds - bare.nanoseconds,
        allocations: cost.allocations - bare.allocations,
    };
    best[1..].iter().map(over_bare).collect()
}

/// The cost of a request, on the average of a short time.
fn turn(runtime: &Runtime, client: &mut Client) -> Added {
    runtime.block_on(async {
        let (before, start) = (allocations(), Instant::now());
        client.repeat(TURN_REQUESTS).await;
        let (taken, after) = (start.elapsed(), allocations());
        Added {
            nanoseconds: taken.as_secs_f64() * 1e9 / f64::from(TURN_REQUESTS),
            allocations: (after - before) as f64 / f64::from(TURN_REQUESTS),
        }
    })
}

/// A row a case: nanoseconds and allocations of each contender, then their ratio to the second.
pub fn print_table(contenders: &[Contender], rows: &[(Case, Vec<Added>)]) {
    let [_, ours, theirs @ ..] = contenders else {
        return;
    };
    println!("added to a request over the bare router: nanoseconds / heap allocations\n");
    print!("| {:<23} | {:>20} |", "case", ours.name);
    for peer in theirs {
        print!(" {:>20} | {:>13} |", peer.name, "ours to it");
    }
    println!();
    println!("|---|---:|{}", "---:|---:|".repeat(theirs.len()));
    for (case, added) in rows {
        let cost = |added: &Added| format!("{:.0} / {:.1}", added.nanoseconds, added.allocations);
        print!("| {:<23} | {:>20} |", case.name, cost(&added[0]));
        for peer in &added[1..] {
            let ratio = format!(
                "{:.2} / {:.2}",
                added[0].nanoseconds / peer.nanoseconds,
                added[0].allocations / peer.allocations
            );
            print!(" {:>20} | {:>13} |", cost(peer), ratio);
        }
        println!();
    }
}

/// Enough for the best turn of each to be one that nothing has disturbed.
const ROUNDS: u32 = 1000;

/// Short, so that there are many, and long against the clock's own cost.
const TURN_REQUESTS: u32 = 100;
