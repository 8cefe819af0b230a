//! What every answer says to the browser, and which requests are none of ours.

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
};

/// Nothing but what this site sends itself, and no scripts at all. Pages are not stored, unless they say otherwise: the
/// button "back" shows nobody what the user before him saw.
pub(crate) async fn add_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// `SameSite=Lax` keeps the cookie out of what other sites post. What they post is refused here nevertheless: a sign-in needs
/// no cookie, and neighbours under the same domain, or on another port of localhost, are the same site.
pub(crate) async fn refuse_forged(request: Request, next: Next) -> Response {
    let from = request.headers().get("sec-fetch-site");
    // Without the field it is no browser of today, and nobody's cookie is at stake.
    let own = from.is_none_or(|from| from == "same-origin" || from == "none");
    if own || request.method().is_safe() {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "that form is not of this site\n").into_response()
    }
}

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);
