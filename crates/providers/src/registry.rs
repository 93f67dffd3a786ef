//! Any Confluent-compatible schema registry (CONVENTIONS §3.3): Confluent, Apicurio's ccompat, Karapace,
//! and the one that `waypost dev` serves.
//!
//! Only an answer that speaks of schemas is definite: a 404 of a proxy on the way is no "there is none".

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use waypost_codec::schemas::{Level, Registered, Schema, Schemas, SchemasError, Verdict};
use zeroize::Zeroizing;

/// How to be let in. Files are read for each request, and for each change of them.
#[derive(Clone, Default)]
pub enum Auth {
    /// Everybody is.
    #[default]
    None,
    /// A user name, and the file that holds the password.
    Basic(String, PathBuf),
    /// The file that holds a token.
    Bearer(PathBuf),
}

/// A registry over HTTP.
pub struct Registry {
    base: String,
    auth: Auth,
    /// Authorities (PEM) by which its certificate is judged; none: the system's.
    ca_file: Option<PathBuf>,
    /// The client, and the authorities it was made with.
    client: Mutex<(Vec<u8>, Client)>,
    // For ever: an id names one text.
    known: RwLock<BTreeMap<u32, Arc<Schema>>>,
}

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);
const MAX_KNOWN: usize = 10_000;

#[derive(Deserialize)]
struct SchemaAnswer {
    schema: String,
}

#[derive(Deserialize)]
struct VersionAnswer {
    version: u32,
    id: u32,
    schema: String,
}

#[derive(Deserialize)]
struct IdAnswer {
    id: u32,
}

#[derive(Deserialize)]
struct VerdictAnswer {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error_code: u32,
    #[serde(default)]
    message: String,
}

// === impl Registry ===

impl Registry {
    /// The registry whose API begins at `base`: `http://127.0.0.1:8081`, `https://…/apis/ccompat/v7`. Its certificate is judged by
    /// the authorities in `ca_file` (PEM), or by the system's.
    pub fn new(base: &str, auth: Auth, ca_file: Option<PathBuf>) -> Result<Self, SchemasError> {
        let base = base.trim_end_matches('/');
        if !(base.starts_with("http://") || base.starts_with("https://")) {
            return Err(SchemasError::Unavailable("the registry's address is not http(s)".to_owned()));
        }
        let authorities = authorities(ca_file.as_deref())?;
        let client = client(&authorities)?;
        Ok(Self { base: base.to_owned(), auth, ca_file, client: Mutex::new((authorities, client)), known: RwLock::default() })
    }

    /// Made anew where the authorities have changed.
    fn client(&self) -> Result<Client, SchemasError> {
        let authorities = authorities(self.ca_file.as_deref())?;
        let mut made = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if made.0 != authorities {
            *made = (authorities.clone(), client(&authorities)?);
        }
        Ok(made.1.clone())
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, SchemasError> {
        let request =
            self.client()?.request(method, format!("{}{path}", self.base)).header("accept", format!("{MEDIA_TYPE}, application/json"));
        Ok(match &self.auth {
            Auth::None => request,
            Auth::Basic(user, file) => request.basic_auth(user, Some(secret("registry.password_file", file)?.as_str())),
            Auth::Bearer(file) => request.bearer_auth(secret("registry.token_file", file)?.as_str()),
        })
    }

    async fn ask<T: DeserializeOwned>(&self, request: Result<RequestBuilder, SchemasError>) -> Result<T, SchemasError> {
        let answer = request?.send().await.map_err(|e| unavailable(&e))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|e| unavailable(&e))?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| SchemasError::Unavailable("an answer that is none of a registry".to_owned()));
        }
        Err(refusal(status, serde_json::from_slice(&body).ok().as_ref()))
    }

    fn post(&self, path: &str, body: &Value) -> Result<RequestBuilder, SchemasError> {
        Ok(self.request(Method::POST, path)?.header("content-type", MEDIA_TYPE).body(body.to_string()))
    }

    fn keep(&self, id: u32, text: &str) -> Result<Arc<Schema>, SchemasError> {
        let schema = Arc::new(Schema::parse(id, text)?);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_KNOWN {
            known.insert(id, schema.clone());
        }
        Ok(schema)
    }
}

#[async_trait]
impl Schemas for Registry {
    async fn by_id(&self, id: u32) -> Result<Arc<Schema>, SchemasError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(schema) = known {
            return Ok(schema);
        }
        let answer: SchemaAnswer = self.ask(self.request(Method::GET, &format!("/schemas/ids/{id}"))).await?;
        self.keep(id, &answer.schema)
    }

    async fn latest(&self, subject: &str) -> Result<Registered, SchemasError> {
        let path = format!("/subjects/{}/versions/latest", encoded(subject));
        let answer: VersionAnswer = self.ask(self.request(Method::GET, &path)).await?;
        let schema = self.keep(answer.id, &answer.schema)?;
        Ok(Registered { subject: subject.to_owned(), version: answer.version, schema })
    }

    async fn check(&self, subject: &str, schema: &str) -> Result<Verdict, SchemasError> {
        let path = format!("/compatibility/subjects/{}/versions/latest?verbose=true", encoded(subject));
        match self.ask::<VerdictAnswer>(self.post(&path, &body(schema))).await {
            // A subject that is absent takes any.
            Ok(VerdictAnswer { is_compatible: true, .. }) | Err(SchemasError::NotFound) => Ok(Verdict::default()),
            Ok(VerdictAnswer { messages, .. }) if messages.is_empty() => Ok(Verdict { reasons: vec!["incompatible".to_owned()] }),
            Ok(VerdictAnswer { messages, .. }) => Ok(Verdict { reasons: messages }),
            Err(error) => Err(error),
        }
    }

    async fn register(&self, subject: &str, schema: &str) -> Result<u32, SchemasError> {
        let path = format!("/subjects/{}/versions", encoded(subject));
        Ok(self.ask::<IdAnswer>(self.post(&path, &body(schema))).await?.id)
    }

    async fn subjects(&self) -> Result<Vec<String>, SchemasError> {
        let mut subjects: Vec<String> = self.ask(self.request(Method::GET, "/subjects")).await?;
        subjects.sort();
        Ok(subjects)
    }

    async fn set_level(&self, subject: &str, level: Level) -> Result<(), SchemasError> {
        let path = format!("/config/{}", encoded(subject));
        let body = json!({ "compatibility": level.as_str() }).to_string();
        let request = self.request(Method::PUT, &path)?.header("content-type", MEDIA_TYPE).body(body);
        self.ask::<Value>(Ok(request)).await.map(drop)
    }
}

/// Bytes of the authorities; none: the system's.
fn authorities(file: Option<&Path>) -> Result<Vec<u8>, SchemasError> {
    file.map_or(Ok(Vec::new()), |path| fs::read(path).map_err(|error| unreadable("registry.ca_file", path, &error)))
}

fn client(authorities: &[u8]) -> Result<Client, SchemasError> {
    let builder = Client::builder().connect_timeout(CONNECT).timeout(ANSWER).redirect(reqwest::redirect::Policy::none());
    let builder = if authorities.is_empty() {
        builder
    } else {
        let none = || SchemasError::Unavailable("registry.ca_file holds no certificate in PEM".to_owned());
        let certificates = Certificate::from_pem_bundle(authorities).map_err(|_| none())?;
        if certificates.is_empty() {
            return Err(none());
        }
        builder.tls_certs_only(certificates)
    };
    builder.build().map_err(|e| unavailable(&e))
}

fn secret(setting: &str, path: &Path) -> Result<Zeroizing<String>, SchemasError> {
    let text = Zeroizing::new(fs::read_to_string(path).map_err(|error| unreadable(setting, path, &error))?);
    Ok(Zeroizing::new(text.trim_end().to_owned()))
}

fn unreadable(setting: &str, path: &Path, error: &std::io::Error) -> SchemasError {
    SchemasError::Unavailable(format!("{setting}: cannot read {}: {error}", path.display()))
}

fn body(schema: &str) -> Value {
    json!({ "schema": schema, "schemaType": "AVRO" })
}

fn refusal(status: StatusCode, answer: Option<&ErrorAnswer>) -> SchemasError {
    let code = answer.map_or(0, |a| a.error_code);
    let message = || answer.map(|a| a.message.clone()).filter(|m| !m.is_empty()).unwrap_or_else(|| format!("HTTP {status}"));
    match (status, code) {
        (StatusCode::NOT_FOUND, 40_401..=40_499) => SchemasError::NotFound,
        (StatusCode::CONFLICT, _) => SchemasError::Incompatible(vec![message()]),
        (StatusCode::UNPROCESSABLE_ENTITY, _) => SchemasError::Invalid(message()),
        (status, _) => SchemasError::Unavailable(format!("HTTP {}", status.as_u16())),
    }
}

fn unavailable(error: &reqwest::Error) -> SchemasError {
    // Without its address: that may hold a password.
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the exchange failed"
    };
    SchemasError::Unavailable(what.to_owned())
}

// Subjects are topic names, but nothing keeps others from having a slash.
fn encoded(subject: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    subject.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic(..) => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("auth", &self.auth).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
