//! The router that the others' costs are told over.

use axum::{Router, routing::get};

/// The routes without sessions: numbers are constants.
pub fn bare() -> Router {
    Router::new()
        .route("/ignored", get(async || "ignored"))
        .route("/read", get(async || 2_u64.to_string()))
        .route("/increment", get(async || 3_u64.to_string()))
        .route("/fill/{keys}", get(async || ()))
}
