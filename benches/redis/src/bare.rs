//! The application without sessions: numbers are constants.

use axum::{
    Router,
    http::header::SET_COOKIE,
    response::{AppendHeaders, IntoResponse},
    routing::get,
};

pub fn router() -> Router {
    Router::new()
        .route("/login", get(login))
        .route("/untouched", get(async || "untouched"))
        .route("/read", get(async || 2_u64.to_string()))
        .route("/increment", get(async || 3_u64.to_string()))
}

/// So that its requests have a cookie as the others' have.
async fn login() -> impl IntoResponse {
    AppendHeaders([(SET_COOKIE, "id=wJ0p1pnqgnT9Zz4OeN1y3m1eS0jJXkhYF5dVb7s6xQk")])
}
