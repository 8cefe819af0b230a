//! The load of [wrk](https://github.com/wg/wrk) in place of the client here: a program that many measure with. It asks less
//! at a time, so that the system calls of a server weigh more.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    time::Duration,
};

use crate::{case::Case, process::ServerProcess};

/// Loads the server for so long, and returns how many requests it has answered.
pub fn run(server: &ServerProcess, case: Case, duration: Duration) -> u32 {
    let script = Script::write(&server.cookies);
    let output = Command::new("wrk")
        .args(["--threads", "1", "--connections"])
        .arg(server.cookies.len().to_string())
        .arg("--duration")
        .arg(format!("{}s", duration.as_secs()))
        .arg("--script")
        .arg(script.path())
        .arg(format!("http://{}{}", server.address, case.path()))
        .output()
        .expect("wrk, which is to be installed");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{report}");
    let name = server.contender.name();
    assert!(
        !report.contains("Non-2xx") && !report.contains("Socket errors"),
        "{name}: {report}"
    );
    let number = |line: &str| line.split_once(" requests in ")?.0.trim().parse().ok();
    report.lines().find_map(number).expect("a number")
}

/// What tells wrk the cookies, each in its turn.
struct Script(PathBuf);

impl Script {
    fn write(cookies: &[String]) -> Self {
        let mut text = "local requests = {}\n".to_owned();
        for cookie in cookies {
            // The characters of cookies need no escape.
            writeln!(
                text,
                "table.insert(requests, {{ Host = 'localhost', Cookie = '{cookie}' }})"
            )
            .expect("memory");
        }
        text += "local made, last = {}, 0\n\
            function init()\n  \
              for n, headers in ipairs(requests) do made[n] = wrk.format('GET', nil, headers) end\n\
            end\n\
            function request()\n  \
              last = last % #made + 1\n  \
              return made[last]\n\
            end\n";
        let path = env::temp_dir().join(format!("tower-keep-bench-{}.lua", process::id()));
        fs::write(&path, text).expect("a folder for what is temporary");
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
