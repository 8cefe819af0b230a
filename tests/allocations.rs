//! What the layer costs a request that leaves its session alone, in heap allocations.

#![allow(clippy::unwrap_used, missing_docs)]

use std::convert::Infallible;

use allocation_counter::measure;
use axum::{Router, body::Body, response::Response, routing::get};
use http::{HeaderValue, Request, header::COOKIE};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, ServiceExt};
use tower_keep::{MemoryStore, SessionLayer};

/// The futures that axum boxes around every layer are among them.
const ADDED_MAX: u64 = 7;

#[test]
fn an_untouched_session_adds_at_most_7_allocations_to_a_request() {
    let sessions = SessionLayer::new(MemoryStore::new());
    let bare = Router::new().route("/", get(async || "hello"));
    let layered = bare.clone().layer(sessions.clone());
    let around = sessions.layer(bare.clone());
    let unknown = format!("a=b; __Host-id={}", "A".repeat(43));
    // As hyper's, the value shares its bytes with others: a clone allocates nothing.
    let shared: HeaderValue = unknown.parse().unwrap();
    for cookie in [None, Some(&shared)] {
        let base = allocations(bare.clone(), cookie);
        let added_by_axum_too = allocations(layered.clone(), cookie) - base;
        let added = allocations(around.clone(), cookie) - base;
        println!("{added_by_axum_too} as a layer of the router, {added} around it");
        assert!(added_by_axum_too <= ADDED_MAX, "{added_by_axum_too}");
        assert!(added <= added_by_axum_too, "{added}");
    }
}

/// The allocations of this thread for one request, once everything is warm.
fn allocations<S>(mut service: S, cookie: Option<&HeaderValue>) -> u64
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    let runtime = Builder::new_current_thread().build().unwrap();
    let mut counts = [0; 8];
    for count in &mut counts {
        let mut request = Request::new(Body::empty());
        if let Some(cookie) = cookie {
            request.headers_mut().insert(COOKIE, cookie.clone());
        }
        *count = measure(|| answer(&runtime, &mut service, request)).count_total;
    }
    let [.., one, another] = counts;
    assert_eq!(one, another, "still warming up: {counts:?}");
    another
}

fn answer<S>(runtime: &Runtime, service: &mut S, request: Request<Body>)
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    let response = runtime.block_on(async { service.ready().await?.call(request).await });
    assert_eq!(response.unwrap().status(), 200);
}
