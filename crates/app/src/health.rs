//! `waypost health`: asks a process on this machine how it is, for images without a shell.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, ensure};

use crate::{config::Config, screen};

/// Longer than the process takes to look at itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of an answer that is none of ours.
const LONGEST: u64 = 64 << 10;

/// Asks `/livez`, or with `ready` `/readyz`; success is a process that says yes.
pub(crate) fn health(config: &Config, ready: bool) -> anyhow::Result<ExitCode> {
    let listen = &config.admin.listen;
    ensure!(!listen.is_empty(), "admin.listen is empty: the process does not say how it is");
    let path = if ready { "/readyz?verbose" } else { "/livez" };
    let answer = ask(&local(listen), path).with_context(|| format!("asking {listen}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    screen(body.trim_end(), false);
    Ok(if head.split(' ').nth(1) == Some("200") { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where a listener of this machine is reached that listens on all its addresses.
fn local(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some(("" | "0.0.0.0" | "[::]", port)) => format!("localhost:{port}"),
        Some(_) | None => listen.to_owned(),
    }
}

fn ask(address: &str, path: &str) -> anyhow::Result<String> {
    let mut last = None;
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(exchange(stream, path)?),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| anyhow::anyhow!("no such address"), Into::into))
}

fn exchange(mut stream: TcpStream, path: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// Answers one request with this head; the request it had.
    fn answering(head: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut request, mut piece) = (Vec::new(), [0; 512]);
            while !request.ends_with(b"\r\n\r\n") {
                let length = stream.read(&mut piece).unwrap();
                request.extend_from_slice(&piece[..length]);
            }
            stream.write_all(format!("HTTP/1.1 {head}\r\ncontent-length: 3\r\n\r\nok\n").as_bytes()).unwrap();
            String::from_utf8_lossy(&request).into_owned()
        });
        (address, server)
    }

    fn config(listen: &str) -> Config {
        Config::load(&[], [("WAYPOST_ADMIN_LISTEN".to_owned(), listen.to_owned())], &[]).unwrap()
    }

    #[test]
    fn the_exit_code_is_what_the_process_says() {
        for (head, ready, path, expected) in [
            ("200 OK", false, "GET /livez HTTP", ExitCode::SUCCESS),
            ("200 OK", true, "GET /readyz?verbose HTTP", ExitCode::SUCCESS),
            ("503 Service Unavailable", true, "GET /readyz", ExitCode::FAILURE),
        ] {
            let (address, server) = answering(head);
            let code = health(&config(&address), ready).unwrap();
            assert_eq!(format!("{code:?}"), format!("{expected:?}"), "{head}");
            assert!(server.join().unwrap().starts_with(path));
        }
    }

    #[test]
    fn nobody_there_is_an_error_and_so_is_nowhere_to_ask() {
        assert!(health(&config("127.0.0.1:1"), false).is_err());
        let error = health(&config(""), false).unwrap_err().to_string();
        assert!(error.contains("admin.listen"), "{error}");
    }

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        for (listen, expected) in [
            ("0.0.0.0:9090", "localhost:9090"),
            ("[::]:9090", "localhost:9090"),
            (":9090", "localhost:9090"),
            ("10.0.0.7:9090", "10.0.0.7:9090"),
        ] {
            assert_eq!(local(listen), expected);
        }
    }
}
