//! What a sweeper tells `tracing`. A crate of its own with one test, because a subscriber of one
//! thread does not hear reliably what other threads make known first.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[allow(dead_code, reason = "the tests of the stores use the rest")]
#[path = "stores/sweeper/scripted.rs"]
mod scripted;

use std::{
    io, mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::sleep;
use tower_keep::Sweeper;
use tracing_subscriber::filter::LevelFilter;

use self::scripted::{
    Answer::{Deletes, Fails, Hangs, Panics},
    Scripted,
};

const PERIOD: Duration = Duration::from_secs(600);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start() -> Self {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone());
        tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
        log
    }

    /// The lines since the last time that this was asked.
    fn take(&self) -> Vec<String> {
        let bytes = mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_and_success_are_told_once_each_at_their_level() {
    let log = Log::start();
    for (answer, level, text) in [
        (Deletes(3), "DEBUG", "deleted=3"),
        (Fails, "WARN", "scripted: the store is unavailable"),
        (Hangs, "WARN", "no answer within 60s"),
        (Panics, "ERROR", "the store panicked"),
    ] {
        let sweeping = Sweeper::new(Scripted::new([answer])).every(PERIOD);
        sleep(PERIOD * 2).await;
        drop(sweeping);
        let told = log.take();
        assert_eq!(told.len(), 1, "{answer:?}: {told:#?}");
        assert!(told[0].contains(level), "{told:#?}");
        assert!(told[0].contains(text), "{told:#?}");
    }
    let sweeping = Sweeper::new(Scripted::new([])).every(PERIOD);
    sleep(PERIOD * 5).await;
    drop(sweeping);
    assert_eq!(log.take(), [""; 0], "nothing was expired");
}
