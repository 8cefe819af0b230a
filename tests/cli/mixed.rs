//! Copying to where some of the sessions are already, in any state.

use proptest::prelude::*;
use tokio::runtime::Builder;
use tower_keep::{Record, SessionStore, Timestamp};

use super::{
    patience::patiently,
    place::Place,
    program::tower_keep,
    sessions::{NEW_YEAR_2090, many, version},
};

/// How a session is in the destination before the copy.
#[derive(Clone, Copy, Debug)]
enum Before {
    Absent,
    Same,
    Older,
    EarlierDeadline,
    LaterDeadline,
    Newer,
    Diverged,
}

impl Before {
    /// What is there, if anything, when this is in the source.
    fn there(self, source: &Record) -> Option<Record> {
        let mut there = source.clone();
        match self {
            Self::Absent => return None,
            Self::Same => {}
            Self::Older => there.version = version(1, 1),
            Self::EarlierDeadline => there.expires_at = Timestamp::from_millis(NEW_YEAR_2090 - 5),
            Self::LaterDeadline => there.expires_at = there.absolute_deadline,
            Self::Newer => there.version = version(9, 9),
            Self::Diverged => there.version = version(5, 9),
        }
        if there.version != source.version {
            there.payload = b"another one".as_slice().into();
        }
        Some(there)
    }

    fn is_left_as_it_is(self) -> bool {
        matches!(self, Self::LaterDeadline | Self::Newer | Self::Diverged)
    }
}

fn states() -> impl Strategy<Value = Vec<Before>> {
    let any = prop::sample::select(vec![
        Before::Absent,
        Before::Same,
        Before::Older,
        Before::EarlierDeadline,
        Before::LaterDeadline,
        Before::Newer,
        Before::Diverged,
    ]);
    prop::collection::vec(any, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_newer_one_is_there_afterwards(states in states(), page in 1..20, kind in prop::sample::select(vec!["sqlite", "redis", "file"])) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(&states, page, kind));
    }
}

async fn check(states: &[Before], page: i32, kind: &str) {
    let [from, to] = [Place::new("sqlite").await, Place::new(kind).await];
    let mut sessions: Vec<_> = many(u32::try_from(states.len()).unwrap()).collect();
    for (session, state) in sessions.iter_mut().zip(states) {
        session.record.version = version(5, 5);
        if let Some(there) = state.there(&session.record) {
            let _created = patiently(|| to.store.create(&session.id, &there))
                .await
                .unwrap();
        }
    }
    from.put(&sessions).await;
    let copy = format!("copy --from {} --to {} --page {page}", from.url, to.url);
    let looked = tower_keep(&format!("{copy} --json --dry-run")).await.json();
    let copied = tower_keep(&format!("{copy} --json --verify")).await.json();
    for count in ["created", "updated", "present", "left_alone"] {
        assert_eq!(looked[count], copied[count], "{count}: {looked} {copied}");
    }
    for (session, state) in sessions.iter().zip(states) {
        let there = patiently(|| to.store.load(&session.id)).await;
        let there = there.unwrap().unwrap();
        let expected = match state.is_left_as_it_is() {
            true => state.there(&session.record).unwrap(),
            false => session.record.clone(),
        };
        assert_eq!(there, expected, "{state:?}");
    }
    assert_eq!(to.all().await.len(), states.len());
}
