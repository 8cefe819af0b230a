//! Ctrl-C: the first asks for an end at the next good place, the second for one at once.

use tokio::sync::watch;

use crate::exit::Refusal;

/// How often Ctrl-C was pressed.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<u32>);

impl Interrupt {
    pub(crate) fn listen() -> Self {
        let (pressed, interrupt) = watch::channel(0);
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                pressed.send_modify(|count| *count += 1);
            }
        });
        Self(interrupt)
    }

    pub(crate) fn is_requested(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Runs what may be dropped at any time: a read, or a single operation of a store.
    pub(crate) async fn or<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        tokio::select! {
            done = work => done,
            () = self.pressed(1) => Err(Refusal::Interrupted("Ctrl-C".to_owned()).into()),
        }
    }

    /// Ends when Ctrl-C has been pressed twice.
    pub(crate) async fn insisted(&self) {
        self.pressed(2).await;
    }

    async fn pressed(&self, times: u32) {
        let mut count = self.0.clone();
        if count.wait_for(|count| *count >= times).await.is_err() {
            // Nobody listens any more, so nothing will be pressed.
            std::future::pending().await
        }
    }
}
