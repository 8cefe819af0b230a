use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::LazyLock,
};

use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tower_keep::stores;

use crate::{
    app::{self, Users},
    folder::temporary_folder,
};

/// The example on a port of this machine, with a file of SQLite of its own.
pub(crate) struct Shop {
    folder: TempDir,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::open_in(temporary_folder()).await
    }

    /// The same shop, after what Ctrl-C does to it. Cookies are those of the host, whatever its port.
    pub(crate) async fn restart(self) -> Self {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap();
        Self::open_in(self.folder).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.address.port())
    }

    async fn open_in(folder: TempDir) -> Self {
        let file = folder.path().join("demo.sqlite");
        let url = format!("sqlite://{}", file.display());
        let store = stores::open(&url).await.unwrap();
        store.migrate().await.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async { stopped.await.unwrap_or_default() };
        let serving = tokio::spawn(async {
            let served = app::serve(listener, store, USERS.clone(), stopped);
            served.await.unwrap();
        });
        Self {
            folder,
            address,
            stop,
            serving,
        }
    }
}

/// Hashing is slow on purpose; once is enough.
static USERS: LazyLock<Users> = LazyLock::new(Users::new);
