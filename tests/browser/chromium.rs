use std::{
    io::{self, Write as _},
    time::Duration,
};

use fantoccini::{
    Client, ClientBuilder, Locator, cookies::Cookie, elements::Element, wd::Capabilities,
};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};
use tower_keep_servers::{Kind, Server};

use crate::shop::Shop;

/// Starts browsers. One test at a time has it: each browser is many processes.
pub(crate) struct Chromium {
    driver: Server,
    _turn: MutexGuard<'static, ()>,
}

impl Chromium {
    /// `None` where it is not installed; the reason is said.
    pub(crate) async fn start() -> Option<Self> {
        static TURN: Mutex<()> = Mutex::const_new(());
        if let Err(missing) = Kind::ChromeDriver.check() {
            // Not `eprintln`, which a test that passes keeps to itself.
            let mut shown = io::stderr();
            writeln!(shown, "skipped, {missing}").unwrap();
            return None;
        }
        Some(Self {
            _turn: TURN.lock().await,
            driver: Server::start(Kind::ChromeDriver).await,
        })
    }

    /// A browser with that profile, which is new and empty when first asked for.
    pub(crate) async fn browser(&self, profile: &str) -> Browser {
        let profile = self.driver.folder().join(profile);
        let mut arguments: Vec<String> = FLAGS.map(str::to_owned).into();
        arguments.push(format!("--user-data-dir={}", profile.display()));
        let options = json!({ "goog:chromeOptions": { "args": arguments } });
        let capabilities: Capabilities = serde_json::from_value(options).unwrap();
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&self.driver.url())
            .await
            .unwrap();
        Browser(client)
    }
}

/// A browser, and somebody who looks and waits until it shows what he expects.
pub(crate) struct Browser(Client);

impl Browser {
    pub(crate) async fn sign_in(&self, shop: &Shop, user: &str, password: &str) {
        self.open(shop, "/sign-in").await;
        self.fill_in(user, password).await;
    }

    pub(crate) async fn fill_in(&self, user: &str, password: &str) {
        self.write("[name=user]", user).await;
        self.write("[name=password]", password).await;
        self.press("form[action='/sign-in'] button").await;
        self.see(&format!("Welcome, {user}.")).await;
    }

    pub(crate) async fn open(&self, shop: &Shop, path: &str) {
        self.0.goto(&shop.url(path)).await.unwrap();
    }

    pub(crate) async fn back(&self) {
        self.0.back().await.unwrap();
    }

    pub(crate) async fn press(&self, css: &str) {
        self.find(Locator::Css(css)).await.click().await.unwrap();
    }

    pub(crate) async fn write(&self, css: &str, text: &str) {
        let field = self.find(Locator::Css(css)).await;
        field.send_keys(text).await.unwrap();
    }

    /// Waits until the page has that text.
    pub(crate) async fn see(&self, text: &str) {
        let path = format!("//main[contains(normalize-space(.), \"{text}\")]");
        self.find(Locator::XPath(&path)).await;
    }

    /// Waits until the page is another than the one that was [marked](Self::mark).
    pub(crate) async fn see_another(&self) {
        self.find(Locator::Css("html:not([id])")).await;
    }

    pub(crate) async fn mark(&self) {
        self.run("return document.documentElement.id = 'marked'")
            .await;
    }

    pub(crate) async fn count(&self, css: &str) -> usize {
        self.0.find_all(Locator::Css(css)).await.unwrap().len()
    }

    pub(crate) async fn text(&self) -> String {
        self.run("return document.body.innerText").await
    }

    pub(crate) async fn path(&self) -> String {
        self.0.current_url().await.unwrap().path().to_owned()
    }

    /// Runs a script as one of the page's own would run.
    pub(crate) async fn run(&self, script: &str) -> String {
        let value = self.0.execute(script, Vec::new()).await.unwrap();
        value.as_str().unwrap().to_owned()
    }

    pub(crate) async fn cookies(&self) -> Vec<Cookie<'static>> {
        self.0.get_all_cookies().await.unwrap()
    }

    /// Returns when it is gone.
    pub(crate) async fn close(self) {
        self.0.close().await.unwrap();
    }

    async fn find(&self, what: Locator<'_>) -> Element {
        let wait = self.0.wait().at_most(PATIENCE).every(PERIOD);
        match wait.for_element(what).await {
            Ok(element) => element,
            Err(error) => panic!("{what:?}: {error}, in {}", self.text().await),
        }
    }
}

/// No windows, and no talk with anybody but the shop. Containers give no room for a sandbox, and little shared memory.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

const PATIENCE: Duration = Duration::from_secs(30);
const PERIOD: Duration = Duration::from_millis(20);
