//! One of those that are compared.

use axum::{
    Router,
    body::{Body, to_bytes},
};
use http::{
    HeaderValue, Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use tower_service::Service;

use crate::cases::Case;

/// A router with the routes of [`Case::path`].
#[derive(Debug)]
pub struct Contender {
    /// With its version.
    pub name: &'static str,
    app: Router,
}

/// A client that sends the same request again and again.
#[derive(Debug)]
pub(crate) struct Client {
    app: Router,
    path: &'static str,
    cookie: Option<HeaderValue>,
}

impl Contender {
    pub fn new(name: &'static str, app: Router) -> Self {
        Self { name, app }
    }

    /// A client with the session of a case, which is seen to work.
    pub(crate) async fn client(&self, case: &Case) -> Client {
        let mut client = Client {
            app: self.app.clone(),
            path: case.path,
            cookie: None,
        };
        let Some(keys) = case.keys else {
            return client;
        };
        let fill = Request::get(format!("/fill/{keys}")).body(Body::empty());
        let filled = client.send(fill.expect("a request")).await;
        let pairs: Vec<&str> = filled
            .headers()
            .get_all(SET_COOKIE)
            .iter()
            .map(pair)
            .collect();
        let is_bare = pairs.is_empty();
        let cookies = if is_bare {
            "id=none".to_owned()
        } else {
            pairs.join("; ")
        };
        client.cookie = Some(HeaderValue::try_from(cookies).expect("cookies"));
        if !is_bare && case.path != "/ignored" {
            for visits in ["1", "2"] {
                assert_eq!(client.answer("/increment").await, visits, "{}", self.name);
            }
            assert_eq!(client.answer("/read").await, "2", "{}", self.name);
        }
        client
    }
}

impl Client {
    /// Sends the request so many times, one after the other.
    pub(crate) async fn repeat(&mut self, times: u32) {
        for _ in 0..times {
            let request = self.request(self.path);
            let response = self.send(request).await;
            assert!(response.status().is_success());
        }
    }

    async fn answer(&mut self, path: &str) -> String {
        let request = self.request(path);
        let body = self.send(request).await.into_body();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        String::from_utf8(body.into()).expect("text")
    }

    fn request(&self, path: &str) -> Request<Body> {
        let mut request = Request::get(path).body(Body::empty()).expect("a request");
        if let Some(cookie) = &self.cookie {
            request.headers_mut().insert(COOKIE, cookie.clone());
        }
        request
    }

    async fn send(&mut self, request: Request<Body>) -> Response<Body> {
        match self.app.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

fn pair(set: &HeaderValue) -> &str {
    let set = set.to_str().expect("a cookie");
    set.split(';').next().unwrap_or(set)
}
