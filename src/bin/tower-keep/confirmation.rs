//! Asking before something is destroyed.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::exit::Refusal;

/// Asks on the terminal, unless `--yes` has answered. Without a terminal that is the only way.
pub(crate) async fn confirm(question: String, is_yes: bool) -> anyhow::Result<()> {
    if is_yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        let refusal = format!("{question} Say so with --yes: there is no terminal to ask on");
        return Err(Refusal::Usage(refusal).into());
    }
    let answer = tokio::task::spawn_blocking(move || ask(&question)).await??;
    match answer.trim() {
        "yes" | "y" => Ok(()),
        _ => Err(Refusal::No("nothing was done".to_owned()).into()),
    }
}

fn ask(question: &str) -> io::Result<String> {
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    drop(stderr);
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer)
}
