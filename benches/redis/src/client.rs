//! A client that costs little: HTTP/1.1 over one connection, with just what these servers answer.

use std::{net::SocketAddr, str};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub struct Client {
    stream: TcpStream,
    buffer: Box<[u8; BUFFER_LEN]>,
}

/// What was answered with status 200.
pub struct Reply<'a> {
    head: &'a [u8],
    body: &'a [u8],
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server");
        stream.set_nodelay(true).expect("an option");
        let buffer = Box::new([0; BUFFER_LEN]);
        Self { stream, buffer }
    }

    /// A request to be sent, without a cookie if that is empty.
    pub fn request(path: &str, cookie: &str) -> Vec<u8> {
        let cookie = match cookie {
            "" => String::new(),
            cookie => format!("cookie: {cookie}\r\n"),
        };
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{cookie}\r\n").into()
    }

    /// Panics on any status but 200.
    pub async fn send(&mut self, request: &[u8]) -> Reply<'_> {
        self.stream.write_all(request).await.expect("the server");
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await;
            filled += read.expect("the server");
            if let Some((head, body)) = split(&self.buffer[..filled]) {
                // Two steps, as a reply borrows the buffer.
                let (head, body) = (head.len(), head.len()..head.len() + body);
                return Reply {
                    head: &self.buffer[..head],
                    body: &self.buffer[body],
                };
            }
        }
    }
}

impl Reply<'_> {
    pub fn body(&self) -> &str {
        str::from_utf8(self.body).expect("text")
    }

    /// The cookies that it sets, as a request sends them.
    pub fn cookies(&self) -> String {
        let lines = str::from_utf8(self.head).expect("text").lines();
        let cookies = lines.filter_map(|line| line.strip_prefix("set-cookie: "));
        let pairs: Vec<&str> = cookies.filter_map(|c| c.split(';').next()).collect();
        pairs.join("; ")
    }
}

/// The head of a response and the length of its body, if it is there as a whole.
fn split(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = &bytes[..end];
    assert!(
        head.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(bytes)
    );
    let mut lines = head.split(|byte| *byte == b'\n');
    let length = lines.find_map(|line| line.strip_prefix(b"content-length: "));
    let length = str::from_utf8(length.expect("a length")).expect("a number");
    let length = length.trim_end().parse().expect("a number");
    (bytes.len() >= end + length).then_some((head, length))
}

/// More than any response of these servers.
const BUFFER_LEN: usize = 4096;
