//! What a request presents, and what the layer takes for a session.

use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode, header::COOKIE};
use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::ServiceExt;
use tower_keep::testing::Counts;

use crate::{
    counted::{Counted, NAME, NONE, browser_at, cookie, cookies, loads, unknown_id},
    support::{Answer, Browser},
};

/// Reads the color by way of these headers.
pub(crate) async fn color(browser: &Browser, headers: HeaderMap) -> String {
    let answer = browser.send_with(Method::GET, "/get/color", headers).await;
    let answer = answer.assert_ok();
    assert_eq!(answer.set_cookies(), [""; 0]);
    answer.body
}

/// An untouched session.
#[tokio::test]
async fn a_handler_that_ignores_the_session_costs_nothing_ten_thousand_times() {
    let counted = Counted::new();
    let live = counted.live("red").await;
    let browser = counted.browser();
    for n in 0..10_000 {
        let headers = match n % 3 {
            0 => HeaderMap::new(),
            1 => cookie(&unknown_id()),
            _ => cookie(&live),
        };
        let answer = browser.send_with(Method::GET, "/ignored", headers).await;
        assert_eq!(answer.body, "ignored");
        assert_eq!(answer.set_cookies(), [""; 0]);
        assert_eq!(answer.header("vary"), None);
        assert_eq!(answer.header("cache-control"), None);
    }
    assert_eq!(counted.store.take(), NONE);
}

#[tokio::test]
async fn over_http_a_handler_that_ignores_the_session_adds_no_header() {
    let counted = Counted::new();
    let browser = browser_at(counted.serve().await);
    for headers in [HeaderMap::new(), cookie(&unknown_id())] {
        let answer = browser.send_with(Method::GET, "/ignored", headers).await;
        let mut names: Vec<_> = answer.headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "content-type", "date"]);
    }
    assert_eq!(counted.store.take(), NONE);
}

/// Session fixation.
#[tokio::test]
async fn a_write_under_an_unknown_id_gets_another_id_and_the_presented_one_stays_unknown() {
    let counted = Counted::new();
    for mut browser in counted.browsers().await {
        let planted = unknown_id();
        browser.set_cookie(NAME, &planted);
        let answer = browser.post("/put/color/red").await.assert_ok();
        answer.the_cookie();
        let given = browser.id().unwrap();
        assert_ne!(given, planted);
        let calls = Counts {
            load: 1,
            create: 1,
            ..NONE
        };
        assert_eq!(counted.store.take(), calls);
        assert!(counted.holds(given).await && !counted.holds(&planted).await);
        assert_eq!(color(&browser, cookie(&planted)).await, "-");
        assert_eq!(color(&browser, cookie(given)).await, "\"red\"");
        counted.store.take();
    }
    assert_eq!(counted.store.inner().count().await, 2);
}

/// Ids that are none. All but the last few are made of a live one, so that a lenient reader finds
/// its session.
fn malformed(live: &str) -> Vec<Vec<u8>> {
    let (start, last) = live.split_at(42);
    // The last of 43 characters carries four bits: the two below them must be zero.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = alphabet.find(last).unwrap();
    assert_eq!(place % 4, 0);
    let stray = |bits: usize| format!("{start}{}", &alphabet[place + bits..=place + bits]);
    let texts = [
        String::new(),
        "A".into(),
        live.repeat(96)[..4096].into(),
        start.into(),
        format!("{live}A"),
        format!("{live}="),
        format!("{live}=="),
        format!("={live}"),
        format!("\"{live}\""),
        format!("{start} {last}"),
        format!("{live},"),
        stray(1),
        stray(2),
        stray(3),
        format!("{start}+"),
        format!("{start}/"),
        format!("{start}%41"),
        format!("../{live}"),
        format!("../../../../{}", &live[..31]),
        format!("{}/../", &live[..38]),
        format!("{start}\u{e9}"),
        "A".repeat(1240),
    ];
    let mut all: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
    all.push([start.as_bytes(), b"\xff"].concat());
    all.push([live.as_bytes(), b"\xa0"].concat());
    all.push(vec![0xfe; 43]);
    all
}

fn presenting(value: &[u8]) -> HeaderMap {
    cookies([[NAME.as_bytes(), b"=", value].concat()])
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle)
}

#[tokio::test]
async fn a_malformed_id_is_nobody_and_neither_looked_up_nor_reflected() {
    let counted = Counted::new();
    let live = counted.live("red").await;
    for browser in counted.browsers().await {
        for bad in malformed(&live) {
            let headers = presenting(&bad);
            let answer = browser.send_with(Method::GET, "/get/color", headers).await;
            let shown = String::from_utf8_lossy(&bad);
            assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "-"));
            assert_eq!(answer.set_cookies(), [""; 0], "{shown}");
            assert_eq!(counted.store.take(), NONE, "{shown}");
            for value in answer.headers.values().filter(|_| bad.len() > 1) {
                assert!(!contains(value.as_bytes(), &bad), "{shown}: {value:?}");
            }
        }
    }
    assert_eq!(color(&counted.browser(), cookie(&live)).await, "\"red\"");
}

#[tokio::test]
async fn a_write_under_a_malformed_id_creates_a_session_of_its_own() {
    let counted = Counted::new();
    let live = counted.live("red").await;
    let browser = counted.browser();
    for bad in malformed(&live) {
        let headers = presenting(&bad);
        let path = "/put/color/blue";
        let answer = browser.send_with(Method::POST, path, headers).await;
        let set = answer.assert_ok().the_cookie();
        let given = &set[NAME.len() + 1..][..43];
        assert_ne!(given, live);
        assert_eq!(&set[NAME.len() + 44..][..1], ";");
        assert_eq!(counted.store.take(), Counts { create: 1, ..NONE });
    }
    assert_eq!(color(&browser, cookie(&live)).await, "\"red\"");
}

/// No header value of this process can hold a NUL or a line break, only the wire can.
#[tokio::test]
async fn a_nul_in_a_cookie_on_the_wire_reaches_no_store_and_is_not_reflected() {
    let counted = Counted::new();
    let live = counted.live("red").await;
    let address = counted.serve().await;
    for value in [format!("{live}\0"), format!("\0{live}")] {
        let head = format!("GET /get/color HTTP/1.1\r\nHost: x\r\nCookie: {NAME}={value}\r\n");
        let answer = raw(address, &head).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(!answer.contains("red") && !answer.contains(&live));
        assert!(!answer.to_lowercase().contains("set-cookie"));
        assert_eq!(counted.store.take(), NONE);
    }
    assert_eq!(color(&browser_at(address), cookie(&live)).await, "\"red\"");
}

/// Sends the head of a request and reads until the server has closed the connection.
async fn raw(address: std::net::SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{head}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Forged names.
#[tokio::test]
async fn a_name_that_only_looks_like_ours_is_not_ours() {
    let counted = Counted::new();
    let live = counted.live("red").await;
    let latin1 = [b"\xa0", NAME.as_bytes(), b"=", live.as_bytes()].concat();
    let texts = [
        format!("%5F%5FHost-id={live}"),
        format!("__Host%2Did={live}"),
        format!("__Host-id%20={live}"),
        format!("\u{2003}{NAME}={live}"),
        format!("{NAME}\u{2003}={live}"),
        format!("\u{a0}{NAME}={live}"),
        format!("\u{feff}{NAME}={live}"),
        format!("__host-id={live}"),
        format!("__HOST-ID={live}"),
        format!("__Host-ID={live}"),
        format!("_Host-id={live}"),
        format!("Host-id={live}"),
        format!("id={live}"),
        format!("__Secure-id={live}"),
        format!("x{NAME}={live}"),
        format!("{NAME}x={live}"),
        format!("\"{NAME}\"={live}"),
        format!("${NAME}={live}"),
        format!("={live}"),
        live.clone(),
        format!("={NAME}={live}"),
        format!("a={NAME}={live}"),
        format!("a=b, {NAME}={live}"),
        format!("a=\"b; c\" {NAME}={live}"),
        format!("{NAME}:{live}"),
        format!("{NAME} {live}"),
    ];
    let forged = texts.into_iter().map(String::into_bytes).chain([latin1]);
    let forged: Vec<_> = forged.collect();
    for browser in counted.browsers().await {
        for field in &forged {
            let shown = String::from_utf8_lossy(field);
            assert_eq!(color(&browser, cookies([field])).await, "-", "{shown}");
            assert_eq!(counted.store.take(), NONE, "{shown}");
            // Beside the genuine one it is no second candidate either.
            let genuine = format!("{NAME}={live}");
            let both = cookies([field.as_slice(), genuine.as_bytes()]);
            assert_eq!(color(&browser, both).await, "\"red\"", "{shown}");
            assert_eq!(counted.store.take(), loads(1), "{shown}");
        }
    }
}

/// Everything that may stand around the live cookie, in order of its place among the fields.
fn crowds(live: &str) -> Vec<Vec<Vec<u8>>> {
    let ours = format!("{NAME}={live}").into_bytes();
    let mut others: Vec<Vec<u8>> = (0..100)
        .map(|n| format!("other{n}=value{n}").into_bytes())
        .collect();
    let broken: [&[u8]; 10] = [
        b"",
        b";;; ;",
        b"=",
        b"novalue",
        b"a=\"unclosed",
        b"\xff\xfe=\xfd",
        b"x=%zz%",
        b"__Host-id",
        b"__Host-id=",
        b"__Host-id=too-short",
    ];
    others.extend(broken.map(<[u8]>::to_vec));
    let placed = |place: usize| {
        let mut all = others.clone();
        all.insert(place, ours.clone());
        all
    };
    vec![placed(0), placed(55), placed(others.len())]
}

#[tokio::test]
async fn the_live_cookie_is_found_among_a_hundred_others_and_broken_ones() {
    let counted = Counted::new();
    let live = counted.live("red").await;
    let address = counted.serve().await;
    for browser in [counted.browser(), browser_at(address)] {
        for crowd in crowds(&live) {
            let joined = crowd.join(&b"; "[..]);
            let tight = crowd.join(&b';');
            let halves = crowd.split_at(50);
            let halves = [halves.0, halves.1].map(|half| half.join(&b"; "[..]));
            // Hyper takes at most a hundred fields in HTTP/1.
            let tens: Vec<_> = crowd.chunks(10).map(|ten| ten.join(&b"; "[..])).collect();
            for headers in [
                cookies([joined]),
                cookies([tight]),
                cookies(halves),
                cookies(tens),
            ] {
                assert_eq!(color(&browser, headers).await, "\"red\"");
                assert_eq!(counted.store.take(), loads(1));
            }
        }
    }
}

/// HTTP/2 clients may split a Cookie field (RFC 9113, section 8.2.3).
#[tokio::test]
async fn over_http_2_the_live_cookie_is_found_with_each_cookie_in_a_field_of_its_own() {
    let counted = Counted::new();
    let live = counted.live("red").await;
    let address = counted.serve().await;
    for crowd in crowds(&live) {
        let client = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build_http::<Body>();
        let mut request = Request::get(format!("http://{address}/get/color"));
        *request.headers_mut().unwrap() = cookies(crowd);
        let request = request.body(Body::empty()).unwrap();
        assert_eq!(request.headers().get_all(COOKIE).iter().count(), 111);
        let answer = client.request(request).await.unwrap();
        assert_eq!(answer.version(), http::Version::HTTP_2);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "\"red\"");
        assert_eq!(counted.store.take(), loads(1));
    }
}

/// Both in one field, and each in its own.
fn pairs(first: &str, second: &str) -> [HeaderMap; 2] {
    let [first, second] = [first, second].map(|id| format!("{NAME}={id}"));
    [
        cookies([format!("{first}; {second}")]),
        cookies([first, second]),
    ]
}

#[tokio::test]
async fn beside_unknown_ids_the_live_session_is_found_in_any_order() {
    let counted = Counted::new();
    let live = counted.live("red").await;
    let unknown = unknown_id();
    for browser in counted.browsers().await {
        for (first, second) in [(&live, &unknown), (&unknown, &live)] {
            for headers in pairs(first, second) {
                assert_eq!(color(&browser, headers.clone()).await, "\"red\"");
                assert_eq!(counted.store.take(), loads(2));
                let path = "/put/color/red";
                let same = browser.send_with(Method::POST, path, headers).await;
                assert_eq!(same.assert_ok().set_cookies(), [""; 0]);
                assert_eq!(counted.store.take(), loads(2));
            }
        }
        for headers in pairs(&live, &live) {
            assert_eq!(color(&browser, headers).await, "\"red\"");
            assert_eq!(counted.store.take(), loads(1), "one id twice is one");
        }
    }
    assert_eq!(counted.store.inner().count().await, 1);
}

#[tokio::test]
async fn of_two_live_sessions_neither_is_used_in_any_order_and_both_live_on() {
    let counted = Counted::new();
    let (red, blue) = (counted.live("red").await, counted.live("blue").await);
    for browser in counted.browsers().await {
        for (first, second) in [(&red, &blue), (&blue, &red)] {
            for headers in pairs(first, second) {
                assert_eq!(color(&browser, headers.clone()).await, "-");
                assert_eq!(counted.store.take(), loads(2));
                let path = "/optional";
                let answer = browser.send_with(Method::GET, path, headers.clone()).await;
                assert_eq!(answer.body, "none");
                let path = "/put/color/green";
                let answer = browser.send_with(Method::POST, path, headers).await;
                let set = answer.assert_ok().the_cookie();
                assert!(!set.contains(&*red) && !set.contains(&*blue), "{set}");
                let created = counted.store.take();
                assert_eq!((created.create, created.update), (1, 0));
            }
        }
        assert_eq!(color(&browser, cookie(&red)).await, "\"red\"");
        assert_eq!(color(&browser, cookie(&blue)).await, "\"blue\"");
        counted.store.take();
    }
}

/// Only the cookie counts.
#[tokio::test]
async fn an_id_in_a_query_a_form_a_path_or_another_header_is_nobody() {
    let counted = Counted::new();
    let live = counted.live("red").await;
    let form = "application/x-www-form-urlencoded";
    let pair = format!("{NAME}={live}");
    let request = |path: &str| Request::get(path.to_owned());
    let mut requests = vec![
        request(&format!("/get/color?{pair}")).body(Body::empty()),
        request(&format!("/get/color?id={live}")).body(Body::empty()),
        request(&format!("/get/color;{pair}")).body(Body::empty()),
        request(&format!("/get/{live}")).body(Body::empty()),
        request(&format!("/get/color/../{pair}")).body(Body::empty()),
        Request::post("/count/visits")
            .header("content-type", form)
            .body(Body::from(pair.clone())),
    ];
    for (name, value) in [
        ("authorization", format!("Bearer {live}")),
        ("authorization", pair.clone()),
        ("x-session-id", live.clone()),
        ("x-cookie", pair.clone()),
        ("cookie2", pair.clone()),
        ("set-cookie", pair.clone()),
        ("__host-id", live.clone()),
        ("referer", format!("https://example.org/?{pair}")),
        ("forwarded", pair.clone()),
    ] {
        let request = request("/get/color").header(name, value);
        requests.push(request.body(Body::empty()));
    }
    for request in requests {
        let request = request.unwrap();
        let shown = format!("{request:?}");
        let answer = counted.app.clone().oneshot(request).await.unwrap();
        let answer = Answer::read(answer).await;
        assert!(!answer.body.contains("red"), "{shown}");
        assert!(!answer.set_cookies().concat().contains(&live), "{shown}");
        let calls = counted.store.take();
        assert_eq!((calls.load, calls.update), (0, 0), "{shown}");
    }
    assert_eq!(color(&counted.browser(), cookie(&live)).await, "\"red\"");
}
