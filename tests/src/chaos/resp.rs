//! A few words of Redis' protocol: the runner reads state and gives orders; it is no client of the product's.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Status, number as text, bytes.
    Bytes(Vec<u8>),
    /// Nothing there.
    Nothing,
    /// A list.
    List(Vec<Reply>),
    /// What it does not like.
    Error(String),
}

const PATIENCE: Duration = Duration::from_secs(10);

// === impl Reply ===

impl Reply {
    /// As text; empty where there is none.
    pub fn text(&self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Nothing | Self::List(_) => String::new(),
            Self::Error(error) => format!("error: {error}"),
        }
    }

    /// Its items.
    pub fn list(self) -> Vec<Self> {
        if let Self::List(items) = self { items } else { Vec::new() }
    }

    /// Its bytes.
    pub fn bytes(self) -> Vec<u8> {
        if let Self::Bytes(bytes) = self { bytes } else { Vec::new() }
    }
}

/// Asks the server on a port of this machine once.
pub async fn ask<A: AsRef<[u8]>>(port: u16, words: &[A]) -> io::Result<Reply> {
    ask_in(port, "0", words).await
}

/// The same of another database than the first.
pub async fn ask_in<A: AsRef<[u8]>>(port: u16, database: &str, words: &[A]) -> io::Result<Reply> {
    let asking = async {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
        if database != "0" {
            stream.get_mut().write_all(&request(&["SELECT", database])).await?;
            if let Reply::Error(error) = read(&mut stream).await? {
                return Ok(Reply::Error(error));
            }
        }
        stream.get_mut().write_all(&request(words)).await?;
        read(&mut stream).await
    };
    tokio::time::timeout(PATIENCE, asking).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn request<A: AsRef<[u8]>>(words: &[A]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend_from_slice(format!("${}\r\n", word.as_ref().len()).as_bytes());
        request.extend_from_slice(word.as_ref());
        request.extend_from_slice(b"\r\n");
    }
    request
}

async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let (kind, rest) = line.trim_end().split_at_checked(1).ok_or_else(bad)?;
    let length = || rest.parse::<i64>().map_err(|_| bad());
    Ok(match kind {
        "+" | ":" => Reply::Bytes(rest.as_bytes().to_vec()),
        "-" => Reply::Error(rest.to_owned()),
        "$" | "*" if length()? < 0 => Reply::Nothing,
        "$" => {
            let mut bytes = vec![0; usize::try_from(length()?).map_err(|_| bad())? + 2];
            stream.read_exact(&mut bytes).await?;
            bytes.truncate(bytes.len() - 2);
            Reply::Bytes(bytes)
        }
        "*" => {
            let mut items = Vec::new();
            for _ in 0..length()? {
                items.push(Box::pin(read(stream)).await?);
            }
            Reply::List(items)
        }
        _ => return Err(bad()),
    })
}
