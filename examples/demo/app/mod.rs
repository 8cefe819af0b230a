//! The shop itself: its pages and what they share.

mod account;
mod cart;
mod device_name;
mod devices;
mod flash;
mod page;
mod protections;
mod users;

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use tokio::{net::TcpListener, sync::oneshot, time::sleep};
use tower_keep::{SessionLayer, Sweeper, UserSessions, stores::OpenStore};

pub(crate) use self::users::Users;

/// What the handlers share. The list of devices asks the store itself, beside the layer.
#[derive(Clone)]
struct App {
    users: Users,
    /// `None` where the store can not find the sessions of a user.
    user_sessions: Option<Arc<dyn UserSessions>>,
}

/// Serves the shop until it is to stop, and returns when all that was acknowledged is in the store.
pub(crate) async fn serve(
    listener: TcpListener,
    store: OpenStore,
    users: Users,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let sweeping = store
        .as_delete_expired()
        .map(|store| Sweeper::new(store).every(SWEEP_PERIOD));
    let sessions = sessions(store.clone());
    let site = site(users, store.as_user_sessions(), sessions.clone());
    let (stopping, stopped) = oneshot::channel();
    let serving = axum::serve(listener, site).with_graceful_shutdown(async {
        stop.await;
        // Nobody listens if serving has failed.
        let _ = stopping.send(());
    });
    let grace = async {
        let _ = stopped.await;
        sleep(GRACE).await;
    };
    tokio::select! {
        served = serving.into_future() => served?,
        () = grace => {}
    }
    sessions.drain().await;
    if let Some(sweeping) = sweeping {
        sweeping.stop().await;
    }
    Ok(())
}

pub(crate) fn sessions(store: OpenStore) -> SessionLayer {
    SessionLayer::new(store)
        .with_cookie_name("demo")
        .with_idle_timeout(account::IDLE)
        .with_touch_after(LAST_SEEN_PRECISION)
}

/// All routes. A request goes through the layers from the last to the first.
pub(crate) fn site(
    users: Users,
    user_sessions: Option<Arc<dyn UserSessions>>,
    sessions: SessionLayer,
) -> Router {
    Router::new()
        .route("/", get(cart::shop))
        .route("/cart/add", post(cart::add))
        .route("/cart/remove", post(cart::remove))
        .route("/sign-in", get(account::form).post(account::sign_in))
        .route("/sign-out", post(account::sign_out))
        .route("/devices", get(devices::list))
        .route("/devices/end", post(devices::end))
        .route("/devices/end-others", post(devices::end_others))
        .route("/style.css", get(page::style))
        .with_state(App {
            users,
            user_sessions,
        })
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(middleware::map_response(protections::forbid_storing))
        .layer(sessions)
        .layer(middleware::from_fn(protections::refuse_forged))
        .layer(middleware::map_response(protections::add_headers))
}

/// How exactly the list of devices knows when one was seen. For that a session in use is written once in that time; without
/// it, once in a tenth of the idle time.
const LAST_SEEN_PRECISION: Duration = Duration::from_secs(60);

const FORM_BYTES_MAX: usize = 16 * 1024;

/// How long a client may take to send what it has begun to send, when the shop is told to stop.
const GRACE: Duration = Duration::from_secs(10);

const SWEEP_PERIOD: Duration = Duration::from_secs(10 * 60);
