//! A client that keeps cookies as RFC 6265bis tells browsers to, as far as these tests need it.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, body::Body};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{COOKIE, SET_COOKIE},
};
use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::ServiceExt;

/// How a browser reaches the application.
#[derive(Clone)]
pub enum Transport {
    /// By a call.
    InProcess(Router),
    /// Over real HTTP on the loopback interface.
    Http(SocketAddr),
}

/// A browser with its cookies. A clone has a jar of its own from then on.
#[derive(Clone)]
pub struct Browser {
    transport: Transport,
    jar: Vec<Kept>,
}

/// What came back, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    name: String,
    value: String,
    domain: Option<String>,
    path: String,
    max_age: Option<i64>,
}

impl Browser {
    /// A browser that calls the application in this process.
    pub fn new(app: &Router) -> Self {
        Self::over(Transport::InProcess(app.clone()))
    }

    /// A browser over real HTTP; the server ends with the runtime.
    pub async fn over_http(app: &Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = app.clone();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self::over(Transport::Http(address))
    }

    pub fn over(transport: Transport) -> Self {
        Self {
            transport,
            jar: Vec::new(),
        }
    }

    /// Another browser at the same application, without cookies.
    pub fn stranger(&self) -> Self {
        Self::over(self.transport.clone())
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path).await
    }

    pub async fn post(&mut self, path: &str) -> Answer {
        self.send(Method::POST, path).await
    }

    /// Sends a request with the cookies of the jar, and keeps what the answer sets.
    pub async fn send(&mut self, method: Method, path: &str) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(cookies) = self.cookie_header() {
            headers.insert(COOKIE, HeaderValue::from_str(&cookies).unwrap());
        }
        let answer = self.send_with(method, path, headers).await;
        self.keep(&answer);
        answer
    }

    /// Sends exactly these headers and keeps nothing.
    pub async fn send_with(&self, method: Method, path: &str, headers: HeaderMap) -> Answer {
        let mut request = Request::builder().method(method);
        *request.headers_mut().unwrap() = headers;
        match &self.transport {
            Transport::InProcess(app) => {
                let request = request.uri(path).body(Body::empty()).unwrap();
                Answer::read(app.clone().oneshot(request).await.unwrap()).await
            }
            Transport::Http(address) => {
                let uri = format!("http://{address}{path}");
                let request = request.uri(uri).body(Body::empty()).unwrap();
                let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
                Answer::read(client.request(request).await.unwrap()).await
            }
        }
    }

    /// The value of a cookie in the jar.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let kept = self.jar.iter().find(|kept| kept.name == name)?;
        Some(&kept.value)
    }

    /// The value of the session cookie under its default name.
    pub fn id(&self) -> Option<&str> {
        self.cookie("__Host-id")
    }

    /// How long the session cookie lives, or `None` if it ends with the browser (or is not there).
    pub fn max_age(&self) -> Option<Duration> {
        let kept = self.jar.iter().find(|kept| kept.name == "__Host-id")?;
        kept.max_age
            .map(|secs| Duration::from_secs(secs.unsigned_abs()))
    }

    /// Puts a cookie into the jar, as if a server had set it.
    pub fn set_cookie(&mut self, name: &str, value: &str) {
        self.jar.retain(|kept| kept.name != name);
        self.jar.push(Kept {
            name: name.into(),
            value: value.into(),
            domain: None,
            path: "/".into(),
            max_age: None,
        });
    }

    /// How many cookies there are in the jar.
    pub fn cookie_count(&self) -> usize {
        self.jar.len()
    }

    /// Closes the browser: cookies without an age go.
    pub fn restart(&mut self) {
        self.jar.retain(|kept| kept.max_age.is_some());
    }

    pub fn cookie_header(&self) -> Option<String> {
        let pair = |kept: &Kept| format!("{}={}", kept.name, kept.value);
        let pairs: Vec<String> = self.jar.iter().map(pair).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    fn keep(&mut self, answer: &Answer) {
        for set in answer.set_cookies() {
            let Some(cookie) = parse(&set) else { continue };
            let same = |kept: &Kept| {
                (&kept.name, &kept.domain, &kept.path)
                    == (&cookie.name, &cookie.domain, &cookie.path)
            };
            self.jar.retain(|kept| !same(kept));
            if cookie.max_age.is_none_or(|age| age > 0) {
                self.jar.push(cookie);
                assert!(self.jar.len() <= COOKIES_MAX, "a browser drops the oldest");
            }
        }
    }
}

impl Answer {
    pub async fn read<B>(response: Response<B>) -> Self
    where
        B: http_body::Body,
        B::Error: std::fmt::Debug,
    {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(body.into()).unwrap(),
        }
    }

    pub fn set_cookies(&self) -> Vec<String> {
        let cookies = self.headers.get_all(SET_COOKIE).iter();
        cookies.map(|c| c.to_str().unwrap().to_owned()).collect()
    }

    /// The one cookie that is set; fails if there is none or another one too.
    #[track_caller]
    pub fn the_cookie(&self) -> String {
        let [cookie] = &self.set_cookies()[..] else {
            panic!("not exactly one cookie: {:?}", self.set_cookies());
        };
        cookie.clone()
    }

    /// A header's value, or `None`; fails if it is there twice.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert_eq!(values.next(), None, "{name} is there twice");
        Some(value.to_str().unwrap())
    }

    #[track_caller]
    pub fn assert_ok(self) -> Self {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self
    }
}

/// What a browser on a trustworthy origin keeps of a `Set-Cookie`, or `None` if it refuses it.
fn parse(set: &str) -> Option<Kept> {
    let mut parts = set.split(';').map(str::trim);
    let (name, value) = parts.next()?.split_once('=')?;
    let (mut domain, mut path, mut max_age) = (None, None, None);
    let (mut secure, mut same_site_none, mut partitioned) = (false, false, false);
    for attribute in parts {
        let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        match key.to_ascii_lowercase().as_str() {
            "domain" => domain = Some(value.to_ascii_lowercase()),
            "path" => path = Some(value.to_owned()),
            "max-age" => max_age = Some(value.parse::<i64>().ok()?.min(MAX_AGE_MAX)),
            "secure" => secure = true,
            "samesite" => same_site_none = value.eq_ignore_ascii_case("none"),
            "partitioned" => partitioned = true,
            _ => {}
        }
    }
    let host_prefix = name.to_ascii_lowercase().starts_with("__host-");
    let secure_prefix = name.to_ascii_lowercase().starts_with("__secure-");
    let refused = (host_prefix && !(secure && domain.is_none() && path.as_deref() == Some("/")))
        || (secure_prefix && !secure)
        || (same_site_none && !secure)
        || (partitioned && !secure)
        // Names, values and attributes counted, as RFC 6265, section 6.1, has it: the strictest browsers do.
        || set.len() > 4096;
    (!refused).then(|| Kept {
        name: name.into(),
        value: value.into(),
        domain,
        path: path.unwrap_or_else(|| "/".into()),
        max_age,
    })
}

/// What a browser keeps of one host at least (RFC 6265, section 6.1).
const COOKIES_MAX: usize = 50;

/// 400 days, RFC 6265bis, section 5.5.
const MAX_AGE_MAX: i64 = 34_560_000;
