//! A client of the door as a shop writes it: what is not acknowledged is said again, under the same message id, at
//! whichever process answers.

use std::{io, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value as Json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The doors.
#[derive(Clone, Debug)]
pub struct Door {
    /// Ports of the processes.
    pub ports: Vec<u16>,
    /// Write key.
    pub key: String,
}

const PATIENCE: Duration = Duration::from_secs(15);

// === impl Door ===

impl Door {
    /// Posts once, at the door of this number; status and body.
    ///
    /// # Errors
    /// If no whole answer came: then nobody knows.
    pub async fn post(&self, door: usize, path: &str, body: &str) -> io::Result<(u16, String)> {
        let asking = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.ports[door % self.ports.len()])).await?;
            let key = STANDARD.encode(format!("{}:", self.key));
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: door.example\r\nconnection: close\r\ncontent-type: application/json\r\n\
                 authorization: Basic {key}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(format!("{head}{body}").as_bytes()).await?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await?;
            let text = String::from_utf8_lossy(&bytes);
            let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
            let (head, body) = text.split_once("\r\n\r\n").ok_or_else(cut)?;
            let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(cut)?;
            Ok((status, body.to_owned()))
        };
        tokio::time::timeout(PATIENCE, asking).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Says it until it is acknowledged; how often it was tried.
    ///
    /// # Errors
    /// If it is refused for good, with the answer.
    pub async fn say(&self, first: usize, path: &str, call: &Json) -> Result<u32, String> {
        let body = call.to_string();
        let mut tries = 0;
        loop {
            let answer = self.post(first + tries as usize, path, &body).await;
            tries += 1;
            match answer {
                Ok((200, body)) if !body.contains("\"rejected\"") => return Ok(tries),
                // 401: a door that has just been started has not read its keys yet
                Ok((401 | 429 | 500..=599, _)) | Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
                Ok((status, body)) => return Err(format!("{path}: {status} {body}")),
            }
        }
    }
}
