//! A few lines of HTTP, so that nothing between test and door is clever.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value as Json;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// One request to one server.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, String)>,
    body: Vec<u8>,
    stated: Option<usize>,
}

// === impl Answer ===

impl Answer {
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// `reason` of the body; empty where there is none.
    pub(crate) fn reason(&self) -> String {
        self.json()["reason"].as_str().unwrap_or_default().to_owned()
    }
}

// === impl Request ===

impl<'a> Request<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: "GET", path, headers: Vec::new(), body: Vec::new(), stated: None }
    }

    pub(crate) fn post(path: &'a str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { method: "POST", path, headers, body: body.into(), stated: None }
    }

    /// With a write key.
    pub(crate) fn key(mut self, key: &str) -> Self {
        self.headers.push(("authorization", format!("Basic {}", STANDARD.encode(format!("{key}:")))));
        self
    }

    /// With a header.
    pub(crate) fn header(mut self, name: &'a str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// States a longer body than it sends.
    pub(crate) fn stating(mut self, bytes: usize) -> Self {
        self.stated = Some(bytes);
        self
    }

    pub(crate) fn send(&self, port: u16) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        let mut lines =
            vec![format!("{} {} HTTP/1.1", self.method, self.path), format!("host: 127.0.0.1:{port}"), "connection: close".to_owned()];
        lines.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        if self.method == "POST" {
            lines.push(format!("content-length: {}", self.stated.unwrap_or(self.body.len())));
        }
        let head = lines.join("\r\n") + "\r\n\r\n";
        stream.write_all(&[head.as_bytes(), &self.body].concat())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "no whole answer");
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(cut)?;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(cut)?;
        let head = head.to_ascii_lowercase();
        let body = if head.contains("transfer-encoding: chunked") { whole(body).ok_or_else(cut)? } else { body.to_owned() };
        Ok(Answer { status, head, body })
    }
}

/// A body in chunks, as one (RFC 9112 §7.1).
fn whole(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(rest.get(..size)?);
        chunks = rest.get(size..)?.strip_prefix("\r\n")?;
    }
}
