//! The scripts that run inside the server.

use std::sync::LazyLock;

use redis::Cmd;

/// A script, sent by its hash; and once as text to a server that does not know it.
pub(super) struct Script {
    hash: LazyLock<String>,
    text: &'static str,
}

impl Script {
    /// The call, to be given the number of keys, the keys and the arguments.
    pub(super) fn by_hash(&self) -> Cmd {
        let mut command = Cmd::with_capacity(ARGUMENTS_USUAL, BYTES_USUAL);
        command.arg("EVALSHA").arg(&*self.hash);
        command
    }

    /// The same with its text, which the server remembers from then on.
    pub(super) fn by_text(&self) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(self.text);
        command
    }
}

/// Room for the name, the hash, the number of keys, and what most scripts are given after that.
const ARGUMENTS_USUAL: usize = 12;

/// The same in bytes, for two keys and a record of usual size: a buffer that grows step by step is
/// copied at each of them.
const BYTES_USUAL: usize = 512;

/// Makes a script of files, one after another. `prelude.lua` has the functions that all but the shortest need.
macro_rules! script {
    ($name:ident, $($file:literal),+) => {
        pub(super) static $name: Script = {
            const TEXT: &str = concat!($(include_str!(concat!("scripts/", $file))),+);
            Script {
                hash: LazyLock::new(|| redis::Script::new(TEXT).get_hash().to_owned()),
                text: TEXT,
            }
        };
    };
}

script!(CREATE, "prelude.lua", "create.lua");
script!(UPDATE, "update_usual.lua", "prelude.lua", "update.lua");
script!(ROTATE, "prelude.lua", "rotate.lua");
script!(TOUCH, "prelude.lua", "touch.lua");
script!(DELETE, "prelude.lua", "delete.lua");
script!(NOTE, "prelude.lua", "note.lua");
script!(PLACE, "prelude.lua", "place.lua");
script!(RETIRE, "prelude.lua", "retire.lua");
script!(CONFIRM, "prelude.lua", "confirm.lua");
script!(TAKE_BACK, "prelude.lua", "take_back.lua");
script!(FORGET, "prelude.lua", "forget.lua");
script!(CACHE_TICKET, "prelude.lua", "cache/ticket.lua");
script!(CACHE_FILL, "prelude.lua", "cache/fill.lua");
script!(CACHE_REPLACE, "prelude.lua", "cache/replace.lua");
script!(CACHE_TOUCH, "prelude.lua", "cache/touch.lua");
