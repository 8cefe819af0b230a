//! How it is measured.

use std::{env, time::Instant};

use http::HeaderValue;

use crate::client::{Contender, Requests};

/// How many keys there are, and what they are told as: about the length of the data as a JSON map.
const SIZES: [(usize, &str); 3] = [(2, "100 B"), (13, "1 KiB"), (37, "3 KiB")];

const CASES: [(&str, &str); 2] = [("read one key", "/read"), ("change one key", "/increment")];

/// Measures all, or does what the command line asks for. Of the contenders of a kind the first is ours, and the last
/// runs over the second of the bare ones.
pub async fn main(bare: [Contender; 2], kinds: &[[Contender; 3]]) {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["loop", name, keys, path, times] => {
            let contenders = kinds.iter().flatten().chain(&bare);
            let mut named = contenders.filter(|contender| contender.name == *name);
            let contender = named.next().expect("a contender");
            let filled = fill(contender, keys.parse().expect("a number")).await;
            let mut requests = turn(path, &filled.0);
            requests.times = times.parse().expect("a number");
            contender.send(requests).await;
        }
        _ => {
            println!(
                "nanoseconds that a request takes more than the bare router's; bytes of the cookie's value\n"
            );
            println!("| session | request | who | ns added | ours to it | cookie |");
            println!("|---|---|---|---:|---:|---:|");
            for (keys, size) in SIZES {
                for (case, path) in CASES {
                    for kind in kinds {
                        measure(&bare, kind, keys, path).await.print(size, case);
                    }
                }
            }
        }
    }
}

/// What each contender of a kind adds, and the bytes of its cookies' values.
struct Row {
    names: [&'static str; 3],
    added: [f64; 3],
    values_len: [usize; 3],
}

impl Row {
    fn print(&self, size: &str, case: &str) {
        for place in 0..3 {
            let ratio = match place {
                0 => String::new(),
                _ => format!("{:.2}", self.added[0] / self.added[place]),
            };
            println!(
                "| {size} | {case} | {} | {:.0} | {ratio} | {} |",
                self.names[place], self.added[place], self.values_len[place]
            );
        }
    }
}

/// They take turns, so that what else the machine does hits all alike; the difference of each to the bare one in the
/// same round is taken, and the median of those counts.
async fn measure(bare: &[Contender; 2], kind: &[Contender; 3], keys: usize, path: &str) -> Row {
    let mut cookies = Vec::new();
    let mut values_len = [0; 3];
    for (contender, values_len) in kind.iter().zip(&mut values_len) {
        let filled = fill(contender, keys).await;
        cookies.push(filled.0);
        *values_len = filled.1;
    }
    let mut differences = [const { Vec::new() }; 3];
    for round in 0..WARM_UP_ROUNDS + ROUNDS {
        let over = [
            time(&bare[0], path, &cookies[0]).await,
            time(&bare[1], path, &cookies[2]).await,
        ];
        for (place, contender) in kind.iter().enumerate() {
            let taken = time(contender, path, &cookies[place]).await;
            if round >= WARM_UP_ROUNDS {
                differences[place].push(taken - over[place / 2]);
            }
        }
    }
    Row {
        names: [kind[0].name, kind[1].name, kind[2].name],
        added: differences.map(median),
        values_len,
    }
}

/// The cookie of a session that is seen to work, and the bytes of its values.
async fn fill(contender: &Contender, keys: usize) -> (HeaderValue, usize) {
    let none = HeaderValue::from_static("a=b");
    let filled = contender.ask(&format!("/fill/{keys}"), &none).await;
    let values_len = filled.values_len();
    let Some(cookie) = filled.cookie else {
        return (none, 0);
    };
    let counted = contender.ask("/increment", &cookie).await;
    assert_eq!(counted.body, "1", "{}", contender.name);
    let cookie = counted.cookie.expect("a cookie");
    let read = contender.ask("/read", &cookie).await;
    assert_eq!(read.body, "1", "{}", contender.name);
    assert!(read.cookie.is_none(), "{} sets one again", contender.name);
    (cookie, values_len)
}

/// Nanoseconds of a request.
async fn time(contender: &Contender, path: &str, cookie: &HeaderValue) -> f64 {
    let requests = turn(path, cookie);
    let start = Instant::now();
    contender.send(requests).await;
    start.elapsed().as_secs_f64() * 1e9 / f64::from(TURN_REQUESTS)
}

fn turn(path: &str, cookie: &HeaderValue) -> Requests {
    Requests {
        uri: path.try_into().expect("a path"),
        cookie: cookie.clone(),
        times: TURN_REQUESTS,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Enough for the median to come out the same to a few hundredths.
const ROUNDS: usize = 1500;

const WARM_UP_ROUNDS: usize = 100;

/// Short, so that a turn is seldom disturbed, and long against the clock's own cost.
const TURN_REQUESTS: u32 = 10;
