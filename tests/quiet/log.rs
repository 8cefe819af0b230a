//! All events of the process, as text.

use std::{
    io,
    sync::{Arc, LazyLock, Mutex},
};

use tokio::{sync::Notify, time::timeout};
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};

use crate::support::PATIENCE;

/// What all subscribers of the process would hear.
#[derive(Clone, Default)]
pub(crate) struct Log {
    bytes: Arc<Mutex<Vec<u8>>>,
    grown: Arc<Notify>,
}

impl Log {
    pub(crate) fn start() -> Self {
        static LOG: LazyLock<Log> = LazyLock::new(|| {
            let log = Log::default();
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_span_events(FmtSpan::FULL)
                .with_ansi(false)
                .with_writer(log.clone());
            tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
            log
        });
        LOG.clone()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }

    /// Waits until it says that.
    pub(crate) async fn tells(&self, what: &str) {
        let mut read = 0;
        loop {
            let grown = self.grown.notified();
            {
                let bytes = self.bytes.lock().unwrap();
                let mut unread = bytes[read..].windows(what.len());
                if unread.any(|bytes| bytes == what.as_bytes()) {
                    return;
                }
                read = bytes.len().saturating_sub(what.len());
            }
            let in_time = timeout(PATIENCE, grown).await;
            in_time.unwrap_or_else(|_| panic!("nothing, and no {what:?}"));
        }
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.bytes.lock().unwrap().write(bytes);
        self.grown.notify_waiters();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
