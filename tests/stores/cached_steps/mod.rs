//! Every order in which the steps of a few requests can follow one another, through a real `CachedStore`.
//!
//! Each call of the store or the cache stands still twice: while its request is on its way, and while its reply
//! is. Who goes on is the choice of an [`explorer`], which tries all choices; what may be answered is the matter
//! of a [`judge`]. Troubles are choices as well: a call that fails before its effect, after it, or whose effect
//! comes later; a request that is dropped; a cache that loses what it has; and time that passes meanwhile.

mod actors;
mod board;
mod caches;
mod digests;
mod explorer;
mod footprint;
mod judge;
mod nodes;
mod place;
mod scenario;
mod sheet;
mod world;
mod wrong;

use std::time::Instant;

use self::{
    actors::Act,
    caches::Flaw,
    explorer::{Explored, explore},
    judge::Caches,
    scenario::{Kinds, Scenario, Start, Wrong, on_one_node, on_two_nodes},
};

#[test]
fn of_two_requests_on_one_node_none_reads_what_is_over() {
    let quiet = |scenario| scenario;
    all_hold(Caches::Shared, &on_one_node(2), &Start::ALL, quiet);
}

#[test]
fn of_two_requests_on_nodes_that_share_a_cache_none_reads_what_is_over() {
    let quiet = |scenario| scenario;
    all_hold(Caches::Shared, &on_two_nodes(2), &Start::ALL, quiet);
}

#[test]
fn of_two_requests_on_nodes_with_caches_of_their_own_none_reads_what_it_was_told_is_over() {
    let quiet = |scenario| scenario;
    all_hold(
        Caches::Own,
        &on_two_nodes(2),
        &[Start::Empty, Start::Copy],
        quiet,
    );
}

#[test]
fn of_three_requests_on_one_node_with_a_copy_none_reads_what_is_over() {
    let mut sets = on_one_node(3);
    sets.retain(|acts| acts.iter().any(|(act, _)| *act == Act::Load));
    all_hold(Caches::Shared, &sets, &[Start::Copy], |scenario| scenario);
}

#[test]
fn a_write_is_read_though_a_call_fails() {
    let one = |scenario: Scenario| scenario.with_troubles(1, Kinds::Failures, 0);
    all_hold(Caches::Shared, &short(on_one_node(2)), &[Start::Copy], one);
    all_hold(Caches::Shared, &short(on_two_nodes(2)), &[Start::Copy], one);
    all_hold(Caches::Own, &short(on_two_nodes(2)), &[Start::Copy], one);
}

#[test]
fn a_write_is_read_though_a_request_is_dropped() {
    let one = |scenario: Scenario| scenario.with_troubles(1, Kinds::Abandons, 0);
    all_hold(Caches::Shared, &short(on_one_node(2)), &[Start::Copy], one);
    all_hold(Caches::Shared, &short(on_two_nodes(2)), &[Start::Copy], one);
    all_hold(Caches::Own, &short(on_two_nodes(2)), &[Start::Copy], one);
}

#[test]
fn a_write_is_read_though_the_cache_loses_its_copies() {
    let one = |scenario: Scenario| scenario.with_troubles(1, Kinds::Losses, 0);
    let starts = [Start::Copy, Start::CopyAndTicket];
    all_hold(Caches::Shared, &short(on_one_node(2)), &starts, one);
}

#[test]
#[ignore = "takes minutes: cargo test --release --features full --test stores cached_steps::of_three -- --ignored"]
fn of_three_requests_none_reads_what_is_over() {
    let quiet = |scenario| scenario;
    all_hold(Caches::Shared, &on_one_node(3), &Start::ALL, quiet);
    all_hold(Caches::Shared, &on_two_nodes(3), &Start::ALL, quiet);
    let starts = [Start::Empty, Start::Copy];
    all_hold(Caches::Own, &on_two_nodes(3), &starts, quiet);
}

#[test]
#[ignore = "takes minutes: cargo test --release --features full --test stores cached_steps::of_three -- --ignored"]
fn of_three_requests_none_reads_what_is_over_though_the_cache_loses_its_copies() {
    let one = |scenario: Scenario| scenario.with_troubles(1, Kinds::Losses, 0);
    let starts = [Start::Copy, Start::Ticket];
    all_hold(Caches::Shared, &on_one_node(3), &starts, one);
    all_hold(Caches::Shared, &on_two_nodes(3), &starts, one);
}

#[test]
#[ignore = "takes half an hour: cargo test --release --features full --test stores cached_steps::a_write -- --ignored"]
fn a_write_is_read_whatever_fails_while_time_passes() {
    let starts = [Start::Copy, Start::Ticket, Start::Empty];
    let one = |scenario: Scenario| scenario.with_troubles(1, Kinds::All, 1);
    all_hold(Caches::Shared, &on_one_node(2), &starts, one);
    all_hold(Caches::Shared, &on_two_nodes(2), &starts, one);
    all_hold(Caches::Own, &on_two_nodes(2), &[Start::Copy], one);
}

#[test]
#[ignore = "takes hours: cargo test --release --features full --test stores cached_steps -- --ignored"]
fn a_write_is_read_though_two_things_fail_among_three_requests() {
    let two = |scenario: Scenario| scenario.with_troubles(2, Kinds::All, 1);
    all_hold(Caches::Shared, &on_one_node(2), &[Start::Copy], two);
    all_hold(Caches::Shared, &short(on_one_node(3)), &[Start::Copy], two);
}

#[test]
fn a_cache_that_ignores_tickets_is_found_out() {
    is_found_out(Wrong::Cache(Flaw::FillsAnyhow));
}

#[test]
fn a_cache_that_replaces_whatever_is_there_is_found_out() {
    is_found_out(Wrong::Cache(Flaw::ReplacesAnyhow));
}

#[test]
fn a_cache_whose_removals_leave_the_tickets_is_found_out() {
    is_found_out(Wrong::Cache(Flaw::RemovesTheCopyAlone));
}

#[test]
fn a_store_that_tells_the_cache_before_it_writes_is_found_out() {
    is_found_out(Wrong::CacheFirst);
}

#[test]
fn a_cache_that_forgets_later_than_it_says_is_found_out_once_a_call_has_failed() {
    let acts = [(Act::Load, 0), (Act::Update, 0)];
    let scenario = Scenario::new(Caches::Shared, Start::Copy, &acts)
        .with_troubles(1, Kinds::Failures, 0)
        .with_wrong(Wrong::Cache(Flaw::OutlivesItsTime));
    let (why, _) = explore(&scenario, true).violation.expect("it is found out");
    assert!(why.starts_with("a load"), "{why}");
}

/// What is not promised: between a write in the store and its acknowledgement, a copy of before may come yet.
#[test]
fn while_a_logout_is_under_way_a_reader_may_find_the_session_again_and_never_after_it() {
    let acts = [(Act::LoadTwice, 0), (Act::Delete, 0)];
    let scenario = Scenario::new(Caches::Shared, Start::Ticket, &acts);
    let explored = explore(&scenario, true);
    assert!(explored.violation.is_none(), "{:?}", explored.violation);
    assert!(explored.regressive > 0);
    println!("{} of {} runs", explored.regressive, explored.runs);
}

fn all_hold(
    caches: Caches,
    sets: &[Vec<(Act, usize)>],
    starts: &[Start],
    with: impl Fn(Scenario) -> Scenario,
) {
    let began = Instant::now();
    let mut explored = Explored::default();
    for start in starts {
        for acts in sets {
            let scenario = with(Scenario::new(caches, *start, acts));
            explored.add(explore(&scenario, true));
            if let Some((why, steps)) = &explored.violation {
                panic!("{why}\nin {scenario:#?}\nby {steps:#?}");
            }
        }
    }
    println!(
        "{caches:?}: {} sets of requests, {} beginnings, {} runs to the end and {} broken off, {} of them read an older \
         state after a newer; {:?}",
        sets.len(),
        starts.len(),
        explored.runs,
        explored.broken_off,
        explored.regressive,
        began.elapsed()
    );
}

fn is_found_out(wrong: Wrong) {
    let mut explored = Explored::default();
    for start in Start::ALL {
        for acts in short(on_one_node(2)) {
            let scenario = Scenario::new(Caches::Shared, start, &acts).with_wrong(wrong);
            explored.add(explore(&scenario, true));
        }
    }
    let (why, steps) = explored.violation.expect("it is found out");
    assert!(why.starts_with("a load"), "{why}");
    println!("{wrong:?}: {why}, in {} steps", steps.len());
}

/// The sets without a touch, of which the judge sees little.
fn short(mut sets: Vec<Vec<(Act, usize)>>) -> Vec<Vec<(Act, usize)>> {
    sets.retain(|acts| acts.iter().all(|(act, _)| *act != Act::Touch));
    sets
}
