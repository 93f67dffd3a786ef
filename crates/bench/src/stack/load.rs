//! Closed-loop HTTP load that costs less than what it measures: one thread, requests that are built beforehand, answers of which only
//! the status and the length are read.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use waypost_bench::calls::Call;

/// Requests that one connection sends by turns.
const BY_TURNS: usize = 16;
/// Message ids of one connection.
const NUMBERS: u64 = 1 << 32;
/// Without an answer for so long the server is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was sent and answered with 200 within the window.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// Microseconds from a request to its answer.
    pub(crate) histogram: Histogram<u64>,
    /// Numbers of all events that were acknowledged, also before the window: per connection, from its first on.
    pub(crate) acknowledged: Vec<(u64, u64)>,
}

/// When to count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) run_in: Duration,
    pub(crate) length: Duration,
}

/// What one connection has done.
struct Done {
    requests: u64,
    histogram: Histogram<u64>,
    acknowledged: (u64, u64),
}

/// Sends `calls` over and over on so many connections, each with the next request when the last is answered. `border` is called
/// at both borders of the window.
pub(crate) fn run(
    server: SocketAddr,
    connections: usize,
    calls: &[Call],
    window: Window,
    first: u64,
    mut border: impl FnMut(),
) -> anyhow::Result<Load> {
    ensure!(!calls.is_empty(), "nothing to send");
    let calls: Arc<[Call]> = calls.into();
    let begin = Instant::now() + window.run_in;
    let end = begin + window.length;
    let loading = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            let mut tasks = tokio::task::JoinSet::new();
            for connection in 0..connections {
                // each begins elsewhere, so that not all send the same at a time
                let calls = calls.iter().cycle().skip(connection * calls.len() / connections).take(BY_TURNS).cloned().collect();
                tasks.spawn(connect(server, calls, (begin, end), (first + connection as u64) * NUMBERS));
            }
            let mut all = Vec::new();
            while let Some(done) = tasks.join_next().await {
                all.push(done??);
            }
            anyhow::Ok(all)
        })
    });
    std::thread::sleep(begin.saturating_duration_since(Instant::now()));
    border();
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    border();
    let done = loading.join().map_err(|_| anyhow::anyhow!("the load ended early"))??;
    let mut load = Load { requests: 0, seconds: window.length.as_secs_f64(), histogram: Histogram::new(3)?, acknowledged: Vec::new() };
    for one in done {
        load.requests += one.requests;
        load.histogram.add(one.histogram)?;
        load.acknowledged.push(one.acknowledged);
    }
    Ok(load)
}

async fn connect(server: SocketAddr, mut calls: Vec<Call>, (begin, end): (Instant, Instant), first: u64) -> anyhow::Result<Done> {
    let mut stream = TcpStream::connect(server).await.with_context(|| format!("nobody listens on {server}"))?;
    stream.set_nodelay(true)?;
    let mut done = Done { requests: 0, histogram: Histogram::new(3)?, acknowledged: (first, first) };
    let mut answer = vec![0; 4_096];
    for turn in 0.. {
        let place = turn % calls.len();
        let call = &mut calls[place];
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        stream.write_all(call.numbered(done.acknowledged.1)).await?;
        tokio::time::timeout(PATIENCE, answered(&mut stream, &mut answer)).await.context("no answer")??;
        let now = Instant::now();
        done.acknowledged.1 += call.events();
        if now >= begin && now < end {
            done.requests += 1;
            done.histogram.record(u64::try_from(now.duration_since(sent).as_micros())?)?;
        }
    }
    Ok(done)
}

/// Reads one answer, which has to be 200.
async fn answered(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<()> {
    let mut have = 0;
    loop {
        let read = stream.read(&mut buffer[have..]).await?;
        ensure!(read > 0, "the server has closed the connection, or answers at length: {}", String::from_utf8_lossy(&buffer[..have]));
        have += read;
        if let Some(length) = whole(&buffer[..have])? {
            ensure!(have == length, "more came than was asked for");
            return Ok(());
        }
    }
}

/// How long the answer is, once its head is there and all of it.
fn whole(answer: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head) = answer.windows(4).position(|at| at == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&answer[..head]).context("an answer's head is no text")?;
    if !text.starts_with("HTTP/1.1 200 ") {
        bail!("answered {}", String::from_utf8_lossy(answer));
    }
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = head + 4 + length.context("an answer has no length")?;
    Ok((answer.len() >= length).then_some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is_there() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd";
        assert_eq!(whole(&text[..30]).unwrap(), None);
        assert_eq!(whole(&text[..text.len() - 1]).unwrap(), None);
        assert_eq!(whole(text).unwrap(), Some(text.len()));
        assert!(whole(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").is_err());
    }
}
