//! What a load may answer.

use std::sync::{Arc, Mutex};

use tower_keep::Record;

use super::{
    digests::Digest,
    sheet::{SESSION, Sheet},
};

/// Where the nodes keep their copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caches {
    /// All in one.
    Shared,
    /// Each in its own, which is told of writes by messages.
    Own,
}

/// Notes what is acknowledged, and holds each answer against it.
///
/// What a session has been is counted: 0 is the record at the beginning. A load that begins may answer
/// nothing that is older than the last state
///
/// - that a write on the same node has been acknowledged for,
/// - that a write on another node has been acknowledged for which could reach the shared cache,
/// - that a message to this node has told of;
///
/// and nothing that the store has not been. Of the deadline, it may answer one before the last touch.
#[derive(Clone)]
pub(super) struct Judge(Arc<Mutex<Notes>>);

struct Notes {
    sheet: Sheet,
    caches: Caches,
    floors: Vec<usize>,
    /// Nodes of which a call of the cache has failed.
    is_cut_off: Vec<bool>,
    told: Vec<usize>,
    /// The newest that a load on the node has answered.
    seen: Vec<usize>,
    is_regressive: bool,
    violation: Option<String>,
}

/// The beginning of a load.
pub(super) struct Began {
    node: usize,
    floor: usize,
    seen: usize,
}

impl Judge {
    pub(super) fn new(sheet: Sheet, caches: Caches, nodes: usize) -> Self {
        Self(Arc::new(Mutex::new(Notes {
            sheet,
            caches,
            floors: vec![0; nodes],
            is_cut_off: vec![false; nodes],
            told: vec![0; nodes],
            seen: vec![0; nodes],
            is_regressive: false,
            violation: None,
        })))
    }

    pub(super) fn begins(&self, node: usize) -> Began {
        let notes = self.0.lock().unwrap();
        Began {
            node,
            floor: notes.floors[node],
            seen: notes.seen[node],
        }
    }

    pub(super) fn answered(&self, began: &Began, answer: Option<&Record>) {
        let mut notes = self.0.lock().unwrap();
        match notes.place_of(answer) {
            None => notes.violated(format!("{} was never stored", shown(answer))),
            Some(place) if place < began.floor => {
                let node = began.node;
                let after = shown(notes.sheet.lines().history[began.floor].as_ref());
                let answer = shown(answer);
                notes.violated(format!(
                    "a load on node {node} answered {answer}, and began after {after} was due"
                ));
            }
            Some(place) => {
                notes.is_regressive |= place < began.seen;
                notes.seen[began.node] = notes.seen[began.node].max(place);
            }
        }
    }

    /// A write was acknowledged that left this.
    pub(super) fn acknowledged(&self, node: usize, left: Option<&Record>) {
        let mut notes = self.0.lock().unwrap();
        let Some(place) = notes.place_of(left) else {
            notes.violated(format!("{} was acknowledged, not stored", shown(left)));
            return;
        };
        let reaches_others = notes.caches == Caches::Shared && !notes.is_cut_off[node];
        for (other, floor) in notes.floors.iter_mut().enumerate() {
            if other == node || reaches_others {
                *floor = (*floor).max(place);
            }
        }
    }

    /// A call of the cache has failed on that node.
    pub(super) fn is_cut_off(&self, node: usize) {
        self.0.lock().unwrap().is_cut_off[node] = true;
    }

    /// The next message arrives.
    pub(super) fn is_told(&self, node: usize) {
        let mut notes = self.0.lock().unwrap();
        notes.told[node] += 1;
        notes.floors[node] = notes.floors[node].max(notes.told[node]);
    }

    pub(super) fn has_message(&self, node: usize) -> bool {
        let notes = self.0.lock().unwrap();
        notes.caches == Caches::Own && notes.told[node] + 1 < notes.sheet.lines().history.len()
    }

    /// From now on, all nodes have to answer what the store has.
    pub(super) fn all_is_due(&self) {
        let mut notes = self.0.lock().unwrap();
        let last = notes.sheet.lines().history.len() - 1;
        notes.floors.fill(last);
    }

    /// This copy is left when nothing is under way, and nothing has failed.
    pub(super) fn is_left(&self, copy: &Record) {
        let mut notes = self.0.lock().unwrap();
        let stored = notes.sheet.lines().records.get(&SESSION).cloned();
        let is_right = stored.as_ref().is_some_and(|stored| {
            let deadline = stored.expires_at;
            let mut copy = copy.clone();
            copy.expires_at <= deadline && {
                copy.expires_at = deadline;
                copy == *stored
            }
        });
        if !is_right {
            let (copy, stored) = (shown(Some(copy)), shown(stored.as_ref()));
            notes.violated(format!("the copy {copy} is left of {stored}"));
        }
    }

    /// Of a load that begins now.
    pub(super) fn floor(&self, node: usize) -> usize {
        self.0.lock().unwrap().floors[node]
    }

    /// What it goes by.
    pub(super) fn digest(&self) -> Digest {
        let notes = self.0.lock().unwrap();
        Digest::of(&(&notes.floors, &notes.is_cut_off, &notes.told))
    }

    pub(super) fn violation(&self) -> Option<String> {
        self.0.lock().unwrap().violation.clone()
    }

    /// Whether a load has answered something older than one before it on the same node.
    pub(super) fn is_regressive(&self) -> bool {
        self.0.lock().unwrap().is_regressive
    }
}

impl Notes {
    fn place_of(&self, state: Option<&Record>) -> Option<usize> {
        let lines = self.sheet.lines();
        lines.history.iter().rposition(|then| match (then, state) {
            (Some(then), Some(now)) => then.version == now.version && then.payload == now.payload,
            (then, now) => then.is_none() && now.is_none(),
        })
    }

    fn violated(&mut self, how: String) {
        self.violation.get_or_insert(how);
    }
}

/// As revision, writer and attempt.
fn shown(state: Option<&Record>) -> String {
    state.map_or("none".to_owned(), |record| {
        let revision = record.version.revision;
        let payload = record.payload.as_bytes();
        format!("revision {revision} of {payload:?}")
    })
}
