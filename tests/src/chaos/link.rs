//! A road between one process and one server, over TCP, that can be silenced, refused, slowed and led elsewhere.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything.
    Open,
    /// Nothing, and nobody is told: bytes wait, as on a line whose packets are lost.
    Silent,
    /// New connections are closed at once.
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct Road {
    target: u16,
    mode: Mode,
    delay: Duration,
    // Connections of an earlier life are closed.
    life: u64,
}

/// The road; it ends with the runner.
#[derive(Debug)]
pub struct Link {
    port: u16,
    road: watch::Sender<Road>,
}

// === impl Link ===

impl Link {
    /// Opens a port that leads to the port `target` of this machine.
    pub async fn open(target: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let road = watch::Sender::new(Road { target, mode: Mode::Open, delay: Duration::ZERO, life: 0 });
        let watched = road.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A side that hangs up is no news.
                tokio::spawn(carry(client, watched.clone()));
            }
        });
        Ok(Self { port, road })
    }

    /// Where clients connect.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// From now on, for connections that stand and for new ones.
    pub fn set(&self, mode: Mode) {
        self.road.send_modify(|road| {
            road.mode = mode;
            if mode == Mode::Refused {
                road.life += 1;
            }
        });
    }

    /// Each piece of data waits so long.
    pub fn delay(&self, delay: Duration) {
        self.road.send_modify(|road| road.delay = delay);
    }

    /// Leads to another port; connections that stand are closed.
    pub fn lead_to(&self, target: u16) {
        self.road.send_modify(|road| {
            road.target = target;
            road.life += 1;
        });
    }

    /// Closes what stands; what was on its way is lost.
    pub fn reset(&self) {
        self.road.send_modify(|road| road.life += 1);
    }

    /// As if nothing had been.
    pub fn heal(&self) {
        self.road.send_modify(|road| {
            road.mode = Mode::Open;
            road.delay = Duration::ZERO;
        });
    }
}

async fn carry(client: TcpStream, mut road: watch::Receiver<Road>) {
    let now = *road.borrow_and_update();
    if now.mode == Mode::Refused {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", now.target)).await else { return };
    if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
        return;
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = pump(from_client, to_server, road.clone()) => {}
        () = pump(from_server, to_client, road.clone()) => {}
        _ = road.wait_for(|later| later.life != now.life) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut road: watch::Receiver<Road>) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        if road.wait_for(|road| road.mode != Mode::Silent).await.is_err() {
            return;
        }
        let delay = road.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says everything back.
    async fn echo() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        port
    }

    async fn said_back(stream: &mut TcpStream) -> Option<u8> {
        stream.write_all(b"x").await.ok()?;
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut byte)).await;
        read.ok()?.ok().map(|_| byte[0])
    }

    #[tokio::test]
    async fn a_silent_road_holds_bytes_and_a_refused_one_takes_no_connection() {
        let link = Link::open(echo().await).await.unwrap();
        let connect = || TcpStream::connect(("127.0.0.1", link.port()));
        let mut stream = connect().await.unwrap();
        assert_eq!(said_back(&mut stream).await, Some(b'x'));
        link.set(Mode::Silent);
        assert_eq!(said_back(&mut stream).await, None);
        link.heal();
        let mut held = [0];
        stream.read_exact(&mut held).await.unwrap();
        assert_eq!(&held, b"x", "what was held arrives");
        link.set(Mode::Refused);
        assert_eq!(said_back(&mut stream).await, None, "what stood is closed");
        assert_eq!(said_back(&mut connect().await.unwrap()).await, None);
        link.heal();
        link.lead_to(echo().await);
        assert_eq!(said_back(&mut connect().await.unwrap()).await, Some(b'x'));
    }
}
