//! What somebody who has copied all keys of a server can do with them: nothing.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use redis::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower_keep::{CachedStore, MemcachedCache, MemcachedStore, RedisCache, SessionStore};
use tower_keep_servers::{Kind, Server};

use crate::{
    memcached_faults::ask,
    redis_places::{Place, Which, on_each_topology},
    support::{Browser, PATIENCE, app, layer_over},
};

on_each_topology!(no_key_and_no_value_of_redis_tells_an_id);

/// Sessions of which notes, indexes and copies are left.
async fn used(store: impl SessionStore) -> (Browser, Vec<Browser>) {
    let thief = Browser::new(&app(layer_over(store)));
    let mut browsers = Vec::new();
    for path in ["/put/cart/book", "/login/ada", "/login/grace", "/count/n"] {
        let mut browser = thief.clone();
        browser.post("/put/first/1").await.assert_ok();
        browser.post(path).await.assert_ok();
        browser.post("/cycle").await.assert_ok();
        browser.get("/dump").await.assert_ok();
        let mut ended = browser.clone();
        ended.post("/cycle").await.assert_ok();
        ended.post("/logout").await.assert_ok();
        browsers.push(browser.clone());
        let mut live = thief.clone();
        live.post(path).await.assert_ok();
        live.get("/dump").await.assert_ok();
        browsers.push(live);
    }
    (thief, browsers)
}

/// `texts` are the keys and values of a server.
async fn tells_no_id(thief: &Browser, browsers: &[Browser], texts: &[Vec<u8>]) {
    let mut live = 0;
    for browser in browsers {
        let Some(written) = browser.id() else {
            continue;
        };
        let secret = BASE64URL_NOPAD.decode(written.as_bytes()).unwrap();
        let hex = HEXLOWER.encode(&secret);
        for text in texts {
            let has = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
            assert!(!has(written.as_bytes()) && !has(hex.as_bytes()));
            assert!(!has(&secret[..16]) && !has(&secret[16..]));
        }
        live += 1;
    }
    assert!(live >= browsers.len() / 2);
    let mut tried = 0;
    for text in texts {
        let bytes = text.windows(32).map(|bytes| BASE64URL_NOPAD.encode(bytes));
        let written = text
            .windows(43)
            .filter_map(|text| str::from_utf8(text).ok())
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
        for value in bytes.chain(written.map(str::to_owned)) {
            let cookie = format!("__Host-id={value}");
            let answer = thief.get_with_cookie("/optional", cookie.as_bytes()).await;
            assert_eq!(answer.assert_ok().body, "none");
            tried += 1;
        }
    }
    assert!(tried > texts.len(), "{tried}");
}

async fn no_key_and_no_value_of_redis_tells_an_id(which: Which) {
    let place = Place::new(which).await;
    let cache = RedisCache::open(&place.url()).unwrap();
    let cache = cache.with_prefix(&*place.prefix).with_timeout(PATIENCE);
    let store = CachedStore::new(cache, place.store()).with_cache_timeout(PATIENCE);
    let (thief, browsers) = used(store).await;
    let mut texts = Vec::new();
    let mut kinds = [0; 3];
    for key in place.keys().await {
        let kind = ["session", "user", "cache"];
        let kind = kind
            .iter()
            .position(|kind| key.contains(&format!(":{kind}:")));
        kinds[kind.unwrap()] += 1;
        match &*key {
            key if key.contains(":user:") => {
                let members = place.raw("ZRANGE", key, &[b"0", b"-1"]).await;
                let members = members.into_sequence().unwrap().into_iter();
                texts.extend(members.map(|member| match member {
                    Value::BulkString(member) => member,
                    other => panic!("{other:?}"),
                }));
            }
            key => texts.push(place.get(key).await.unwrap()),
        }
        texts.push(key.into_bytes());
    }
    assert!(kinds.iter().all(|count| *count > 1), "{kinds:?}");
    tells_no_id(&thief, &browsers, &texts).await;
}

/// What a server lists of its items, which takes no command behind that.
async fn all_keys(server: &Server) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let list = b"lru_crawler metadump all\r\n";
    stream.write_all(list).await.unwrap();
    let mut listed = Vec::new();
    while !listed.ends_with(b"END\r\n") {
        assert!(stream.read_buf(&mut listed).await.unwrap() > 0);
    }
    String::from_utf8(listed).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_and_no_value_of_memcached_tells_an_id() {
    let server = Server::start(Kind::Memcached).await;
    let cache = MemcachedCache::open(&server.url()).unwrap();
    let cache = cache.with_timeout(PATIENCE);
    let store = MemcachedStore::open(&server.url()).unwrap();
    let store = CachedStore::new(cache, store.with_timeout(PATIENCE));
    let (thief, browsers) = used(store.with_cache_timeout(PATIENCE)).await;
    let listed = all_keys(&server).await;
    let mut texts = Vec::new();
    for line in listed.lines().filter(|line| line.starts_with("key=")) {
        let key = line["key=".len()..].split(' ').next().unwrap();
        let key = key.replace("%3A", ":");
        texts.push(ask(&server, format!("get {key}\r\n").as_bytes()).await);
        texts.push(key.into_bytes());
    }
    assert!(texts.len() > browsers.len(), "{listed}");
    tells_no_id(&thief, &browsers, &texts).await;
}
