//! `CountingStore` and `FaultyStore` have the capabilities of the store behind them.

mod counting {
    use tower_keep::{
        MemoryStore,
        testing::{
            CountingStore, conformance_tests, delete_expired_tests, scan_sessions_tests,
            user_sessions_tests,
        },
    };

    conformance_tests!(CountingStore::new(MemoryStore::new()));
    user_sessions_tests!(CountingStore::new(MemoryStore::new()));
    delete_expired_tests!(CountingStore::new(MemoryStore::new()));
    scan_sessions_tests!(CountingStore::new(MemoryStore::new()));
}

mod faulty {
    use tower_keep::{
        MemoryStore,
        testing::{
            FaultyStore, conformance_tests, delete_expired_tests, scan_sessions_tests,
            user_sessions_tests,
        },
    };

    conformance_tests!(FaultyStore::new(MemoryStore::new()));
    user_sessions_tests!(FaultyStore::new(MemoryStore::new()));
    delete_expired_tests!(FaultyStore::new(MemoryStore::new()));
    scan_sessions_tests!(FaultyStore::new(MemoryStore::new()));
}

use tower_keep::{
    DeleteExpired, MemoryStore, ScanSessions, StoreError, UserId, UserSessions,
    testing::{CountingStore, Counts, Fault, FaultyStore, Operation},
};

/// Calls an operation of a capability.
async fn call(
    store: &(impl UserSessions + DeleteExpired + ScanSessions),
    operation: Operation,
) -> Result<(), StoreError> {
    let ada = UserId::new("ada").unwrap();
    if operation == Operation::SessionsOf {
        store.sessions_of(&ada).await.map(drop)
    } else if operation == Operation::DeleteAllOf {
        store.delete_all_of(&ada, None).await.map(drop)
    } else if operation == Operation::DeleteExpired {
        store.delete_expired(10).await.map(drop)
    } else {
        store.scan(None, 10).await.map(drop)
    }
}

const OPERATIONS: [Operation; 4] = [
    Operation::SessionsOf,
    Operation::DeleteAllOf,
    Operation::DeleteExpired,
    Operation::Scan,
];

#[tokio::test]
async fn a_call_to_a_capability_is_counted_as_what_it_is() {
    let store = CountingStore::new(MemoryStore::new());
    let one_each = |counts: Counts| {
        [
            counts.sessions_of,
            counts.delete_all_of,
            counts.delete_expired,
            counts.scan,
        ]
    };
    for (place, operation) in OPERATIONS.into_iter().enumerate() {
        call(&store, operation).await.unwrap();
        let counts = store.take();
        let mut expected = [0; 4];
        expected[place] = 1;
        assert_eq!(one_each(counts), expected, "{operation:?}");
        assert_eq!(counts.total(), 1, "{operation:?}");
    }
}

#[tokio::test]
async fn a_fault_of_a_capability_is_met_there_and_nowhere_else() {
    let store = FaultyStore::new(CountingStore::new(MemoryStore::new()));
    for faulty in OPERATIONS {
        for (fault, calls) in [(Fault::Fail, 3), (Fault::LoseReply, 4)] {
            store.inject_on(&[faulty], fault);
            for operation in OPERATIONS {
                let failed = call(&store, operation).await.is_err();
                assert_eq!(failed, operation == faulty, "{faulty:?} {operation:?}");
            }
            assert_eq!(store.inner().take().total(), calls, "{faulty:?} {fault:?}");
        }
    }
}
