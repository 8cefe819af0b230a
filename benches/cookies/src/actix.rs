//! actix-session, in the test service of actix-web.

use actix_session::{
    Session, SessionMiddleware, config::CookieContentSecurity, storage::CookieSessionStore,
};
use actix_web::{
    App,
    body::{MessageBody, to_bytes},
    cookie::Key,
    dev::{Service, ServiceResponse},
    http::header::{COOKIE, SET_COOKIE},
    test::{TestRequest, init_service},
    web,
};
use std::rc::Rc;
use tower_keep_harness::preferences;

use crate::client::{Answer, Send};

/// The routes without sessions: numbers are constants.
pub async fn bare() -> Send {
    let app = App::new()
        .route("/read", web::get().to(async || 2_u64.to_string()))
        .route("/increment", web::get().to(async || 3_u64.to_string()))
        .route("/fill/{keys}", web::get().to(async || ""));
    over_actix(init_service(app).await)
}

pub async fn sessions(security: CookieContentSecurity) -> Send {
    let sessions = SessionMiddleware::builder(CookieSessionStore::default(), Key::generate())
        .cookie_content_security(security)
        .cookie_name("__Host-id".to_owned())
        .build();
    let app = App::new()
        .wrap(sessions)
        .route("/read", web::get().to(read))
        .route("/increment", web::get().to(increment))
        .route("/fill/{keys}", web::get().to(fill));
    over_actix(init_service(app).await)
}

async fn read(session: Session) -> String {
    let visits: Option<u64> = session.get("visits").expect("a number");
    visits.unwrap_or(0).to_string()
}

async fn increment(session: Session) -> String {
    let visits: Option<u64> = session.get("visits").expect("a number");
    let visits = visits.unwrap_or(0) + 1;
    session.insert("visits", visits).expect("room");
    visits.to_string()
}

async fn fill(session: Session, keys: web::Path<usize>) -> &'static str {
    session.insert("visits", 0).expect("room");
    for (key, value) in preferences(*keys) {
        session.insert(key, value).expect("room");
    }
    ""
}

fn over_actix<S, B>(app: S) -> Send
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = actix_web::Error>
        + 'static,
    B: MessageBody,
{
    let app = Rc::new(app);
    Box::new(move |requests| {
        let app = Rc::clone(&app);
        Box::pin(async move {
            let path = requests.uri.path();
            let cookie = requests.cookie.to_str().expect("text");
            let mut last = None;
            for _ in 0..requests.times {
                let request = TestRequest::get()
                    .uri(path)
                    .insert_header((COOKIE, cookie))
                    .to_request();
                let answer = app.call(request).await.expect("an answer");
                assert!(answer.status().is_success());
                last = Some(answer);
            }
            let answer = last.expect("a request");
            let set = answer.headers().get_all(SET_COOKIE);
            let set: Vec<_> = set.map(|set| set.as_bytes().to_vec()).collect();
            let set: Vec<_> = set.iter().map(Vec::as_slice).collect();
            let body = to_bytes(answer.into_body()).await;
            Answer::of(&set, &body.unwrap_or_default())
        })
    })
}
