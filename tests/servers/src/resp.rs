use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

/// What a Redis server replied: its texts and numbers in their order, without the arrays around them; nil is empty.
pub(crate) type Reply = Vec<Vec<u8>>;

/// Sends one command on a connection of its own. An error reply is an error whose text it is.
pub(crate) async fn command(
    port: u16,
    words: &[impl AsRef<[u8]> + Sync],
    patience: Duration,
) -> io::Result<Reply> {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    timeout(patience, exchange(address, request(words)))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// One element a line.
pub(crate) fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.join(&b'\n')).into_owned()
}

/// A command as a message has it.
pub(crate) fn shown(words: &[impl AsRef<[u8]>]) -> String {
    let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
    String::from_utf8_lossy(&words.join(&b' ')).into_owned()
}

fn request(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        request.extend(format!("${}\r\n", word.len()).into_bytes());
        request.extend(word);
        request.extend(b"\r\n");
    }
    request
}

async fn exchange(address: SocketAddr, request: Vec<u8>) -> io::Result<Reply> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    stream.write_all(&request).await?;
    let mut reply = Reply::new();
    let mut awaited = 1;
    while awaited > 0 {
        awaited -= 1;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match line.trim_end().split_at_checked(1) {
            Some(("+" | ":", text)) => reply.push(text.into()),
            Some(("-", text)) => return Err(io::Error::other(text)),
            Some(("$" | "*", "-1")) => reply.push(Vec::new()),
            Some(("$", length)) => reply.push(bulk(&mut stream, number(length)?).await?),
            Some(("*", length)) => awaited += number(length)?,
            _ => return Err(unexpected(&line)),
        }
    }
    Ok(reply)
}

async fn bulk(stream: &mut BufReader<TcpStream>, length: usize) -> io::Result<Vec<u8>> {
    let mut bulk = vec![0; length + "\r\n".len()];
    stream.read_exact(&mut bulk).await?;
    bulk.truncate(length);
    Ok(bulk)
}

fn number(text: &str) -> io::Result<usize> {
    text.parse().map_err(|_| unexpected(text))
}

fn unexpected(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a reply with {text:?}"))
}
