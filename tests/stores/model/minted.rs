//! All ids that a layer has ever made, those included that no client was told.

use std::sync::{Arc, Mutex};

use tower_keep::{RandomError, RandomSource, SessionId, SystemRandom};

/// A source of random bits that remembers what became an id. Clones are the same source.
#[derive(Clone, Debug, Default)]
pub(super) struct Minted(Arc<Mutex<Vec<String>>>);

impl Minted {
    /// The written form of every id so far, in the order they were made.
    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Those after the first so many.
    pub(super) fn since(&self, count: usize) -> Vec<String> {
        self.0.lock().unwrap()[count..].to_vec()
    }
}

impl RandomSource for Minted {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        SystemRandom.fill(buffer)?;
        // Write tokens are shorter.
        if let Ok(bits) = <[u8; 32]>::try_from(&*buffer) {
            let id = SessionId::generate(&Again(bits))?;
            self.0.lock().unwrap().push(id.expose_secret());
        }
        Ok(())
    }
}

/// Gives the same bits once more, to see the id that is made of them.
#[derive(Debug)]
struct Again([u8; 32]);

impl RandomSource for Again {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        buffer.copy_from_slice(&self.0);
        Ok(())
    }
}
