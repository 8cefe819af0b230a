//! Requests per second over one Redis, from end to end: tower-keep, the raw calls that a session needs at least, and
//! two other session crates.
//!
//! `cargo run --release -- [rounds] [seconds] [case [contender...]]` here; in each round each contender has its turn of so
//! many seconds in each case, or in that one. Contenders are named by how their names begin, such as `tower-keep`; the
//! floor is always there. Options before all that: with `--wrk` the requests are sent by the program wrk, which has to be
//! installed, and not by the client here; with `--connections` and a number, less than the files that a process may open,
//! there are so many. With few of them a server waits for Redis, and Redis for it: see which part of its core it used.
//!
//! Every contender is a server process of its own on one core; Redis, which this program starts and which has to be
//! installed, shares another core with the client. It needs `taskset`, so Linux.

mod axum_session;
mod bare;
mod case;
mod check;
mod client;
mod commands;
mod contender;
mod cores;
mod floor;
mod keep;
mod load;
mod process;
mod profile;
mod rounds;
mod serve;
mod tower_sessions;
mod wrk;

use std::{env, time::Duration};

use tower_keep_servers::{Kind, Server};

use crate::{
    case::Case,
    commands::Counter,
    contender::Contender,
    load::{Load, Sender},
    process::ServerProcess,
};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut load = Load {
        sender: Sender::Client,
        connections: load::CONNECTIONS,
    };
    loop {
        match arguments[..] {
            [WRK, ..] => {
                load.sender = Sender::Wrk;
                arguments.remove(0);
            }
            [CONNECTIONS, number, ..] => {
                load.connections = number.parse().unwrap_or(0);
                arguments.drain(..2);
            }
            _ => break,
        }
    }
    let client = |rounds: &str, seconds: &str, cases: &[Case], contenders: &[Contender]| match (
        rounds.parse(),
        seconds.parse(),
        load.connections,
    ) {
        (Ok(rounds @ 1..), Ok(seconds @ 1..), check::SESSIONS_MIN..)
            if !cases.is_empty() && !contenders.is_empty() =>
        {
            let turn = Duration::from_secs(seconds);
            measure(rounds, turn, cases, contenders, load);
        }
        _ => eprintln!("{USAGE}"),
    };
    match arguments[..] {
        [process::SERVE, name, url] => block_on(serve::run(name, url)),
        [] => client(ROUNDS, SECONDS, &Case::ALL, &Contender::ALL),
        [rounds] => client(rounds, SECONDS, &Case::ALL, &Contender::ALL),
        [rounds, seconds] => client(rounds, seconds, &Case::ALL, &Contender::ALL),
        [rounds, seconds, case] => client(rounds, seconds, &named(case), &Contender::ALL),
        [rounds, seconds, case, ref names @ ..] => {
            client(rounds, seconds, &named(case), &contenders(names));
        }
    }
}

fn contenders(names: &[&str]) -> Vec<Contender> {
    let is_named = |contender: &Contender, name: &&str| contender.name().starts_with(name);
    let is_known = |name: &&str| Contender::ALL.iter().any(|one| is_named(one, name));
    let is_wanted =
        |one: &Contender| *one == Contender::Floor || names.iter().any(|name| is_named(one, name));
    match names.iter().all(is_known) {
        true => Contender::ALL.into_iter().filter(is_wanted).collect(),
        false => Vec::new(),
    }
}

fn named(name: &str) -> Vec<Case> {
    let cases = Case::ALL.into_iter();
    cases.filter(|case| case.name() == name).collect()
}

fn measure(rounds: usize, turn: Duration, cases: &[Case], contenders: &[Contender], load: Load) {
    // Redis inherits it.
    cores::move_this_process(cores::CLIENT);
    block_on(async {
        let redis = Server::start(Kind::Redis).await;
        let start = |contender: &Contender| ServerProcess::start(*contender, &redis.url());
        let mut servers: Vec<ServerProcess> = contenders.iter().map(start).collect();
        for server in &mut servers {
            check::keeps_sessions(server, load.connections).await;
        }
        let mut counter = Counter::of(&redis.url()).await;
        commands::print(&mut counter, &mut servers).await;
        rounds::print(&mut servers, rounds, turn, cases, load).await;
    });
}

/// One thread: client and servers have a core each.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

const USAGE: &str = "usage: cargo run --release -- [--wrk] [--connections 7...] [rounds] [seconds] [case [contender...]]";

/// Has wrk send the requests.
const WRK: &str = "--wrk";

/// Behind it is how many requests are under way at a time.
const CONNECTIONS: &str = "--connections";

/// A round is a turn of each contender in each case.
const ROUNDS: &str = "7";

const SECONDS: &str = "2";
