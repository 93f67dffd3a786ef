//! TLS of our servers: certificate, key and authorities from files, used anew for each connection, so that a renewed certificate
//! needs no restart.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
    server::TlsStream,
};
use tokio_stream::wrappers::ReceiverStream;

use crate::reread::{Content, Reread};

/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way at once; further connections wait in the listener.
const HANDSHAKES: usize = 64;
/// How long nothing is accepted after an error, as one for too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// A server's side of TLS.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Reread<ServerConfig>>);

/// Connections whose handshake is done.
pub type Incoming = ReceiverStream<io::Result<TlsStream<TcpStream>>>;

// === impl Tls ===

impl Tls {
    /// Reads the files (PEM) for the first time. With authorities, a client that shows a certificate must show one of theirs;
    /// one that shows none is let in, and has to be known otherwise. `what` names the setting, for the log.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn open(what: &'static str, certificate: PathBuf, key: PathBuf, authorities: Option<PathBuf>) -> Result<Self, String> {
        let paths = [certificate, key].into_iter().chain(authorities).collect();
        Ok(Self(Arc::new(Reread::open(what, paths, config)?)))
    }

    /// The connections that come to a listener, until the stream is dropped.
    pub fn incoming(&self, listener: TcpListener) -> Incoming {
        let (done, incoming) = mpsc::channel(HANDSHAKES);
        tokio::spawn(accept(self.clone(), listener, done));
        ReceiverStream::new(incoming)
    }
}

async fn accept(tls: Tls, listener: TcpListener, done: mpsc::Sender<io::Result<TlsStream<TcpStream>>>) {
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = done.closed() => return,
            Some(_) = under_way.join_next() => {}
            accepted = listener.accept(), if under_way.len() < HANDSHAKES => match accepted {
                Ok((connection, _)) => {
                    let (acceptor, done) = (TlsAcceptor::from(tls.0.current()), done.clone());
                    under_way.spawn(async move {
                        if let Err(error) = connection.set_nodelay(true) {
                            tracing::debug!(%error, "a connection keeps its packets back");
                        }
                        match tokio::time::timeout(HANDSHAKE, acceptor.accept(connection)).await {
                            // Whoever listened may be gone.
                            Ok(Ok(connection)) => drop(done.send(Ok(connection)).await),
                            Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                            Err(_) => tracing::debug!("a handshake took too long"),
                        }
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "no connection was accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

/// A configuration of certificate, key and perhaps authorities.
fn config(contents: &[Content]) -> Result<ServerConfig, String> {
    let [certificate, key, authorities @ ..] = contents else { return Err("a certificate and a key are wanted".to_owned()) };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| e.to_string())?;
    let builder = match authorities.first() {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(authorities)? {
                roots.add(authority).map_err(|e| format!("an authority cannot be used: {e}"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).allow_unauthenticated().build();
            builder.with_client_cert_verifier(verifier.map_err(|e| e.to_string())?)
        }
    };
    // The error never repeats what stands in the file.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "the key file holds no PEM private key".to_owned())?;
    let mut config = builder.with_single_cert(certificates(certificate)?, key).map_err(|e| format!("certificate and key: {e}"))?;
    config.alpn_protocols.push(b"h2".to_vec());
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|_| "a certificate is no PEM".to_owned())?;
    if all.is_empty() { Err("there is no certificate in the file".to_owned()) } else { Ok(all) }
}
