//! A proxy that breaks connections at the byte where a test wants it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server: requests.
    ToServer,
    /// From the server to the client: replies.
    ToClient,
}

/// A TCP proxy on a free port of 127.0.0.1, which passes everything on until it is told otherwise.
///
/// It lives in the runtime of the test that made it. Its connections end when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

/// What a proxy has seen since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that were accepted, also those refused at once.
    pub connections: u64,
    /// Connections that were cut, by an order of the test.
    pub cuts: u64,
    /// Bytes passed on to the server.
    pub to_server: u64,
    /// Bytes passed on to the client.
    pub to_client: u64,
    /// Connections that wait with bytes for the server, because of a `hold`.
    pub held_to_server: u64,
    /// Connections that wait with bytes for the client, because of a `hold`.
    pub held_to_client: u64,
}

impl FaultProxy {
    /// Starts a proxy before that server.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub async fn to(server: SocketAddr) -> Self {
        let (listener, address) = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await {
            Ok(listener) => match listener.local_addr() {
                Ok(address) => (listener, address),
                Err(error) => panic!("the proxy's address: {error}"),
            },
            Err(error) => panic!("a port for the proxy: {error}"),
        };
        let state = watch::Sender::new(State::default());
        let accepting = tokio::spawn(accept(listener, server, state.clone()));
        Self {
            address,
            state,
            accepting,
        }
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of [`address`](Self::address).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Passes the next `bytes` of a connection in that direction and then closes it on both sides (FIN), without a byte
    /// more in either direction that was not under way.
    ///
    /// Each connection counts from now on for itself; the first that gets there is cut, and the order is done. With 0 the
    /// connection is cut when its next byte arrives, which is not passed on.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.order_cut(direction, bytes, End::Fin);
    }

    /// As [`cut_after`](Self::cut_after), but both sides see a reset (RST).
    pub fn reset_after(&self, direction: Direction, bytes: u64) {
        self.order_cut(direction, bytes, End::Reset);
    }

    /// Delivers the next request, drops the server's reply to it, and cuts the connection.
    pub fn swallow_reply(&self) {
        self.cut_after(Direction::ToClient, 0);
    }

    /// Resets all connections that are open now. Later ones are not concerned.
    pub fn cut_now(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// Resets each new connection at once; open ones go on.
    pub fn refuse(&self) {
        self.state.send_modify(|state| state.orders.refuse = true);
    }

    /// Holds back all bytes in that direction until [`release`](Self::release) or [`heal`](Self::heal).
    pub fn hold(&self, direction: Direction) {
        self.state
            .send_modify(|state| *state.orders.hold(direction) = true);
    }

    /// Passes on what was held back.
    pub fn release(&self, direction: Direction) {
        self.state
            .send_modify(|state| *state.orders.hold(direction) = false);
    }

    /// Holds both directions.
    pub fn pause(&self) {
        self.hold(Direction::ToServer);
        self.hold(Direction::ToClient);
    }

    /// Releases both directions.
    pub fn resume(&self) {
        self.release(Direction::ToServer);
        self.release(Direction::ToClient);
    }

    /// Forgets all orders: everything passes.
    pub fn heal(&self) {
        self.state
            .send_modify(|state| state.orders = Orders::default());
    }

    /// What was seen until now.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.state.borrow().traffic
    }

    /// Waits until what was seen is as wanted, and returns it.
    pub async fn wait_until(&self, mut wanted: impl FnMut(&Traffic) -> bool) -> Traffic {
        let mut states = self.state.subscribe();
        let seen = states.wait_for(|state| wanted(&state.traffic)).await;
        // The sender is in `self`: the channel is open, and the state always there.
        seen.map_or_else(|_| self.traffic(), |state| state.traffic)
    }

    fn order_cut(&self, direction: Direction, bytes: u64, end: End) {
        self.state.send_modify(|state| {
            state.cuts_ordered += 1;
            state.orders.cut = Some(Cut {
                number: state.cuts_ordered,
                direction,
                bytes,
                end,
            });
        });
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut_now();
    }
}

/// What the test and the connections tell each other.
#[derive(Debug, Default)]
struct State {
    orders: Orders,
    traffic: Traffic,
    cuts_ordered: u64,
    /// A connection of an older generation is to end.
    generation: u64,
}

#[derive(Debug, Default)]
struct Orders {
    cut: Option<Cut>,
    hold_to_server: bool,
    hold_to_client: bool,
    refuse: bool,
}

#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Tells a connection to count anew.
    number: u64,
    direction: Direction,
    bytes: u64,
    end: End,
}

/// How a connection is closed.
#[derive(Debug, Clone, Copy)]
enum End {
    Fin,
    Reset,
}

impl Orders {
    fn hold(&mut self, direction: Direction) -> &mut bool {
        match direction {
            Direction::ToServer => &mut self.hold_to_server,
            Direction::ToClient => &mut self.hold_to_client,
        }
    }

    fn holds(&self, direction: Direction) -> bool {
        match direction {
            Direction::ToServer => self.hold_to_server,
            Direction::ToClient => self.hold_to_client,
        }
    }
}

impl Traffic {
    fn passed(&mut self, direction: Direction) -> &mut u64 {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    fn held(&mut self, direction: Direction) -> &mut u64 {
        match direction {
            Direction::ToServer => &mut self.held_to_server,
            Direction::ToClient => &mut self.held_to_client,
        }
    }
}

impl State {
    /// How many of the bytes at hand may pass, and whether the connection ends then. `counted` is what this connection
    /// passed since the order of that number.
    fn admit(
        &mut self,
        direction: Direction,
        bytes: u64,
        counted: &mut (u64, u64),
    ) -> (u64, Option<End>) {
        let mut admitted = bytes;
        let mut end = None;
        if let Some(cut) = self.orders.cut.filter(|cut| cut.direction == direction) {
            if counted.0 != cut.number {
                *counted = (cut.number, 0);
            }
            let left = cut.bytes - counted.1;
            if bytes >= left {
                admitted = left;
                end = Some(cut.end);
                self.orders.cut = None;
            }
            counted.1 += admitted;
        }
        *self.traffic.passed(direction) += admitted;
        (admitted, end)
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, state: watch::Sender<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let mut refused = false;
        let mut generation = 0;
        state.send_modify(|state| {
            state.traffic.connections += 1;
            refused = state.orders.refuse;
            generation = state.generation;
        });
        if refused {
            let _ = client.set_zero_linger();
        } else {
            tokio::spawn(connection(client, server, state.clone(), generation));
        }
    }
}

async fn connection(
    mut client: TcpStream,
    server: SocketAddr,
    state: watch::Sender<State>,
    generation: u64,
) {
    let Ok(mut server) = TcpStream::connect(server).await else {
        let _ = client.set_zero_linger();
        return;
    };
    // A byte that was passed on is sent, also before a reset.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);

    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let mut states = state.subscribe();
        tokio::select! {
            end = async {
                tokio::try_join!(
                    pump(from_client, to_server, Direction::ToServer, &state),
                    pump(from_server, to_client, Direction::ToClient, &state),
                )
            } => end.err(),
            // The guard that it waits for is dropped at once: it locks the state.
            () = async { drop(states.wait_for(|state| state.generation != generation).await) } => {
                count_cut(&state);
                Some(End::Reset)
            }
        }
    };
    match end {
        None => {}
        Some(End::Fin) => {
            // To close while bytes are unread would be a reset: read them, for nobody.
            let _ = tokio::join!(client.shutdown(), server.shutdown());
            let _ = tokio::join!(discard(&mut client), discard(&mut server));
        }
        Some(End::Reset) => {
            let _ = client.set_zero_linger();
            let _ = server.set_zero_linger();
        }
    }
}

/// Passes bytes on until their end, which it passes on too; or until the connection is to be cut.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    state: &watch::Sender<State>,
) -> Result<(), End> {
    let mut buffer = [0; 16 * 1024];
    let mut counted = (0, 0);
    loop {
        let read = from.read(&mut buffer).await.map_err(|_| End::Reset)?;
        if read == 0 {
            return to.shutdown().await.map_err(|_| End::Reset);
        }
        wait_while_held(direction, state).await;
        let mut admitted = (0, None);
        state.send_modify(|state| admitted = state.admit(direction, read as u64, &mut counted));
        let (bytes, end) = admitted;
        let sent = to.write_all(&buffer[..bytes as usize]).await;
        if let Some(end) = end {
            count_cut(state);
            return Err(end);
        }
        sent.map_err(|_| End::Reset)?;
    }
}

async fn wait_while_held(direction: Direction, state: &watch::Sender<State>) {
    if !state.borrow().orders.holds(direction) {
        return;
    }
    let mut states = state.subscribe();
    state.send_modify(|state| *state.traffic.held(direction) += 1);
    let _ = states
        .wait_for(|state| !state.orders.holds(direction))
        .await;
    state.send_modify(|state| *state.traffic.held(direction) -= 1);
}

fn count_cut(state: &watch::Sender<State>) {
    state.send_modify(|state| state.traffic.cuts += 1);
}

async fn discard(stream: &mut TcpStream) -> io::Result<u64> {
    tokio::io::copy(stream, &mut tokio::io::sink()).await
}
