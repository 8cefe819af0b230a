use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Child, ChildStdin, Command, Stdio},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

/// A running script of `scripts/`, which runs one server; `scripts/supervise.sh` has what they say to each other.
#[derive(Debug)]
pub(crate) struct Script {
    child: Child,
    /// `None` only while it is dropped: closing it is what ends the script.
    commands: Option<ChildStdin>,
    replies: Receiver<String>,
    folder: PathBuf,
}

impl Script {
    /// Starts the server and answers with its port, too.
    pub(crate) fn start(name: &str, arguments: &[String]) -> Result<(Self, u16), String> {
        let mut child = command(name)
            .args(arguments)
            .env("TOWER_KEEP_SERVER_NUMBER", number().to_string())
            // Ctrl-C is sent to a group: not to the script, which has to clean up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("bash: {error}"))?;
        let commands = child.stdin.take();
        let replies = lines_of(child.stdout.take());
        let mut script = Self {
            child,
            commands,
            replies,
            folder: PathBuf::new(),
        };
        let first = script.reply()?;
        if first.starts_with("missing: ") {
            return Err(first);
        }
        script.folder = PathBuf::from(first);
        let ready = script.reply()?;
        let port = ready
            .strip_prefix("ready ")
            .and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| script.with_log(&ready))?;
        Ok((script, port))
    }

    /// Only asks whether the server is installed; if it is not, the error says how to install it.
    pub(crate) fn check(name: &str) -> Result<(), String> {
        let checked = command(name).arg("--check").output();
        let checked = checked.map_err(|error| format!("bash: {error}"))?;
        match checked.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&checked.stdout).trim().to_owned()),
        }
    }

    pub(crate) fn ask(&mut self, command: &str) -> Result<(), String> {
        let sent = match &mut self.commands {
            Some(commands) => writeln!(commands, "{command}").map_err(|error| error.to_string()),
            None => Err("its input is closed".to_owned()),
        };
        sent.map_err(|error| self.with_log(&format!("{command}: {error}")))?;
        let reply = self.reply()?;
        if reply.starts_with("failed: ") {
            return Err(self.with_log(&reply));
        }
        Ok(())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn reply(&self) -> Result<String, String> {
        self.replies
            .recv_timeout(REPLY_TIMEOUT)
            .map_err(|error| self.with_log(&format!("no reply: {error}")))
    }

    fn with_log(&self, what: &str) -> String {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
        format!("{what}\nthe end of its log:\n{}", tail.join("\n"))
    }
}

/// Returns when the server and its folder are gone.
impl Drop for Script {
    fn drop(&mut self) {
        self.commands = None;
        let _ = self.child.wait();
    }
}

/// No other server of this process has it, nor the port that the script tries first by it: one that is down for a while
/// finds its port free.
fn number() -> u64 {
    static STARTED: AtomicU64 = AtomicU64::new(0);
    u64::from(process::id()) * STRIDE + STARTED.fetch_add(1, Ordering::Relaxed)
}

fn command(script: &str) -> Command {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut command = Command::new("bash");
    command.arg(scripts.join(script));
    command
}

/// A thread reads, as a pipe's reader can not be told to wait only so long.
fn lines_of(output: Option<impl std::io::Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let lines = output
            .into_iter()
            .flat_map(|output| BufReader::new(output).lines());
        for line in lines.map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// More than a script takes until it gives up, three attempts of `start_seconds` each.
const REPLY_TIMEOUT: Duration = Duration::from_secs(200);
const LOG_LINES: usize = 100;
/// A prime, so that the ports of processes that follow one another are far apart.
const STRIDE: u64 = 7919;
