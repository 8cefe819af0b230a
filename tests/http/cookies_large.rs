//! Cookie fields of a mebibyte. They come by a call, because servers refuse them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Router, body::Body, extract::Request, routing::post};
use bytes::Bytes;
use http::{HeaderValue, header::COOKIE};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_keep::LazySession;

use crate::{
    cookies_in::color,
    counted::{Counted, NAME, cookies, loads, unknown_id},
};

const MEBIBYTE: usize = 1024 * 1024;

/// A pattern repeated to a mebibyte, and the live cookie behind it.
///
/// A scan that looked at the rest of the field again for each pair, or copied it, would have to
/// take some 10^11 steps for them and not come to its end.
#[tokio::test]
async fn behind_a_mebibyte_of_cookies_the_live_one_is_found_with_one_load() {
    let counted = Counted::new();
    let live = counted.live("red").await;
    let broken = format!("{NAME}={};", &live[..42]);
    for pattern in [
        ";", " ", "\t", "=", "a", "a=b; ", "; =", "\"", "%5F", "a= ;", &broken,
    ] {
        let mut field = pattern.repeat(MEBIBYTE / pattern.len());
        field += &format!("; {NAME}={live}");
        assert!(field.len() > MEBIBYTE - pattern.len());
        assert_eq!(color(&counted.browser(), cookies([field])).await, "\"red\"");
        assert_eq!(counted.store.take(), loads(1), "{pattern:?}");
    }
}

#[tokio::test]
async fn a_mebibyte_of_well_formed_ids_costs_four_loads_and_no_more() {
    let counted = Counted::new();
    let mut field = String::with_capacity(MEBIBYTE + 100);
    while field.len() < MEBIBYTE {
        field += &format!("{NAME}={};", unknown_id());
    }
    assert_eq!(color(&counted.browser(), cookies([field])).await, "-");
    assert_eq!(counted.store.take(), loads(4));
}

/// A mebibyte that tells when the last reference to it is gone.
struct Field(Vec<u8>, Arc<AtomicBool>);

impl AsRef<[u8]> for Field {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        self.1.store(true, Ordering::SeqCst);
    }
}

/// The layer's reference alone keeps the field alive once the handler has dropped the request;
/// with a copy there would be none.
#[tokio::test]
async fn a_mebibyte_of_cookies_is_shared_and_not_copied_and_freed_with_the_answer() {
    let dropped = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&dropped);
    let handler = async move |session: LazySession, request: Request| {
        drop(request);
        assert!(!seen.load(Ordering::SeqCst), "the layer made a copy");
        session
            .load()
            .await
            .map(|session| session.len().to_string())
    };
    let counted = Counted::of(Router::new().route("/", post(handler)), |layer| layer);
    let mut octets = b"a=b; ".repeat(MEBIBYTE / 5);
    octets.extend(format!("{NAME}={}", counted.live("red").await).bytes());
    let field = Bytes::from_owner(Field(octets, Arc::clone(&dropped)));
    let request = Request::post("/")
        .header(COOKIE, HeaderValue::from_maybe_shared(field).unwrap())
        .body(Body::empty())
        .unwrap();
    let answer = counted.app.clone().oneshot(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "1");
    assert_eq!(counted.store.take(), loads(1));
    assert!(dropped.load(Ordering::SeqCst));
}
