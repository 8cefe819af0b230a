//! One of those that are compared, and the client that asks it.

use std::{fmt, pin::Pin};

use axum::{
    Router,
    body::{Body, to_bytes},
};
use http::{
    HeaderMap, HeaderValue, Request, Uri,
    header::{COOKIE, SET_COOKIE},
};
use tower::ServiceExt;

/// A service with the routes `/read`, `/increment` and `/fill/{keys}` of the harness.
pub struct Contender {
    pub name: &'static str,
    send: Send,
}

/// Sends one request so many times, one after the other, and gives the last answer.
pub type Send = Box<dyn Fn(Requests) -> Pin<Box<dyn Future<Output = Answer>>>>;

#[derive(Clone, Debug)]
pub struct Requests {
    pub uri: Uri,
    pub cookie: HeaderValue,
    pub times: u32,
}

#[derive(Debug)]
pub struct Answer {
    /// What a browser would send back.
    pub cookie: Option<HeaderValue>,
    pub body: String,
}

impl Contender {
    pub fn new(name: &'static str, send: Send) -> Self {
        Self { name, send }
    }

    pub async fn ask(&self, path: &str, cookie: &HeaderValue) -> Answer {
        let uri = Uri::try_from(path).expect("a path");
        let cookie = cookie.clone();
        self.send(Requests {
            uri,
            cookie,
            times: 1,
        })
        .await
    }

    pub async fn send(&self, requests: Requests) -> Answer {
        (self.send)(requests).await
    }
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Contender({})", self.name)
    }
}

pub fn over_axum(app: Router) -> Send {
    Box::new(move |requests| {
        let app = app.clone();
        Box::pin(async move {
            let mut last = None;
            for _ in 0..requests.times {
                let mut request = Request::new(Body::empty());
                *request.uri_mut() = requests.uri.clone();
                let headers = request.headers_mut();
                headers.insert(COOKIE, requests.cookie.clone());
                let Ok(answer) = app.clone().oneshot(request).await;
                assert!(answer.status().is_success());
                last = Some(answer);
            }
            let (head, body) = last.expect("a request").into_parts();
            let body = to_bytes(body, usize::MAX).await.expect("a body");
            Answer::new(&head.headers, &body)
        })
    })
}

impl Answer {
    fn new(headers: &HeaderMap, body: &[u8]) -> Self {
        let set = headers.get_all(SET_COOKIE).iter();
        let set: Vec<_> = set.map(HeaderValue::as_bytes).collect();
        Self::of(&set, body)
    }

    pub fn of(set: &[&[u8]], body: &[u8]) -> Self {
        let pairs = set.iter().map(|set| set.split(|b| *b == b';').next());
        let pairs: Vec<_> = pairs.flatten().collect();
        let cookie = HeaderValue::from_bytes(&pairs.join(&b"; "[..])).expect("a value");
        Self {
            cookie: (!set.is_empty()).then_some(cookie),
            body: String::from_utf8_lossy(body).into_owned(),
        }
    }

    /// Bytes of the values of all cookies.
    pub fn values_len(&self) -> usize {
        let cookie = self.cookie.as_ref().map_or(&b""[..], |c| c.as_bytes());
        let values = cookie.split(|byte| *byte == b';').map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=');
            equals.map_or(0, |equals| pair.len() - equals - 1)
        });
        values.sum()
    }
}
