//! The connections of an HTTP server that the world can reach: how many, of whom, and how they end.
//!
//! A head that does not come, a body that does not come (the door's own patience), an answer that nobody reads and a
//! connection that is never closed each end in bounded time, and nobody holds all places.

use std::{
    collections::HashMap,
    io::{ErrorKind, Write as _},
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, extract::ConnectInfo, http::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::Service as _;

use super::address::{Household, TrustedProxies};

/// Bytes of a request's head.
const LONGEST_HEAD: usize = 32 * 1024;
/// Bytes of a connection that are read ahead, or wait to be written.
const BUFFER: usize = 64 * 1024;
/// Between two attempts to accept where the process has no more descriptors.
const PAUSE: Duration = Duration::from_secs(1);

/// What connections may take.
#[derive(Clone, Debug)]
pub struct Connections {
    /// A whole head has to come within this time: of the first request, and of the next one after an answer. Longer than load
    /// balancers keep their idle connections, or they would send a request into one that closes.
    pub head: Duration,
    /// So old a connection takes no further request.
    pub lifetime: Duration,
    /// And what was begun then may take so long: longer than any that the door answers.
    pub last_request: Duration,
    /// Open at once.
    pub most: usize,
    /// Of one address, unless that is a proxy's.
    pub most_per_address: usize,
    /// Proxies, whose connections are many people's.
    pub proxies: TrustedProxies,
}

/// Connections by address.
#[derive(Debug, Default)]
struct Places(Mutex<HashMap<Household, usize>>);

/// One of them, until it is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    household: Household,
}

/// What the connections of a server have in common.
#[derive(Clone)]
struct Server {
    http: http1::Builder,
    router: Router,
    lifetime: Duration,
    last_request: Duration,
    /// Turns true when no further request is to be taken.
    ending: watch::Receiver<bool>,
}

/// Serves until `stop`; then requests that were begun are answered and no new ones are taken.
pub async fn serve(listener: TcpListener, router: Router, settings: Connections, stop: impl Future<Output = ()>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(settings.head).max_header_size(LONGEST_HEAD).max_buf_size(BUFFER);
    let (end, ending) = watch::channel(false);
    let server = Server { http, router, lifetime: settings.lifetime, last_request: settings.last_request, ending };
    let places = Arc::new(Places::default());
    let mut open = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = stop.as_mut() => break,
        };
        while open.try_join_next().is_some() {}
        if open.len() >= settings.most {
            turn_away(stream, "503 Service Unavailable");
            continue;
        }
        let place = if settings.proxies.contains(peer.ip()) {
            None
        } else {
            let Some(place) = Places::take(&places, Household::of(peer.ip()), settings.most_per_address) else {
                turn_away(stream, "429 Too Many Requests");
                continue;
            };
            Some(place)
        };
        open.spawn(server.clone().connection(stream, peer, place));
    }
    drop(listener);
    end.send_replace(true);
    while open.join_next().await.is_some() {}
}

/// Waits for a connection; what is wrong with one is no matter of the others.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                drop(stream.set_nodelay(true));
                return (stream, peer);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Says so and closes; whoever does not listen misses it.
fn turn_away(stream: TcpStream, status: &str) {
    tracing::debug!(status, "connection turned away");
    let answer = format!("HTTP/1.1 {status}\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    drop(stream.into_std().and_then(|mut stream| stream.write_all(answer.as_bytes())));
}

// === impl Connections ===

impl Default for Connections {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(75),
            lifetime: Duration::from_mins(10),
            last_request: Duration::from_secs(90),
            most: 4_096,
            most_per_address: 512,
            proxies: TrustedProxies::default(),
        }
    }
}

// === impl Server ===

impl Server {
    async fn connection(self, stream: TcpStream, peer: SocketAddr, place: Option<Place>) {
        let Self { http, router, lifetime, last_request, mut ending } = self;
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            // A router is always ready.
            router.clone().call(request)
        });
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let over = async {
            tokio::select! {
                () = sleep(lifetime) => {}
                _ = ending.wait_for(|ending| *ending) => {}
            }
        };
        tokio::select! {
            // How it ended is its client's doing.
            _ = connection.as_mut() => {}
            () = over => {
                connection.as_mut().graceful_shutdown();
                drop(timeout(last_request, connection).await);
            }
        }
        drop(place);
    }
}

// === impl Places ===

impl Places {
    fn take(places: &Arc<Self>, household: Household, most: usize) -> Option<Place> {
        let mut taken = places.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(household).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { places: Arc::clone(places), household })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.household) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.household);
            }
        }
    }
}
