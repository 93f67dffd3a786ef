//! Private reads between processes: who owns a partition answers for it, over gRPC, to whoever knows the installation's key.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use anyhow::{Context as _, anyhow, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Server},
};
use waypost_control::{Content, Reread, bounded, tls::Tls};
use waypost_proto::owner::{
    ReadEntityRequest, ReadEntityResponse,
    owner_service_client::OwnerServiceClient,
    owner_service_server::{OwnerService, OwnerServiceServer},
};
use waypost_runtime::{
    driver::LocalOwners,
    host::SystemClock,
    ports::{Clock as _, Offset, Owners, OwnersError},
    progress::{Directory, Owner},
};
use waypost_types::{EntityId, PartitionId, Role};

use super::access::OwnerToken;
use crate::config;

/// How long an owner may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Metadata entry of a request: the token.
const AUTHORIZATION: &str = "authorization";

/// Answers for the partitions that this process owns.
#[derive(Clone, Debug)]
pub(super) struct Answering {
    owners: LocalOwners,
    token: OwnerToken,
}

/// Asks whoever owns a partition, as the directory knows it.
pub(super) struct Asking {
    directory: Arc<Directory>,
    token: MetadataValue<Ascii>,
    /// The authorities of owners' certificates; none: no TLS.
    authorities: Option<Reread<Vec<u8>>>,
    // The name that owners' certificates are for; empty: their address.
    name: String,
    channels: tokio::sync::Mutex<Channels>,
}

/// Connections by address, made with these authorities.
#[derive(Default)]
struct Channels {
    authorities: Option<Arc<Vec<u8>>>,
    by_address: BTreeMap<String, Channel>,
}

// === impl Answering ===

impl Answering {
    pub(super) fn new(owners: LocalOwners, token: OwnerToken) -> Self {
        Self { owners, token }
    }

    /// Answers whoever comes to the listener.
    pub(super) async fn serve(self, listener: TcpListener, tls: Option<Tls>) -> anyhow::Result<()> {
        let router = bounded(Server::builder()).add_service(OwnerServiceServer::new(self));
        let served = match tls {
            Some(tls) => router.serve_with_incoming(tls.incoming(listener)).await,
            None => router.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)).await,
        };
        served.context("private reads")
    }
}

#[tonic::async_trait]
impl OwnerService for Answering {
    async fn read_entity(&self, request: Request<ReadEntityRequest>) -> Result<Response<ReadEntityResponse>, Status> {
        let shown = request.metadata().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !self.token.is(shown) {
            return Err(Status::unauthenticated("only processes of this installation may ask"));
        }
        let request = request.into_inner();
        let role = Role::from_number(request.role).ok_or_else(|| Status::invalid_argument("no such role"))?;
        let partition = PartitionId { role, index: request.partition };
        let read = self.owners.read(partition, EntityId::from_bytes(&request.entity)).await;
        let (value, as_of) = read.map_err(|e| Status::unavailable(e.why))?;
        Ok(Response::new(ReadEntityResponse { found: value.is_some(), value: value.unwrap_or_default(), as_of }))
    }
}

// === impl Asking ===

impl Asking {
    pub(super) fn new(directory: Arc<Directory>, token: OwnerToken, settings: &config::Owner) -> anyhow::Result<Self> {
        ensure!(
            settings.tls_name.is_empty() || !settings.ca_file.is_empty(),
            "owner.tls_name is set: whose certificates? set owner.ca_file"
        );
        let authorities = if settings.ca_file.is_empty() {
            ensure!(
                settings.tls_cert_file.is_empty(),
                "owner.tls_cert_file is set: by whom are owners' certificates judged? set owner.ca_file"
            );
            None
        } else {
            let pem = |contents: &[Content]| contents.first().map(|content| content.to_vec()).ok_or_else(String::new);
            Some(Reread::open("owner.ca_file", vec![settings.ca_file.clone().into()], pem).map_err(|why| anyhow!("owner.ca_file: {why}"))?)
        };
        let mut token: MetadataValue<Ascii> = token.shown().parse()?;
        token.set_sensitive(true);
        let (name, channels) = (settings.tls_name.clone(), tokio::sync::Mutex::default());
        Ok(Self { directory, token, authorities, name, channels })
    }

    async fn channel(&self, address: &str) -> Result<Channel, String> {
        let mut channels = self.channels.lock().await;
        let authorities = self.authorities.as_ref().map(Reread::current);
        if !same(channels.authorities.as_ref(), authorities.as_ref()) {
            *channels = Channels { authorities: authorities.clone(), ..Channels::default() };
        }
        if let Some(channel) = channels.by_address.get(address) {
            return Ok(channel.clone());
        }
        let endpoint = match authorities {
            None => Endpoint::from_shared(format!("http://{address}")),
            Some(pem) => {
                let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&*pem));
                let tls = if self.name.is_empty() { tls } else { tls.domain_name(self.name.clone()) };
                Endpoint::from_shared(format!("https://{address}")).and_then(|endpoint| endpoint.tls_config(tls))
            }
        };
        let endpoint = endpoint.map_err(|e| e.to_string())?;
        let channel = endpoint.timeout(PATIENCE).connect_timeout(PATIENCE).connect_lazy();
        channels.by_address.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

/// Whether nothing was read again since.
fn same(before: Option<&Arc<Vec<u8>>>, now: Option<&Arc<Vec<u8>>>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => Arc::ptr_eq(before, now),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[async_trait]
impl Owners for Asking {
    async fn read(&self, partition: PartitionId, entity: EntityId) -> Result<(Option<Bytes>, Offset), OwnersError> {
        let away = |why: String| OwnersError { partition, why };
        let owner = self.directory.owner(partition, SystemClock.now()).ok_or_else(|| away("nobody owns it at the moment".to_owned()))?;
        let channel = self.channel(&owner.address).await.map_err(away)?;
        let mut request = Request::new(ReadEntityRequest {
            role: partition.role.number(),
            partition: partition.index,
            entity: Bytes::copy_from_slice(entity.as_bytes()),
        });
        request.metadata_mut().insert(AUTHORIZATION, self.token.clone());
        let answer = OwnerServiceClient::new(channel).read_entity(request).await.map_err(|s| away(s.message().to_owned()))?.into_inner();
        Ok((answer.found.then_some(answer.value), answer.as_of))
    }

    fn owned(&self) -> Option<Vec<Owner>> {
        Some(self.directory.owners(SystemClock.now()))
    }

    fn engines(&self) -> Vec<(String, RangeInclusive<u32>)> {
        self.directory.engines(SystemClock.now())
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn only_whoever_knows_the_installation_s_key_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let token = OwnerToken::from_key(&[7; 32]);
        tokio::spawn(Answering::new(LocalOwners::new([]), token).serve(listener, None));
        let mut client = OwnerServiceClient::connect(address).await.unwrap();
        let other = OwnerToken::from_key(&[8; 32]).shown();
        let cut = token.shown()[..60].to_owned();
        for (shown, code) in [
            (None, Code::Unauthenticated),
            (Some(String::new()), Code::Unauthenticated),
            (Some(other), Code::Unauthenticated),
            (Some(cut), Code::Unauthenticated),
            (Some(token.shown().replace("Bearer ", "")), Code::Unauthenticated),
            // nobody owns anything here, but the question was heard
            (Some(token.shown()), Code::Unavailable),
        ] {
            let mut request =
                Request::new(ReadEntityRequest { role: Role::Segmenter.number(), partition: 0, entity: Bytes::from_static(&[0; 16]) });
            if let Some(shown) = &shown {
                request.metadata_mut().insert(AUTHORIZATION, shown.parse().unwrap());
            }
            assert_eq!(client.read_entity(request).await.unwrap_err().code(), code, "{shown:?}");
        }
    }

    /// A certificate of this machine's own address, judged by itself.
    fn certificate(folder: &tempfile::TempDir, name: &str) -> (String, String) {
        // Of one that is for an address, that alone; else for its own name.
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![if name.starts_with("waypost") {
            rcgen::SanType::DnsName(name.try_into().unwrap())
        } else {
            rcgen::SanType::IpAddress("127.0.0.1".parse().unwrap())
        }];
        let key = rcgen::KeyPair::generate().unwrap();
        let put = |kind: &str, pem: String| {
            let path = folder.path().join(format!("{name}.{kind}"));
            std::fs::write(&path, pem).unwrap();
            path.to_str().unwrap().to_owned()
        };
        (put("crt", params.self_signed(&key).unwrap().pem()), put("key", key.serialize_pem()))
    }

    /// Whether TLS is agreed on, so that the token is asked for.
    async fn is_heard(asking: &Asking, address: &str) -> bool {
        let channel = asking.channel(address).await.unwrap();
        let request = ReadEntityRequest { role: Role::Segmenter.number(), partition: 0, entity: Bytes::from_static(&[0; 16]) };
        // Nobody shows one here.
        OwnerServiceClient::new(channel).read_entity(request).await.unwrap_err().code() == Code::Unauthenticated
    }

    #[tokio::test]
    async fn a_certificate_may_be_for_a_name_instead_of_an_address() {
        let folder = tempfile::tempdir().unwrap();
        let (crt, key) = certificate(&folder, "waypost-owner");
        let settings = |tls_name: &str| config::Owner {
            listen: String::new(),
            advertise: String::new(),
            tls_cert_file: crt.clone(),
            tls_key_file: key.clone(),
            ca_file: crt.clone(),
            tls_name: tls_name.to_owned(),
        };
        let token = OwnerToken::from_key(&[7; 32]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tls = super::super::access::owner_tls(&settings("")).unwrap();
        tokio::spawn(Answering::new(LocalOwners::new([]), token).serve(listener, tls));
        for (name, expected) in [("waypost-owner", true), ("another", false), ("", false)] {
            let asking = Asking::new(Arc::new(Directory::default()), token, &settings(name)).unwrap();
            assert_eq!(is_heard(&asking, &address).await, expected, "{name}");
        }
        let nobody = config::Owner { tls_cert_file: String::new(), ca_file: String::new(), ..settings("waypost-owner") };
        assert!(Asking::new(Arc::new(Directory::default()), token, &nobody).is_err(), "whose certificates?");
    }

    #[tokio::test]
    async fn behind_tls_only_an_owner_that_the_authorities_know_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let (crt, key) = certificate(&folder, "own");
        let (other, _) = certificate(&folder, "other");
        let settings = |tls_cert_file: &str, ca_file: &str| config::Owner {
            listen: String::new(),
            advertise: String::new(),
            tls_cert_file: tls_cert_file.to_owned(),
            tls_key_file: key.clone(),
            ca_file: ca_file.to_owned(),
            tls_name: String::new(),
        };
        let token = OwnerToken::from_key(&[7; 32]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tls = super::super::access::owner_tls(&settings(&crt, &crt)).unwrap();
        assert!(tls.is_some());
        tokio::spawn(Answering::new(LocalOwners::new([]), token).serve(listener, tls));
        let asking = |settings: config::Owner| Asking::new(Arc::new(Directory::default()), token, &settings);
        for (settings, expected) in [(settings(&crt, &crt), true), (settings(&crt, &other), false), (settings("", ""), false)] {
            assert_eq!(is_heard(&asking(settings).unwrap(), &address).await, expected);
        }
        assert!(asking(settings(&crt, "")).is_err(), "by whom would certificates be judged?");
    }
}
