//! HYPER: an HTTP server that reads every request to its end and answers as the door does, without Kafka. What a door costs above
//! this, it does itself.
#![expect(clippy::print_stdout, reason = "it says where it listens")]

use std::{convert::Infallible, net::SocketAddr};

use clap::Parser;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Answers 200 to everything, once it has read it.
#[derive(Parser, Debug)]
struct Arguments {
    /// Where
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listener = TcpListener::bind(Arguments::parse().listen).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // a connection that breaks is its caller's affair
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // a body that breaks off has no answer that anybody would read
    drop(request.into_body().collect().await);
    let mut response = Response::new(Full::new(Bytes::from_static(br#"{"success":true}"#)));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}
