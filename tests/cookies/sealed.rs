//! Tokens that were tampered with, moved, or outlived.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;

use crate::{
    both_kinds,
    support::{Browser, app},
    world::{DAY, Kind, NAME, World},
};

both_kinds!(
    no_flipped_bit_of_the_cookie_is_a_session,
    no_field_of_one_token_is_good_in_another,
    under_another_cookie_name_a_token_is_worth_nothing,
    in_another_namespace_a_token_is_worth_nothing,
    a_token_of_the_other_kind_is_worth_nothing,
    what_is_sealed_expires_whatever_the_browser_does,
    a_token_is_good_for_400_days_at_most,
    what_is_signed_can_be_read_and_what_is_encrypted_can_not,
);

async fn no_flipped_bit_of_the_cookie_is_a_session(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/login/ada").await.assert_ok();
    browser.post("/put/role/user").await.assert_ok();
    let token = browser.id().unwrap().to_owned();
    world.calls();
    let mut tried = 0;
    for place in 0..token.len() {
        for bit in 0..8 {
            let mut flipped = token.clone().into_bytes();
            flipped[place] ^= 1 << bit;
            // What no browser sends in a value.
            if flipped[place] < b' ' || matches!(flipped[place], b';' | b' ' | 0x7f) {
                continue;
            }
            let cookie = [NAME.as_bytes(), b"=", &flipped].concat();
            let seen = browser.read_with("/optional", &cookie).await;
            assert_eq!(seen, "none", "bit {bit} of character {place}");
            tried += 1;
        }
    }
    assert!(tried > token.len() * 6);
    assert_eq!(world.calls(), 0, "what is not authentic is not looked up");
    assert!(browser.is_alive().await);
}

async fn no_field_of_one_token_is_good_in_another(kind: Kind) {
    let world = World::new(kind);
    let mut tokens = Vec::new();
    for (user, value) in [("ada", "1"), ("bob", "2")] {
        let mut browser = world.browser();
        browser.post(&format!("/login/{user}")).await.assert_ok();
        browser.post(&format!("/put/n/{value}")).await.assert_ok();
        let token = browser.id().unwrap();
        tokens.push(BASE64URL_NOPAD.decode(&token.as_bytes()[1..]).unwrap());
    }
    let [ada, bob] = &tokens[..] else {
        unreachable!()
    };
    assert_eq!(ada.len(), bob.len());
    let end = ada.len();
    let mut cuts = vec![0];
    cuts.extend(kind.fields());
    // Of the body: id, time of issue, and the fields of the record; at the end the tag, where there is one.
    let body = kind.fields()[2];
    cuts.extend([32, 40, 41, 49, 65, 73, 81, 89, 90, 93].map(|at| body + at));
    cuts.extend([end - 16, end]);
    let browser = world.browser();
    for fields in cuts.windows(2) {
        let mut mixed = ada.clone();
        mixed[fields[0]..fields[1]].copy_from_slice(&bob[fields[0]..fields[1]]);
        let cookie = format!("{NAME}=1{}", BASE64URL_NOPAD.encode(&mixed));
        let whoami = browser.read_with("/whoami", cookie.as_bytes()).await;
        match mixed == *ada {
            true => assert_eq!(whoami, "ada"),
            false => assert_eq!(whoami, "-", "{fields:?}"),
        }
    }
}

async fn under_another_cookie_name_a_token_is_worth_nothing(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/color/red").await.assert_ok();
    let other = Browser::new(&app(world.layer().with_cookie_name("shop")));
    let moved = format!("__Host-shop={}", browser.id().unwrap());
    assert_eq!(other.read_with("/optional", moved.as_bytes()).await, "none");
    let unprefixed = Browser::new(&app(world.layer().with_insecure_http()));
    let moved = format!("id={}", browser.id().unwrap());
    assert_eq!(
        unprefixed.read_with("/optional", moved.as_bytes()).await,
        "none"
    );
}

async fn in_another_namespace_a_token_is_worth_nothing(kind: Kind) {
    let world = World::new(kind);
    let at = |namespace: &str| {
        let cookies = kind.cookies(&world.keyring).with_namespace(namespace);
        Browser::new(&app(tower_keep::SessionLayer::new(cookies)))
    };
    let mut browser = at("shop");
    browser.post("/put/color/red").await.assert_ok();
    assert!(at("shop").with_id_of(&browser).is_alive().await);
    for other in ["", "sho", "shop2", "Shop"] {
        assert!(
            at(other).with_id_of(&browser).is_anonymous().await,
            "{other}"
        );
    }
}

async fn a_token_of_the_other_kind_is_worth_nothing(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/color/red").await.assert_ok();
    let other = World {
        kind: kind.other(),
        ..world
    };
    assert!(other.browser().with_id_of(&browser).is_anonymous().await);
    // Nor with the byte changed that tells the format.
    let token = BASE64URL_NOPAD.decode(&browser.id().unwrap().as_bytes()[1..]);
    let mut token = token.unwrap();
    token[0] ^= 3;
    let cookie = format!("{NAME}=1{}", BASE64URL_NOPAD.encode(&token));
    let seen = other
        .browser()
        .read_with("/optional", cookie.as_bytes())
        .await;
    assert_eq!(seen, "none");
}

async fn what_is_sealed_expires_whatever_the_browser_does(kind: Kind) {
    let world = World::new(kind);
    let mut browser = world.browser();
    browser.post("/put/color/red").await.assert_ok();
    let cookie = browser.cookie_header().unwrap();
    world.pass(14 * DAY - 1);
    assert!(browser.is_alive().await);
    world.pass(1);
    assert_eq!(
        browser.read_with("/optional", cookie.as_bytes()).await,
        "none"
    );
}

async fn a_token_is_good_for_400_days_at_most(kind: Kind) {
    let world = World::new(kind);
    let years = Duration::from_secs(3000 * DAY);
    let layer = world
        .layer()
        .with_idle_timeout(years)
        .with_absolute_timeout(years);
    let mut browser = Browser::new(&app(layer));
    browser.post("/put/color/red").await.assert_ok();
    world.pass(399 * DAY);
    let used = browser.get("/loaded").await.assert_ok();
    assert!(used.the_cookie().contains("Max-Age=34560000"));
    let unused = browser.clone();
    world.pass(399 * DAY);
    assert!(unused.is_alive().await, "it was issued again");
    world.pass(DAY);
    assert!(unused.is_anonymous().await);
}

async fn what_is_signed_can_be_read_and_what_is_encrypted_can_not(kind: Kind) {
    let mut browser = World::new(kind).browser();
    browser.post("/login/ada-lovelace").await.assert_ok();
    browser.post("/put/diary/between-us").await.assert_ok();
    let token = BASE64URL_NOPAD.decode(&browser.id().unwrap().as_bytes()[1..]);
    let token = token.unwrap();
    for text in ["ada-lovelace", "diary", "between-us"] {
        let is_seen = token
            .windows(text.len())
            .any(|part| part == text.as_bytes());
        assert_eq!(is_seen, kind == Kind::Signed, "{text}");
    }
}
