//! Which core does what.

use std::{
    ffi::OsStr,
    fs,
    process::{self, Command, Stdio},
};

/// The core of the server that is measured.
pub const SERVER: &str = "0";

/// The core of Redis and of the client.
pub const CLIENT: &str = "1";

/// Pins this process, and the processes that it starts from now on.
pub fn move_this_process(core: &str) {
    let status = Command::new(TASKSET)
        .args(["--all-tasks", "--cpu-list", "--pid", core])
        .arg(process::id().to_string())
        .stdout(Stdio::null())
        .status();
    assert!(
        status.expect("taskset").success(),
        "there is no core {core}"
    );
}

/// A command for that program, pinned.
pub fn pinned(core: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(TASKSET);
    command.args(["--cpu-list", core]).arg(program);
    command
}

/// Seconds that a core has been used until now, by whatever process.
pub fn busy(core: &str) -> f64 {
    let stat = fs::read_to_string("/proc/stat").expect("Linux");
    let name = format!("cpu{core} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name));
    let numbers = line.expect("that core").split_whitespace();
    let ticks: Vec<u64> = numbers.map(|n| n.parse().expect("a number")).collect();
    // user, nice, system, idle, iowait, irq, softirq
    let busy = ticks[..3].iter().sum::<u64>() + ticks[5] + ticks[6];
    busy as f64 / TICKS_PER_SECOND
}

/// Linux tells user programs of no other.
pub const TICKS_PER_SECOND: f64 = 100.0;

const TASKSET: &str = "taskset";
