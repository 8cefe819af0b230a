//! What the shop promises, tried with browsers that have nothing but a cookie each.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{sync::LazyLock, time::Duration};

use axum::{Router, body::Body};
use http::{
    HeaderMap, Request, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE,
        USER_AGENT,
    },
};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_keep::{stores, testing::ManualClock};

use crate::{
    app::{Users, sessions, site},
    arguments::Arguments,
};

#[tokio::test]
async fn a_wrong_password_signs_nobody_in() {
    let shop = shop().await;
    for form in ["user=ada&password=hopper", "user=eve&password=lovelace"] {
        let mut browser = Browser::new(&shop, "Firefox");
        let answer = browser.post("/sign-in", form).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.body.contains("Wrong name or password"));
        assert_eq!(browser.cookie, None, "no session begins");
    }
}

#[tokio::test]
async fn what_people_type_is_shown_escaped() {
    const TYPED: &str = "user=%3Cscript%3E%22%27%26&password=x";
    let shop = shop().await;
    let mut browser = Browser::new(&shop, "<script>\"&");
    let answer = browser.post("/sign-in", TYPED).await;
    let expected = "value=\"&lt;script&gt;&quot;&#39;&amp;\"";
    assert!(answer.body.contains(expected), "{}", answer.body);

    browser.post("/sign-in", ADA).await;
    let card = "good=Card&words=%3Cscript%3E%22%27%26";
    browser.post("/cart/add", card).await;
    for (path, expected) in [
        ("/", "Card: &lt;script&gt;&quot;&#39;&amp; is in the cart."),
        ("/", "value=\"Card: &lt;script&gt;&quot;&#39;&amp;\""),
        ("/devices", "&lt;script&gt;&quot;&amp;"),
    ] {
        // The message is on the first page alone.
        let body = browser.get(path).await.body;
        assert!(body.contains(expected), "{body}");
        assert!(!body.contains("<script"), "{body}");
    }
}

#[tokio::test]
async fn the_cart_survives_the_sign_in_under_a_new_id() {
    let shop = shop().await;
    let mut browser = Browser::new(&shop, "Firefox");
    browser.post("/cart/add", "good=Tea").await;
    let before = browser.cookie.clone();
    browser.post("/sign-in", ADA).await;
    assert_ne!(browser.cookie, before);
    let body = browser.get("/").await.body;
    assert!(body.contains("1 × Tea"), "{body}");

    let mut thief = Browser::new(&shop, "Firefox");
    thief.cookie = before;
    assert!(!thief.get("/").await.body.contains("1 × Tea"));
}

#[tokio::test]
async fn the_cart_adds_up_and_what_is_removed_is_gone() {
    let shop = shop().await;
    let mut browser = Browser::new(&shop, "Firefox");
    for good in ["Tea", "Tea", "Honey"] {
        browser.post("/cart/add", &format!("good={good}")).await;
    }
    let body = browser.get("/").await.body;
    assert!(body.contains("2 × Tea"), "{body}");
    assert!(body.contains("<b>€ 16.99</b>"), "{body}");

    browser.post("/cart/remove", "title=Tea").await;
    let body = browser.get("/").await.body;
    assert!(!body.contains("× Tea"), "{body}");
    assert!(body.contains("<b>€ 7.99</b>"), "{body}");

    let answer = browser.post("/cart/add", "good=Gold").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_cart_has_a_bound() {
    let shop = shop().await;
    let mut browser = Browser::new(&shop, "Firefox");
    for number in 0..=20 {
        let card = format!("good=Card&words={number}{}", "x".repeat(200));
        browser.post("/cart/add", &card).await;
    }
    let body = browser.get("/").await.body;
    assert!(body.contains("The cart is full."), "{body}");
    assert_eq!(body.matches("1 × Card").count(), 20, "{body}");
    assert!(!body.contains(&"x".repeat(80)), "{body}");
}

#[tokio::test]
async fn a_message_is_shown_once_after_the_redirect() {
    const MESSAGE: &str = "<p class=flash role=status>Tea is in the cart.</p>";
    let shop = shop().await;
    let mut browser = Browser::new(&shop, "Firefox");
    let answer = browser.post("/cart/add", "good=Tea").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.headers[LOCATION], "/");
    assert!(browser.get("/").await.body.contains(MESSAGE));
    assert!(!browser.get("/").await.body.contains(MESSAGE));
}

#[tokio::test]
async fn visits_are_counted() {
    let shop = shop().await;
    let mut browser = Browser::new(&shop, "Firefox");
    for visits in 1..=3 {
        let body = browser.get("/").await.body;
        assert!(body.contains(&format!("Your visits: {visits}<")), "{body}");
    }
}

#[tokio::test]
async fn ending_one_device_signs_it_out_and_no_other() {
    let shop = shop().await;
    let mut here = Browser::signed_in(&shop, "Firefox", ADA).await;
    let mut lost = Browser::signed_in(&shop, "curl/8.5.0", ADA).await;
    let mut third = Browser::signed_in(&shop, "Safari", ADA).await;

    let list = here.get("/devices").await.body;
    assert_eq!(list.matches("<li ").count(), 3, "{list}");
    assert_eq!(list.matches("this device").count(), 1, "{list}");
    let id = id_of("curl/8.5.0", &list);
    let answer = here.post("/devices/end", &format!("device={id}")).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);

    assert!(here.is_signed_in().await);
    assert!(!lost.is_signed_in().await);
    assert!(third.is_signed_in().await);
}

#[tokio::test]
async fn ending_the_device_of_another_user_is_not_found_and_ends_nothing() {
    let shop = shop().await;
    let mut ada = Browser::signed_in(&shop, "Firefox", ADA).await;
    let mut grace = Browser::signed_in(&shop, "Chrome", GRACE).await;
    let mut second = Browser::signed_in(&shop, "Safari", GRACE).await;
    let id = id_of("Chrome", &second.get("/devices").await.body);
    let answer = ada.post("/devices/end", &format!("device={id}")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let mut stranger = Browser::new(&shop, "Opera");
    stranger.post("/devices/end", &format!("device={id}")).await;
    stranger.post("/devices/end-others", "").await;
    assert!(grace.is_signed_in().await);
}

#[tokio::test]
async fn ending_all_others_keeps_this_one_and_those_of_others() {
    let shop = shop().await;
    let mut here = Browser::signed_in(&shop, "Firefox", ADA).await;
    let mut lost = Browser::signed_in(&shop, "Chrome", ADA).await;
    let mut third = Browser::signed_in(&shop, "Safari", ADA).await;
    let mut grace = Browser::signed_in(&shop, "Edge", GRACE).await;

    here.post("/devices/end-others", "").await;
    let list = here.get("/devices").await.body;
    assert!(list.contains("Signed out elsewhere: 2."), "{list}");
    assert_eq!(list.matches("<li ").count(), 1, "{list}");
    assert!(!lost.is_signed_in().await);
    assert!(!third.is_signed_in().await);
    assert!(grace.is_signed_in().await);
}

#[tokio::test]
async fn who_wants_to_be_remembered_has_a_cookie_with_an_age() {
    let shop = shop().await;
    let mut browser = Browser::new(&shop, "Firefox");
    let answer = browser
        .post("/sign-in", &format!("{ADA}&remember=on"))
        .await;
    let two_weeks = "; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=1209600";
    let cookie = answer.cookie();
    assert!(cookie.starts_with("__Host-demo="), "{cookie}");
    assert!(cookie.ends_with(two_weeks), "{cookie}");

    let mut browser = Browser::new(&shop, "Firefox");
    let answer = browser.post("/sign-in", ADA).await;
    let cookie = answer.cookie();
    assert!(cookie.ends_with("; Secure; Path=/"), "{cookie}");
}

#[tokio::test]
async fn pages_are_not_stored_and_run_no_scripts() {
    let shop = shop().await;
    let mut browser = Browser::signed_in(&shop, "Firefox", ADA).await;
    for path in ["/", "/", "/devices", "/sign-in"] {
        let answer = browser.get(path).await;
        assert_eq!(answer.headers[CACHE_CONTROL], "no-store", "{path}");
        let policy = answer.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'self'"));
    }
}

#[tokio::test]
async fn a_page_that_renews_the_cookie_is_not_stored_either() {
    let store = stores::open("memory:").await.unwrap();
    let clock = ManualClock::new();
    let sessions = sessions(store).with_clock(clock.clone());
    let shop = site(USERS.clone(), None, sessions);
    let mut browser = Browser::new(&shop, "Firefox");
    browser
        .post("/sign-in", &format!("{ADA}&remember=on"))
        .await;
    for path in ["/", "/", "/devices"] {
        clock.advance(Duration::from_secs(60));
        let answer = browser.get(path).await;
        answer.cookie();
        assert_eq!(answer.headers[CACHE_CONTROL], "no-store", "{path}");
    }
}

#[tokio::test]
async fn a_form_of_another_site_is_refused() {
    let shop = shop().await;
    for (from, status) in [
        (
            [("sec-fetch-site", "same-origin"), HERE],
            StatusCode::SEE_OTHER,
        ),
        ([("sec-fetch-site", "none"), HERE], StatusCode::SEE_OTHER),
        (
            [("sec-fetch-site", "same-site"), HERE],
            StatusCode::FORBIDDEN,
        ),
        (
            [("sec-fetch-site", "cross-site"), HERE],
            StatusCode::FORBIDDEN,
        ),
        // Browsers that do not send the field.
        (
            [("origin", "http://localhost:3000"), HERE],
            StatusCode::SEE_OTHER,
        ),
        (
            [("origin", "http://localhost:4000"), HERE],
            StatusCode::FORBIDDEN,
        ),
        (
            [("origin", "http://evil.example"), HERE],
            StatusCode::FORBIDDEN,
        ),
        ([("origin", "null"), HERE], StatusCode::FORBIDDEN),
    ] {
        let mut browser = Browser::new(&shop, "Firefox");
        browser.headers = from.to_vec();
        let answer = browser.post("/sign-in", ADA).await;
        assert_eq!(answer.status, status, "{from:?}");
        assert_eq!(browser.get("/").await.status, StatusCode::OK, "{from:?}");
    }
}

#[tokio::test]
async fn a_sign_out_ends_the_session_and_removes_the_cookie() {
    let shop = shop().await;
    let mut browser = Browser::signed_in(&shop, "Firefox", ADA).await;
    let mut copy = Browser::new(&shop, "Firefox");
    copy.cookie = browser.cookie.clone();
    browser.post("/sign-out", "").await;
    assert_eq!(browser.cookie, None);
    assert!(!copy.is_signed_in().await);
}

#[tokio::test]
async fn a_store_that_lists_no_sessions_is_said_to_be_one() {
    let store = stores::open("memory:").await.unwrap();
    let shop = site(USERS.clone(), None, sessions(store));
    let mut browser = Browser::signed_in(&shop, "Firefox", ADA).await;
    let body = browser.get("/devices").await.body;
    assert!(body.contains("memcached keeps no index"), "{body}");
    let answer = browser.post("/devices/end-others", "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
}

#[test]
fn the_command_line_is_read() {
    let parse = |line: &str| Arguments::parse(line.split_whitespace().map(str::to_owned));
    let of = |store: Option<&str>, listen: &str| Arguments {
        store: store.map(str::to_owned),
        listen: listen.to_owned(),
    };
    assert_eq!(parse(""), Ok(of(None, "127.0.0.1:3000")));
    assert_eq!(
        parse("--listen 127.0.0.1:0 --store memory:"),
        Ok(of(Some("memory:"), "127.0.0.1:0"))
    );
    for wrong in ["--help", "--store", "memory: --store"] {
        assert!(parse(wrong).is_err_and(|usage| usage.starts_with("usage: demo")));
    }
}

async fn shop() -> Router {
    let store = stores::open("memory:").await.unwrap();
    let user_sessions = store.as_user_sessions();
    site(USERS.clone(), user_sessions, sessions(store))
}

/// The name that the list gives to another device, as its button sends it.
fn id_of(user_agent: &str, list: &str) -> String {
    let (_, item) = list
        .split_once(&format!("<p class=quiet>{user_agent}"))
        .unwrap();
    let (_, id) = item.split_once("value=").unwrap();
    id.split('>').next().unwrap().to_owned()
}

/// Keeps one cookie, as long as it is told to.
struct Browser {
    router: Router,
    user_agent: &'static str,
    cookie: Option<String>,
    /// What it says of the site on which a form was.
    headers: Vec<(&'static str, &'static str)>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn cookie(&self) -> &str {
        assert_eq!(self.headers.get_all(SET_COOKIE).iter().count(), 1);
        self.headers[SET_COOKIE].to_str().unwrap()
    }
}

impl Browser {
    fn new(shop: &Router, user_agent: &'static str) -> Self {
        Self {
            router: shop.clone(),
            user_agent,
            cookie: None,
            headers: Vec::new(),
        }
    }

    async fn signed_in(shop: &Router, user_agent: &'static str, form: &str) -> Self {
        let mut browser = Self::new(shop, user_agent);
        let answer = browser.post("/sign-in", form).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        browser
    }

    async fn is_signed_in(&mut self) -> bool {
        self.get("/devices").await.status == StatusCode::OK
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    async fn post(&mut self, path: &str, form: &str) -> Answer {
        self.send("POST", path, form).await
    }

    async fn send(&mut self, method: &str, path: &str, form: &str) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(USER_AGENT, self.user_agent)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(form.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        if let Some(cookie) = response.headers().get(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let pair = cookie.split(';').next().unwrap().to_owned();
            self.cookie = (!cookie.contains("Max-Age=0")).then_some(pair);
        }
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }
}

/// Hashing is slow on purpose; once is enough.
static USERS: LazyLock<Users> = LazyLock::new(Users::new);

const ADA: &str = "user=ada&password=lovelace";
const GRACE: &str = "user=grace&password=hopper";
const HERE: (&str, &str) = ("host", "localhost:3000");
