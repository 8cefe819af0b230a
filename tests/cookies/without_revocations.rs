//! What cookies alone can not promise, so that nobody is told otherwise.

use crate::{
    both_kinds,
    world::{Kind, World},
};

both_kinds!(
    a_logout_removes_the_cookie_and_a_captured_one_goes_on_to_work,
    a_login_changes_the_id_and_a_captured_cookie_goes_on_to_work,
    of_two_requests_at_once_the_last_answer_wins,
);

async fn a_logout_removes_the_cookie_and_a_captured_one_goes_on_to_work(kind: Kind) {
    for path in ["/logout", "/flush"] {
        let mut browser = World::new(kind).browser_without_revocations();
        browser.post("/login/ada").await.assert_ok();
        let captured = browser.clone();
        browser.post(path).await.assert_ok().the_cookie();
        assert_eq!(browser.id(), None);
        assert!(captured.is_alive().await);
    }
}

async fn a_login_changes_the_id_and_a_captured_cookie_goes_on_to_work(kind: Kind) {
    let mut browser = World::new(kind).browser_without_revocations();
    browser.post("/put/cart/book").await.assert_ok();
    let mut captured = browser.clone();
    browser.post("/login/ada").await.assert_ok();
    let [new, old] = [
        browser.get("/record").await.body,
        captured.get("/record").await.body,
    ];
    assert_ne!(new, old);
    assert_eq!(captured.get("/whoami").await.body, "-", "as it was");
}

async fn of_two_requests_at_once_the_last_answer_wins(kind: Kind) {
    let mut browser = World::new(kind).browser_without_revocations();
    browser.post("/put/a/1").await.assert_ok();
    let mut other_tab = browser.clone();
    browser.post("/put/b/2").await.assert_ok();
    other_tab.post("/put/c/3").await.assert_ok();
    browser = browser.with_id_of(&other_tab);
    assert_eq!(browser.get("/dump").await.body, r#"{"a":"1","c":"3"}"#);
}
