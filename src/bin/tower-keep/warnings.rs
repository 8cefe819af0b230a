//! What the library tells in its log and in no answer, such as that it left out a damaged record.

use std::{
    fmt::Debug,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::output::complain;

/// Shows warnings and errors of the library on standard error from now on, one a line.
pub(crate) fn show() {
    // Fails if somebody else shows them already, and then all is well.
    let _others = tracing::subscriber::set_global_default(Lines);
}

/// Whether there was one: what was done may not be all that was asked for.
pub(crate) fn were_shown() -> bool {
    SHOWN.load(Relaxed)
}

static SHOWN: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Nothing of the drivers: what they quote is not known to be harmless.
        *metadata.level() <= Level::WARN && metadata.target().starts_with("tower_keep")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        SHOWN.store(true, Relaxed);
        complain(format!("{}{}", line.message, line.fields));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields += &format!(", {name}: {value:?}"),
        }
    }

    fn record_error(&mut self, _: &Field, error: &(dyn std::error::Error + 'static)) {
        self.fields += &format!(": {error}");
    }
}
