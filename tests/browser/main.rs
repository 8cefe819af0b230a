//! The example `demo` in a real browser: what it does with the cookie, and what people see.
//!
//! Without Chromium and its driver these tests say so and try nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../../examples/demo/app/mod.rs"]
mod app;
mod chromium;
#[path = "../support/folder.rs"]
mod folder;
mod shop;

use fantoccini::cookies::Cookie;

use crate::{chromium::Chromium, shop::Shop};

#[tokio::test]
async fn the_cookie_has_every_protection_and_no_script_reads_it() {
    let Some(chromium) = Chromium::start().await else {
        return;
    };
    let shop = Shop::open().await;
    let browser = chromium.browser("ada").await;
    browser.sign_in(&shop, "ada", "lovelace").await;

    let cookies = browser.cookies().await;
    let [cookie] = &cookies[..] else {
        panic!("one cookie, not {cookies:?}");
    };
    assert_eq!(cookie.name(), "__Host-demo");
    assert_eq!(cookie.value().len(), 43);
    assert_eq!(cookie.http_only(), Some(true));
    assert_eq!(cookie.secure(), Some(true));
    assert!(cookie.same_site().unwrap().is_lax());
    assert_eq!(cookie.path(), Some("/"));
    // With the attribute `Domain` there would be a dot before it.
    assert_eq!(cookie.domain(), Some("localhost"));
    assert_eq!(cookie.expires(), None, "it ends with the browser");
    assert_eq!(browser.run("return document.cookie").await, "");
    browser.close().await;
}

#[tokio::test]
async fn two_browsers_of_one_user_see_each_other_and_one_ends_the_other() {
    let Some(chromium) = Chromium::start().await else {
        return;
    };
    let shop = Shop::open().await;
    let here = chromium.browser("here").await;
    let lost = chromium.browser("lost").await;
    here.sign_in(&shop, "ada", "lovelace").await;
    lost.sign_in(&shop, "ada", "lovelace").await;
    for browser in [&here, &lost] {
        browser.open(&shop, "/devices").await;
        browser.see("this device").await;
        assert_eq!(browser.count(".devices li").await, 2);
        assert_eq!(browser.count(".devices em").await, 1);
    }

    here.press(".devices button").await;
    here.see("One device is signed out.").await;
    assert_eq!(here.count(".devices li").await, 1);
    lost.open(&shop, "/devices").await;
    lost.see("This is a demo").await;
    assert_eq!(lost.path().await, "/sign-in");

    here.open(&shop, "/").await;
    here.see("Your visits").await;
    assert_eq!(here.count("form[action='/sign-out']").await, 1);
    here.close().await;
    lost.close().await;
}

#[tokio::test]
async fn back_after_the_sign_out_shows_nothing_private() {
    let Some(chromium) = Chromium::start().await else {
        return;
    };
    let shop = Shop::open().await;
    let browser = chromium.browser("ada").await;
    browser.sign_in(&shop, "ada", "lovelace").await;
    browser.write("[name=words]", "private words").await;
    browser.press("[value=Card]").await;
    browser.see("1 × Card: private words").await;
    browser.press("[href='/devices']").await;
    browser.see("this device").await;
    browser.press("form[action='/sign-out'] button").await;
    browser.see("This is a demo").await;

    // A page of its own between them tells that the browser has gone back.
    browser.open(&shop, "/style.css").await;
    browser.back().await;
    browser.see("This is a demo").await;
    browser.mark().await;
    browser.back().await;
    browser.see_another().await;
    browser.see("This is a demo").await;
    assert_eq!(browser.path().await, "/sign-in", "instead of the devices");
    browser.back().await;
    browser.see("It is empty.").await;
    assert_eq!(browser.path().await, "/", "the shop, for nobody");
    let text = browser.text().await;
    assert!(!text.contains("private words"), "{text}");
    assert!(!text.contains("Sign out"), "{text}");
    browser.close().await;
}

#[tokio::test]
async fn what_people_write_stays_text() {
    const WORDS: &str = "<img src=x onerror=\"document.title='owned'\"><b>&amp;";
    let Some(chromium) = Chromium::start().await else {
        return;
    };
    let shop = Shop::open().await;
    let browser = chromium.browser("ada").await;
    browser.open(&shop, "/").await;
    browser.write("[name=words]", WORDS).await;
    browser.press("[value=Card]").await;
    browser.see("is in the cart.").await;
    let text = browser.text().await;
    assert!(text.contains(&format!("1 × Card: {WORDS}")), "{text}");
    assert_eq!(browser.count("img").await, 0);
    assert!(
        browser
            .run("return document.title")
            .await
            .starts_with("Shop")
    );

    browser.press(".lines button").await;
    browser.see("It is empty.").await;
    browser.close().await;
}

#[tokio::test]
async fn who_is_remembered_stays_signed_in_when_browser_and_shop_start_again() {
    let Some(chromium) = Chromium::start().await else {
        return;
    };
    let shop = Shop::open().await;
    let remembered = chromium.browser("remembered").await;
    remembered.open(&shop, "/sign-in").await;
    remembered.press("[name=remember]").await;
    remembered.fill_in("ada", "lovelace").await;
    let cookies = remembered.cookies().await;
    assert!(cookies[0].expires().is_some());
    remembered.close().await;
    let forgotten = chromium.browser("forgotten").await;
    forgotten.sign_in(&shop, "ada", "lovelace").await;
    forgotten.close().await;

    let shop = shop.restart().await;
    let remembered = chromium.browser("remembered").await;
    remembered.open(&shop, "/devices").await;
    remembered.see("this device").await;
    let same = |cookie: &Cookie<'_>| cookie.value() == cookies[0].value();
    assert!(remembered.cookies().await.iter().all(same));
    remembered.close().await;
    let forgotten = chromium.browser("forgotten").await;
    forgotten.open(&shop, "/devices").await;
    forgotten.see("This is a demo").await;
    forgotten.close().await;
}
