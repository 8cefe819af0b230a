//! Running the program.

use std::{
    fmt,
    process::{Output, Stdio},
};

use tokio::process::Command;

/// What a run has said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs it to its end, without a terminal. The words may not hold blanks.
pub async fn tower_keep(words: &str) -> Ran {
    let mut command = command(words);
    command.output().await.unwrap().into()
}

/// The same, ready to be started.
pub fn command(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tower-keep"));
    command.args(words.split_whitespace());
    for name in ["TOWER_KEEP_STORE", "TOWER_KEEP_FROM", "TOWER_KEEP_TO"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

impl Ran {
    /// What it has written to standard output, if all went well.
    #[track_caller]
    pub fn stdout(self) -> String {
        assert_eq!(self.code, Some(0), "{self}");
        assert_eq!(self.stderr, "");
        self.stdout
    }

    /// The same as JSON.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.stdout()).unwrap()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// For snapshots.
impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}{}", self.stdout, self.stderr)?;
        match self.code {
            Some(code) => write!(f, "exit code {code}"),
            None => write!(f, "killed"),
        }
    }
}
