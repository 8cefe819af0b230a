//! What every answer says to the browser, and which requests are none of ours.

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
};

/// Pages are not stored, unless they say otherwise: the button "back" shows nobody what the user before him saw. Below
/// the layer of the sessions, which leaves this as it is and tells less where it sets a cookie.
pub(crate) async fn forbid_storing(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Nothing but what this site sends itself, and no scripts at all.
pub(crate) async fn add_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// `SameSite=Lax` keeps the cookie out of what other sites post. What they post is refused here nevertheless: a sign-in needs
/// no cookie, and neighbours under the same domain, or on another port of localhost, are the same site.
pub(crate) async fn refuse_forged(request: Request, next: Next) -> Response {
    if is_own(request.headers()) || request.method().is_safe() {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "that form is not of this site\n").into_response()
    }
}

/// Browsers of before 2023 know `Origin` alone; what sends neither is no browser, and has nobody's cookie.
fn is_own(headers: &HeaderMap) -> bool {
    if let Some(from) = headers.get("sec-fetch-site") {
        return from == "same-origin" || from == "none";
    }
    headers.get(ORIGIN).is_none_or(|origin| {
        let (origin, host) = (origin.as_bytes(), headers.get(HOST));
        let origin = origin.splitn(2, |byte| *byte == b'/').nth(1);
        let authority = origin.and_then(|rest| rest.strip_prefix(b"/"));
        authority.is_some() && authority == host.map(HeaderValue::as_bytes)
    })
}

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);
