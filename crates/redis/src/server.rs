//! Which server, and by what a connection proves who it is: as the settings say it, and as a connection needs it.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo as _, RedisConnectionInfo, RedisError,
    TlsCertificates,
};
use waypost_runtime::ports::StoreError;
use zeroize::Zeroizing;

/// Host and port.
pub(crate) type Place = (String, u16);

/// A server. Its files are read for each new connection, so that nothing has to start anew for what was renewed in them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// `redis://host:port/db`, or `rediss://` for TLS. With sentinels only its scheme and its database count, with a cluster only its
    /// scheme.
    pub url: String,
    /// A user of the server's access control lists; none: the default user.
    pub username: Option<String>,
    /// Where the password lies; white space at its end is none of it.
    pub password_file: Option<PathBuf>,
    /// Authorities (PEM) by which the server's certificate is judged; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key (PEM), for servers that ask for one.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Who knows where the master is.
    pub sentinels: Option<Sentinels>,
    /// Nodes of a Redis Cluster, each `host:port`, which are asked in turn where its slots are; none: it is no cluster.
    pub cluster: Vec<String>,
}

/// Sentinels, which are asked in turn. They know the same users as the server, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentinels {
    /// Each `host:port`.
    pub addresses: Vec<String>,
    /// What they call the master.
    pub master: String,
}

/// A server as connections are made to it.
#[derive(Clone)]
pub(crate) struct Route {
    server: Server,
    /// What the address says.
    info: ConnectionInfo,
    pub(crate) sentinels: Vec<Place>,
    /// Nodes of a cluster that are known beforehand.
    pub(crate) cluster: Vec<Place>,
}

/// What one connection is made with.
pub(crate) struct Identity {
    password: Option<Zeroizing<String>>,
    certificates: Option<TlsCertificates>,
}

// === impl Server ===

impl Server {
    /// The server at an address, as the address alone says it.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the address may hold a password
        f.debug_struct("Server")
            .field("username", &self.username)
            .field("sentinels", &self.sentinels)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

// === impl Route ===

impl Route {
    /// # Errors
    /// What does not go together, by its setting.
    pub(crate) fn to(server: &Server) -> Result<Self, StoreError> {
        let refused = |why: &str| StoreError::Refused(why.to_owned());
        // the error's text may repeat the address with its password
        let info = server.url.as_str().into_connection_info().map_err(|_| refused("redis.url is no redis:// or rediss:// address"))?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err(refused("redis.url: `#insecure` would trust anybody; leave it out"));
        }
        let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        if !is_tls && (server.ca_file.is_some() || server.certificate.is_some()) {
            return Err(refused("redis.ca_file and redis.cert_file are for TLS: redis.url must begin with rediss://"));
        }
        if server.password_file.is_some() && info.redis_settings().password().is_some() {
            return Err(refused("redis.url holds a password, and redis.password_file is set; keep the file"));
        }
        if server.username.is_some() && server.password_file.is_none() {
            return Err(refused("redis.username is set; it needs redis.password_file"));
        }
        let addresses = server.sentinels.as_ref().map_or(&[][..], |sentinels| &sentinels.addresses);
        let (sentinels, cluster) = (places("redis.sentinels", addresses)?, places("redis.cluster", &server.cluster)?);
        if server.sentinels.as_ref().is_some_and(|s| s.addresses.is_empty() || s.master.is_empty()) {
            return Err(refused("redis.sentinels and redis.master go together"));
        }
        if !cluster.is_empty() && server.sentinels.is_some() {
            return Err(refused("redis.cluster and redis.sentinels are both set; the nodes of a cluster know their masters themselves"));
        }
        if !cluster.is_empty() && info.redis_settings().db() != 0 {
            return Err(refused("redis.url names a database, and redis.cluster is set: a Redis Cluster has none but 0"));
        }
        Ok(Self { server: server.clone(), info, sentinels, cluster })
    }

    /// What the sentinels call the master.
    pub(crate) fn master(&self) -> &str {
        self.server.sentinels.as_ref().map_or("", |sentinels| &sentinels.master)
    }

    /// Reads the files for a connection that is to be made now.
    pub(crate) fn identity(&self) -> Result<Identity, StoreError> {
        let Server { password_file, ca_file, certificate, .. } = &self.server;
        let password = password_file.as_ref().map(|path| {
            let bytes = Zeroizing::new(read("redis.password_file", path)?);
            let no_text = |_| unreadable("redis.password_file", path, &io::Error::other("it is no text"));
            Ok(Zeroizing::new(str::from_utf8(&bytes).map_err(no_text)?.trim_end().to_owned()))
        });
        let root_cert = ca_file.as_ref().map(|path| read("redis.ca_file", path)).transpose()?;
        let client_tls = certificate.as_ref().map(|(cert, key)| {
            Ok(ClientTlsConfig { client_cert: read("redis.cert_file", cert)?, client_key: read("redis.key_file", key)? })
        });
        let certificates = TlsCertificates { client_tls: client_tls.transpose()?, root_cert };
        let is_any = certificates.client_tls.is_some() || certificates.root_cert.is_some();
        Ok(Identity { password: password.transpose()?, certificates: is_any.then_some(certificates) })
    }

    /// A client for the server that the address names, or for another place where the same holds.
    pub(crate) fn client(&self, place: Option<Place>, identity: &Identity) -> Result<Client, StoreError> {
        self.open(self.settings(identity), place, identity)
    }

    /// A client for a sentinel: it has no databases, and may know no users.
    pub(crate) fn sentinel(&self, place: Place, identity: &Identity, knows_users: bool) -> Result<Client, StoreError> {
        let settings = if knows_users { self.settings(identity) } else { nobody() };
        self.open(settings.set_db(0), Some(place), identity)
    }

    fn settings(&self, identity: &Identity) -> RedisConnectionInfo {
        let mut settings = nobody().set_db(self.info.redis_settings().db());
        let username = self.server.username.as_deref().or_else(|| self.info.redis_settings().username());
        if let Some(username) = username {
            settings = settings.set_username(username);
        }
        if let Some(password) =
            identity.password.as_ref().map(|password| password.as_str()).or_else(|| self.info.redis_settings().password())
        {
            settings = settings.set_password(password);
        }
        settings
    }

    fn open(&self, settings: RedisConnectionInfo, place: Option<Place>, identity: &Identity) -> Result<Client, StoreError> {
        let mut info = self.info.clone().set_redis_settings(settings);
        if let Some((host, port)) = place {
            let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
            info = info.set_addr(if is_tls {
                ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
            } else {
                ConnectionAddr::Tcp(host, port)
            });
        }
        let opened = match &identity.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        };
        opened.map_err(|error| trouble(&error))
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(f)
    }
}

/// Hosts and ports of a setting.
fn places(setting: &str, addresses: &[String]) -> Result<Vec<Place>, StoreError> {
    let place = |address: &String| {
        let found = place(address);
        found.ok_or_else(|| StoreError::Refused(format!("{setting}: `{address}` is no HOST:PORT")))
    };
    addresses.iter().map(place).collect()
}

/// `host:port`, where the host of version 6 of the internet protocol may stand in brackets.
pub(crate) fn place(address: &str) -> Option<Place> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
}

/// What a connection begins with; its client's name in `CLIENT LIST` would be one more right.
fn nobody() -> RedisConnectionInfo {
    RedisConnectionInfo::default().set_skip_set_lib_name()
}

/// Why there is no connection, and what to look at.
pub(crate) fn trouble(error: &RedisError) -> StoreError {
    let text = error.to_string();
    let says = |word: &str| text.contains(word);
    let why = if error.kind() == ErrorKind::AuthenticationFailed {
        "the server does not know the user: check redis.username and what lies in redis.password_file".to_owned()
    } else if says("NotValidForName") || says("not valid for name") {
        "the server's certificate is for another name than the one in redis.url (or that sentinels or nodes of the cluster give)".to_owned()
    } else if says("UnknownIssuer") {
        "no authority of redis.ca_file (without one: of the system) vouches for the server's certificate".to_owned()
    } else if says("invalid peer certificate") {
        format!("the server's certificate is not to be trusted: {text}")
    } else if says("CertificateRequired") || says("received fatal alert") {
        format!("the server ends the connection: check redis.cert_file and redis.key_file, it may ask for a certificate ({text})")
    } else if says("PEM") || says("trust anchors") || says("TLS parameters") {
        "redis.ca_file, redis.cert_file or redis.key_file holds no certificate or key in PEM that can be used".to_owned()
    } else {
        error.category().to_owned()
    };
    StoreError::Refused(format!("cannot connect: {why}"))
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
    let bytes = fs::read(path).map_err(|error| unreadable(setting, path, &error))?;
    if bytes.trim_ascii().is_empty() {
        return Err(StoreError::Refused(format!("{setting}: {} is empty", path.display())));
    }
    Ok(bytes)
}

fn unreadable(setting: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Refused(format!("{setting}: cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(server: &Server) -> String {
        match Route::to(server) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused_by_its_setting() {
        let file = || Some(PathBuf::from("/nowhere/file"));
        let sentinels = |addresses: &[&str], master: &str| {
            Some(Sentinels { addresses: addresses.iter().map(|&a| a.to_owned()).collect(), master: master.to_owned() })
        };
        let nodes = || vec!["n1:6379".to_owned(), "n2:6379".to_owned()];
        let rows = [
            (Server::at("http://canary@redis"), "redis.url is no redis://"),
            (Server::at("rediss://redis/#insecure"), "`#insecure`"),
            (Server { ca_file: file(), ..Server::at("redis://redis") }, "rediss://"),
            (Server { password_file: file(), ..Server::at("redis://:canary@redis") }, "redis.password_file is set"),
            (Server { username: Some("ana".into()), ..Server::at("redis://redis") }, "it needs redis.password_file"),
            (Server { sentinels: sentinels(&["sentinel"], "shop"), ..Server::at("redis://redis") }, "`sentinel` is no HOST:PORT"),
            (Server { sentinels: sentinels(&["sentinel:1"], ""), ..Server::at("redis://redis") }, "redis.master"),
            (Server { sentinels: sentinels(&["[::1]:26379", "s:1"], "shop"), ..Server::at("rediss://redis") }, "accepted"),
            (Server { cluster: nodes(), sentinels: sentinels(&["s:1"], "shop"), ..Server::at("redis://redis") }, "both set"),
            (Server { cluster: vec!["node".into()], ..Server::at("redis://redis") }, "redis.cluster: `node` is no HOST:PORT"),
            (Server { cluster: nodes(), ..Server::at("redis://redis/3") }, "names a database"),
            (Server { cluster: nodes(), ..Server::at("redis://redis/0") }, "accepted"),
        ];
        for (server, says) in rows {
            let refusal = refusal(&server);
            assert!(refusal.contains(says) && !refusal.contains("canary"), "{refusal}");
            assert!(!format!("{server:?}").contains("canary"));
        }
    }

    #[test]
    fn files_are_read_for_each_connection() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let route = Route::to(&Server { password_file: Some(file.clone()), ..Server::at("redis://redis") }).unwrap();
        let password = || route.identity().map(|identity| identity.password.map(|password| password.to_string()));
        assert!(password().unwrap_err().to_string().contains("redis.password_file: cannot read"));
        fs::write(&file, "one\n").unwrap();
        assert_eq!(password(), Ok(Some("one".to_owned())));
        fs::write(&file, "two").unwrap();
        assert_eq!(password(), Ok(Some("two".to_owned())));
        fs::write(&file, "\n").unwrap();
        assert!(password().unwrap_err().to_string().contains("is empty"));
    }
}
