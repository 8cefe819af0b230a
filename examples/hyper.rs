//! Sessions without axum: a tower service on plain hyper.

use std::{convert::Infallible, net::SocketAddr, pin::pin};

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown, service::TowerToHyperService};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_keep::{Error, LazySession, MemoryStore, SessionLayer};

type Body = Full<Bytes>;

async fn counter(request: &Request<Incoming>) -> Result<String, Error> {
    let session = LazySession::of(request.extensions())?.load().await?;
    let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(format!("visits: {visits}\n"))
}

async fn route(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (status, text) = match request.uri().path() {
        "/" => match counter(&request).await {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (error.status(), error.body_text().to_owned()),
        },
        _ => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    Ok(response)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let sessions = SessionLayer::new(MemoryStore::new());
    let service = ServiceBuilder::new()
        .layer(sessions.clone())
        .service(service_fn(route));
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 3000))).await?;
    println!("listening on http://localhost:3000");
    let connections = GracefulShutdown::new();
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = &mut interrupt => break,
        };
        let service = TowerToHyperService::new(service.clone());
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a connection failed: {error}");
            }
        });
    }
    connections.shutdown().await;
    // What requests have begun to write is written.
    sessions.drain().await;
    Ok(())
}
