//! What the list promises, tried with browsers that have nothing but a cookie each.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use axum::body::Body;
use http::{
    HeaderMap, Request, StatusCode,
    header::{CONTENT_TYPE, COOKIE, SET_COOKIE, USER_AGENT},
};
use http_body_util::BodyExt;
use tempfile::TempDir;
use tower::ServiceExt;
use tower_keep::{SqliteStore, Timestamp, UserId, UserSessions};

use crate::{App, Router, database, devices, router, sessions, users::Users};

#[tokio::test]
async fn two_browsers_of_one_user_see_each_other() {
    let site = Site::open().await;
    let mut firefox = site.logged_in("Firefox", ADA).await;
    let mut chrome = site.logged_in("Chrome", ADA).await;
    for browser in [&mut firefox, &mut chrome] {
        let home = browser.home().await;
        assert_eq!(home.matches("<li>").count(), 2, "{home}");
        let line = home.lines().find(|line| line.contains(browser.user_agent));
        assert!(line.unwrap().contains("this device"), "{home}");
        assert_eq!(home.matches("this device").count(), 1, "{home}");
    }
}

#[tokio::test]
async fn nobody_sees_the_devices_of_another_user() {
    let site = Site::open().await;
    let mut ada = site.logged_in("Firefox", ADA).await;
    let mut grace = site.logged_in("Chrome", GRACE).await;
    assert!(!ada.home().await.contains("Chrome"));
    assert!(!grace.home().await.contains("Firefox"));
}

#[tokio::test]
async fn ending_a_device_logs_it_out_and_no_other() {
    let site = Site::open().await;
    let mut here = site.logged_in("Firefox", ADA).await;
    let mut lost = site.logged_in("Chrome", ADA).await;
    let mut third = site.logged_in("Safari", ADA).await;

    let id = here.id_of("Chrome").await;
    assert_eq!(here.end(&id).await, StatusCode::SEE_OTHER);

    assert_eq!(lost.whoami().await, None);
    assert_eq!(here.whoami().await.as_deref(), Some("ada\n"));
    assert_eq!(third.whoami().await.as_deref(), Some("ada\n"));
    assert!(!here.home().await.contains("Chrome"));
    assert_eq!(here.end(&id).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn ending_another_users_device_is_not_found_and_ends_nothing() {
    let site = Site::open().await;
    let mut ada = site.logged_in("Firefox", ADA).await;
    let mut grace = site.logged_in("Chrome", GRACE).await;
    let mut other = site.logged_in("Safari", GRACE).await;

    let id = other.id_of("Chrome").await;
    assert_eq!(ada.end(&id).await, StatusCode::NOT_FOUND);
    assert_eq!(ada.end("nonsense").await, StatusCode::NOT_FOUND);
    assert_eq!(ada.end("").await, StatusCode::NOT_FOUND);

    for browser in [&mut grace, &mut other] {
        assert_eq!(browser.whoami().await.as_deref(), Some("grace\n"));
    }
    assert_eq!(ada.whoami().await.as_deref(), Some("ada\n"));
}

#[tokio::test]
async fn ending_this_device_is_a_logout() {
    let site = Site::open().await;
    let mut here = site.logged_in("Firefox", ADA).await;
    let mut other = site.logged_in("Chrome", ADA).await;
    let id = other.id_of("Firefox").await;
    assert_eq!(here.end(&id).await, StatusCode::SEE_OTHER);
    assert_eq!(here.cookie, None, "its cookie is removed");
    assert_eq!(other.whoami().await.as_deref(), Some("ada\n"));
}

#[tokio::test]
async fn ending_all_others_keeps_this_one_and_those_of_others() {
    let site = Site::open().await;
    let mut here = site.logged_in("Firefox", ADA).await;
    let mut lost = site.logged_in("Chrome", ADA).await;
    let mut third = site.logged_in("Safari", ADA).await;
    let mut grace = site.logged_in("Edge", GRACE).await;

    let (status, _) = here.post("/devices/end-others", "").await;
    assert_eq!(status, StatusCode::SEE_OTHER);

    assert_eq!(lost.whoami().await, None);
    assert_eq!(third.whoami().await, None);
    assert_eq!(grace.whoami().await.as_deref(), Some("grace\n"));
    assert_eq!(here.home().await.matches("<li>").count(), 1);
}

#[tokio::test]
async fn who_is_not_logged_in_sees_no_list_and_ends_nothing() {
    let site = Site::open().await;
    let mut ada = site.logged_in("Firefox", ADA).await;
    let mut second = site.logged_in("Chrome", ADA).await;
    let id = ada.id_of("Chrome").await;

    let mut stranger = site.browser("Opera");
    assert!(!stranger.home().await.contains("<li>"));
    assert_eq!(stranger.end(&id).await, StatusCode::UNAUTHORIZED);
    let (status, _) = stranger.post("/devices/end-others", "").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(stranger.cookie, None);

    for browser in [&mut ada, &mut second] {
        assert_eq!(browser.whoami().await.as_deref(), Some("ada\n"));
    }
}

#[tokio::test]
async fn a_wrong_password_logs_nobody_in() {
    let site = Site::open().await;
    let mut browser = site.browser("Firefox");
    for form in ["user=ada&password=hopper", "user=eve&password=lovelace"] {
        let (status, _) = browser.post("/login", form).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert_eq!(browser.cookie, None);
    }
}

#[tokio::test]
async fn everything_is_there_after_the_database_was_closed_and_opened_again() {
    let site = Site::open().await;
    let mut here = site.logged_in("Firefox", ADA).await;
    let mut ended = site.logged_in("Chrome", ADA).await;
    let mut third = site.logged_in("Safari", ADA).await;
    let id = here.id_of("Chrome").await;
    here.end(&id).await;

    let site = site.restart().await;
    for browser in [&mut here, &mut ended, &mut third] {
        browser.router = site.router.clone();
    }
    assert_eq!(ended.whoami().await, None, "a logout survives, too");
    let home = third.home().await;
    assert_eq!(home.matches("<li>").count(), 2, "{home}");
    let id = third.id_of("Firefox").await;
    assert_eq!(third.end(&id).await, StatusCode::SEE_OTHER);
    assert_eq!(here.whoami().await, None);
}

#[tokio::test]
async fn a_hostile_user_agent_is_shown_escaped_and_cut() {
    const HOSTILE: &str = "<script>alert('\"&\")</script>";
    let site = Site::open().await;
    site.logged_in(HOSTILE, ADA).await;
    let home = site.logged_in("Firefox", ADA).await.home().await;
    let escaped = "&lt;script&gt;alert(&#39;&quot;&amp;&quot;)&lt;/script&gt;";
    assert!(home.contains(escaped), "{home}");
    assert!(!home.contains("<script"), "{home}");

    let long: &str = "a".repeat(20_000).leak();
    let home = site.logged_in(long, ADA).await.home().await;
    assert!(home.contains(&long[..devices::USER_AGENT_LEN_MAX]));
    assert!(!home.contains(&long[..=devices::USER_AGENT_LEN_MAX]));
}

#[tokio::test]
async fn a_user_agent_that_is_missing_or_no_text_is_an_unknown_device() {
    let site = Site::open().await;
    for user_agent in ["", "\u{202e}xoferiF"] {
        let home = site.logged_in(user_agent, GRACE).await.home().await;
        assert!(!home.contains(RIGHT_TO_LEFT), "{home}");
    }
    let home = site.logged_in("Firefox", GRACE).await.home().await;
    assert_eq!(home.matches("an unknown device").count(), 2, "{home}");
}

#[tokio::test]
async fn a_device_shows_its_login_its_last_use_and_its_end() {
    let site = Site::open().await;
    site.logged_in("Firefox", ADA).await;
    let ada = UserId::new("ada").unwrap();
    let mut stored = site.store.sessions_of(&ada).await.unwrap().remove(0);
    let now = Timestamp::from(SystemTime::now());
    let ago = |minutes: i64| Timestamp::from_millis(now.as_millis() - minutes * 60_000);

    stored.record.created_at = ago(600);
    stored.record.expires_at = ago(-20); // of 30
    let item = devices::item(&stored, None, now);
    let expected = "Firefox: login 10 h ago, used in the last 10 min, lives for 20 min unless used";
    assert!(item.contains(expected), "{item}");
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_what_the_database_writes() {
    use std::os::unix::fs::MetadataExt;

    let site = Site::open().await;
    site.logged_in("Firefox", ADA).await;
    let mut files = 0;
    for file in site.folder.path().read_dir().unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
        files += 1;
    }
    assert_eq!(files, 3, "the database, its log, and the log's index");
}

/// The example, with a database of its own.
struct Site {
    folder: TempDir,
    pool: sqlx::SqlitePool,
    store: SqliteStore,
    router: Router,
}

impl Site {
    /// In memory where that is possible: the example does not wait long for a disk.
    async fn open() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        Self::open_in(folder.unwrap()).await
    }

    async fn open_in(folder: TempDir) -> Self {
        let file: PathBuf = folder.path().join("login.sqlite");
        let pool = database::open(&file).await.unwrap();
        let store = SqliteStore::new(pool.clone());
        store.migrate().await.unwrap();
        let app = App {
            users: USERS.clone(),
            store: store.clone(),
        };
        Self {
            folder,
            pool,
            router: router(app).layer(sessions(store.clone()).with_store_timeout(PATIENCE)),
            store,
        }
    }

    async fn restart(self) -> Self {
        self.pool.close().await;
        Self::open_in(self.folder).await
    }

    fn browser(&self, user_agent: &'static str) -> Browser {
        Browser {
            router: self.router.clone(),
            user_agent,
            cookie: None,
        }
    }

    async fn logged_in(&self, user_agent: &'static str, form: &str) -> Browser {
        let mut browser = self.browser(user_agent);
        let (status, _) = browser.post("/login", form).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        assert!(browser.cookie.is_some());
        browser
    }
}

/// Keeps one cookie, as long as it is told to.
struct Browser {
    router: Router,
    user_agent: &'static str,
    cookie: Option<String>,
}

impl Browser {
    async fn home(&mut self) -> String {
        let (status, body) = self.send("GET", "/", "").await;
        assert_eq!(status, StatusCode::OK);
        body
    }

    async fn whoami(&mut self) -> Option<String> {
        let (status, body) = self.send("GET", "/whoami", "").await;
        (status == StatusCode::OK).then_some(body)
    }

    /// The name that the list gives to another device, as its button sends it.
    async fn id_of(&mut self, user_agent: &str) -> String {
        let home = self.home().await;
        let line = home.lines().find(|line| line.contains(user_agent));
        let id = line.unwrap().split("value=").nth(1).unwrap();
        id.split('>').next().unwrap().to_owned()
    }

    async fn end(&mut self, id: &str) -> StatusCode {
        self.post("/devices/end", &format!("device={id}")).await.0
    }

    async fn post(&mut self, path: &str, form: &str) -> (StatusCode, String) {
        self.send("POST", path, form).await
    }

    async fn send(&mut self, method: &str, path: &str, form: &str) -> (StatusCode, String) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if !self.user_agent.is_empty() {
            request = request.header(USER_AGENT, self.user_agent.as_bytes());
        }
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        let request = request.body(Body::from(form.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        self.take_cookie(response.headers());
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn take_cookie(&mut self, headers: &HeaderMap) {
        if let Some(cookie) = headers.get(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let pair = cookie.split(';').next().unwrap().to_owned();
            self.cookie = (!cookie.contains("Max-Age=0")).then_some(pair);
        }
    }
}

/// Hashing is slow on purpose; once is enough.
static USERS: LazyLock<Users> = LazyLock::new(Users::new);

/// More than a request ever takes.
const PATIENCE: Duration = Duration::from_secs(60);

const ADA: &str = "user=ada&password=lovelace";
const GRACE: &str = "user=grace&password=hopper";

/// Turns the direction of what follows, to make one text look like another.
const RIGHT_TO_LEFT: char = '\u{202e}';
