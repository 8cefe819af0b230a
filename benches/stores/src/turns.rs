//! Counts how often a client waits for the server.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A relay before a server, for one connection in use at a time.
pub struct Turns {
    pub port: u16,
    count: Arc<Count>,
}

#[derive(Default)]
struct Count {
    turns: AtomicUsize,
    /// Whether the last bytes went to the server.
    waiting: AtomicBool,
}

impl Turns {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("an address").port();
        let count = Arc::new(Count::default());
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port))
                    .await
                    .expect("the server");
                for socket in [&client, &server] {
                    socket.set_nodelay(true).expect("an option");
                }
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pass(from_client, to_server, Arc::clone(&counted), true));
                tokio::spawn(pass(from_server, to_client, Arc::clone(&counted), false));
            }
        });
        Self { port: own, count }
    }

    /// Times that bytes went to the server after bytes from it.
    pub fn count(&self) -> usize {
        self.count.turns.load(Ordering::SeqCst)
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    count: Arc<Count>,
    to_server: bool,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let was_waiting = count.waiting.swap(to_server, Ordering::SeqCst);
        if to_server && !was_waiting {
            count.turns.fetch_add(1, Ordering::SeqCst);
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
