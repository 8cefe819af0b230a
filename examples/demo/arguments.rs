//! What the command line says.

/// Where to keep the sessions and where to listen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// `None`: in a file beside the program.
    pub(crate) store: Option<String>,
    pub(crate) listen: String,
}

impl Arguments {
    /// `Err` is what to tell who typed it.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, &'static str> {
        let mut parsed = Self {
            store: None,
            listen: LISTEN_DEFAULT.to_owned(),
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?;
            match name.as_str() {
                "--store" => parsed.store = Some(value),
                "--listen" => parsed.listen = value,
                _ => return Err(USAGE),
            }
        }
        Ok(parsed)
    }
}

/// Of this machine alone: browsers keep a `Secure` cookie of plain HTTP only from localhost, Safari before macOS 26 not even from there.
const LISTEN_DEFAULT: &str = "127.0.0.1:3000";

const USAGE: &str = "\
usage: demo [--store URL] [--listen ADDRESS]
  --store URL       where the sessions are kept, such as redis://127.0.0.1:6379; a file of SQLite unless given
  --listen ADDRESS  127.0.0.1:3000 unless given";
