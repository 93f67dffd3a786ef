//! The schema registry of `waypost dev`: Confluent's API over the one in memory (CONVENTIONS §3.3).
//!
//! Lost at exit. Answers and error codes are Confluent's, so that any client of theirs works.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use waypost_codec::schemas::{Level, MemorySchemas, Registered, SchemasError};

type Registry = State<Arc<MemorySchemas>>;
type Answer = Result<Response, Refusal>;

/// Confluent's error code (its first three digits are the status) and words for people.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    code: u32,
    message: String,
}

#[derive(Deserialize)]
struct SchemaBody {
    schema: String,
    #[serde(rename = "schemaType", default)]
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<Json>>,
}

#[derive(Deserialize)]
struct LevelBody {
    compatibility: String,
}

#[derive(Deserialize)]
struct Flags {
    #[serde(default)]
    verbose: bool,
    #[serde(rename = "defaultToGlobal", default)]
    default_to_global: bool,
}

const SUBJECT_NOT_FOUND: u32 = 40_401;
const VERSION_NOT_FOUND: u32 = 40_402;
const SCHEMA_NOT_FOUND: u32 = 40_403;
const NO_LEVEL: u32 = 40_408;
const INVALID_SCHEMA: u32 = 42_201;
const INVALID_VERSION: u32 = 42_202;
const INVALID_LEVEL: u32 = 42_203;
const UNPROCESSABLE: u32 = 422;
const INCOMPATIBLE: u32 = 409;

/// The registry's routes.
pub(crate) fn router(schemas: Arc<MemorySchemas>) -> Router {
    Router::new()
        .route("/", get(async || answer(&json!({}))))
        .route("/schemas/types", get(async || answer(&json!(["AVRO"]))))
        .route("/schemas/ids/{id}", get(by_id))
        .route("/schemas/guids/{guid}", get(by_guid))
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(find))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version))
        .route("/compatibility/subjects/{subject}/versions", post(check_all))
        .route("/compatibility/subjects/{subject}/versions/{version}", post(check))
        .route("/config", get(level).put(put_level))
        .route("/config/{subject}", get(subject_level).put(put_subject_level))
        .with_state(schemas)
}

async fn by_id(State(schemas): Registry, Path(id): Path<String>) -> Answer {
    let found = id.parse().ok().and_then(|id| schemas.schema(id).ok());
    let schema = found.ok_or_else(|| Refusal::new(SCHEMA_NOT_FOUND, format!("Schema {id} not found")))?;
    Ok(answer(&json!({"schema": schema.text})))
}

async fn by_guid(State(schemas): Registry, Path(guid): Path<String>) -> Answer {
    let missing = || Refusal::new(SCHEMA_NOT_FOUND, format!("Schema {guid} not found"));
    let bytes = hex::decode(guid.replace('-', "")).map_err(|_| missing())?;
    let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| missing())?;
    let schema = schemas.schema_by_guid(bytes).map_err(|_| missing())?;
    Ok(answer(&json!({"schema": schema.text})))
}

async fn subjects(State(schemas): Registry) -> Response {
    answer(&json!(schemas.names()))
}

async fn versions(State(schemas): Registry, Path(subject): Path<String>) -> Answer {
    let versions: Vec<_> = all(&schemas, &subject)?.iter().map(|r| r.version).collect();
    Ok(answer(&json!(versions)))
}

async fn version(State(schemas): Registry, Path((subject, version)): Path<(String, String)>) -> Answer {
    Ok(registered(&one(&schemas, &subject, &version)?))
}

async fn find(State(schemas): Registry, Path(subject): Path<String>, body: Bytes) -> Answer {
    all(&schemas, &subject)?;
    let text = schema_text(&body)?;
    let found = schemas.find(&subject, &text).map_err(|error| match error {
        SchemasError::NotFound => Refusal::new(SCHEMA_NOT_FOUND, "Schema not found"),
        other @ (SchemasError::Unavailable(_) | SchemasError::Incompatible(_) | SchemasError::Invalid(_)) => Refusal::from(other),
    })?;
    Ok(registered(&found))
}

async fn register(State(schemas): Registry, Path(subject): Path<String>, body: Bytes) -> Answer {
    let text = schema_text(&body)?;
    let id = schemas.add(&subject, &text)?;
    Ok(answer(&json!({"id": id})))
}

async fn check(
    State(schemas): Registry,
    Path((subject, version)): Path<(String, String)>,
    Query(flags): Query<Flags>,
    body: Bytes,
) -> Answer {
    let version = one(&schemas, &subject, &version)?.version;
    verdict(&schemas, &subject, Some(version), &flags, &body)
}

async fn check_all(State(schemas): Registry, Path(subject): Path<String>, Query(flags): Query<Flags>, body: Bytes) -> Answer {
    verdict(&schemas, &subject, None, &flags, &body)
}

async fn level(State(schemas): Registry) -> Response {
    answer(&json!({"compatibilityLevel": schemas.level(None).unwrap_or(Level::FullTransitive).as_str()}))
}

async fn subject_level(State(schemas): Registry, Path(subject): Path<String>, Query(flags): Query<Flags>) -> Answer {
    let own = schemas.level(Some(&subject)).or_else(|| schemas.level(None).filter(|_| flags.default_to_global));
    let level = own.ok_or_else(|| {
        let message = format!("Subject '{subject}' does not have subject-level compatibility configured");
        Refusal::new(NO_LEVEL, message)
    })?;
    Ok(answer(&json!({"compatibilityLevel": level.as_str()})))
}

async fn put_level(State(schemas): Registry, body: Bytes) -> Answer {
    set(&schemas, None, &body)
}

async fn put_subject_level(State(schemas): Registry, Path(subject): Path<String>, body: Bytes) -> Answer {
    set(&schemas, Some(&subject), &body)
}

fn set(schemas: &MemorySchemas, subject: Option<&str>, body: &[u8]) -> Answer {
    let body: LevelBody = read(body)?;
    let level: Level = body
        .compatibility
        .to_ascii_uppercase()
        .parse()
        .map_err(|error| Refusal::new(INVALID_LEVEL, format!("Invalid compatibility level: {error}")))?;
    schemas.put_level(subject, level);
    Ok(answer(&json!({"compatibility": level.as_str()})))
}

fn verdict(schemas: &MemorySchemas, subject: &str, version: Option<u32>, flags: &Flags, body: &[u8]) -> Answer {
    let text = schema_text(body)?;
    let verdict = schemas.verdict(subject, &text, version)?;
    let mut out = json!({"is_compatible": verdict.is_compatible()});
    if flags.verbose {
        out["messages"] = json!(verdict.reasons);
    }
    Ok(answer(&out))
}

fn all(schemas: &MemorySchemas, subject: &str) -> Result<Vec<Registered>, Refusal> {
    let versions = schemas.versions(subject);
    if versions.is_empty() { Err(Refusal::new(SUBJECT_NOT_FOUND, format!("Subject '{subject}' not found."))) } else { Ok(versions) }
}

fn one(schemas: &MemorySchemas, subject: &str, version: &str) -> Result<Registered, Refusal> {
    let mut versions = all(schemas, subject)?;
    let number = match version {
        "latest" | "-1" => versions.len(),
        other => other.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
            let message = format!("The specified version '{other}' is not a valid version id. Allowed values are [1, 2^31-1] and 'latest'");
            Refusal::new(INVALID_VERSION, message)
        })?,
    };
    if number > versions.len() {
        return Err(Refusal::new(VERSION_NOT_FOUND, format!("Version {number} not found.")));
    }
    Ok(versions.swap_remove(number - 1))
}

fn schema_text(body: &[u8]) -> Result<String, Refusal> {
    let body: SchemaBody = read(body)?;
    if body.schema_type.is_some_and(|t| t != "AVRO") {
        return Err(Refusal::new(INVALID_SCHEMA, "only AVRO schemas are supported by the development registry"));
    }
    if body.references.is_some_and(|r| !r.is_empty()) {
        return Err(Refusal::new(INVALID_SCHEMA, "references are not supported by the development registry"));
    }
    Ok(body.schema)
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::new(UNPROCESSABLE, error.to_string()))
}

fn registered(registered: &Registered) -> Response {
    answer(&json!({
        "subject": registered.subject,
        "version": registered.version,
        "id": registered.schema.id,
        "schema": registered.schema.text,
    }))
}

fn answer(body: &Json) -> Response {
    ([(header::CONTENT_TYPE, "application/vnd.schemaregistry.v1+json")], body.to_string()).into_response()
}

// === impl Refusal ===

impl Refusal {
    fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<SchemasError> for Refusal {
    fn from(error: SchemasError) -> Self {
        let code = match error {
            SchemasError::NotFound => VERSION_NOT_FOUND,
            SchemasError::Unavailable(_) => 503,
            SchemasError::Incompatible(_) => INCOMPATIBLE,
            SchemasError::Invalid(_) => INVALID_SCHEMA,
        };
        Self::new(code, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = if self.code > 999 { self.code / 100 } else { self.code };
        let status = u16::try_from(status).ok().and_then(|s| StatusCode::from_u16(s).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = answer(&json!({"error_code": self.code, "message": self.message}));
        *response.status_mut() = status;
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        http::Request,
    };
    use tower::ServiceExt as _;

    use super::*;

    const ONE: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string"}]}"#;
    const TWO: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string"},{"name":"b","type":"long","default":0}]}"#;
    const BAD: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long"}]}"#;

    async fn ask(router: &Router, method: &str, path: &str, body: Json) -> (u16, Json) {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_string())).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/vnd.schemaregistry.v1+json");
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap())
    }

    fn schema(text: &str) -> Json {
        json!({"schema": text})
    }

    #[tokio::test]
    async fn schemas_are_registered_found_and_read() {
        let router = router(Arc::new(MemorySchemas::new()));
        let guid = |text: &str| {
            let guid = MemorySchemas::guid(&waypost_codec::schemas::Schema::parse(1, text).unwrap());
            format!("/schemas/guids/{}", hex::encode(guid))
        };
        for (method, path, body, expected) in [
            ("GET", "/subjects", json!(null), json!([])),
            ("POST", "/subjects/x-value/versions", schema(ONE), json!({"id": 1})),
            ("POST", "/subjects/x-value/versions", json!({"schema": ONE, "schemaType": "AVRO", "references": []}), json!({"id": 1})),
            ("POST", "/subjects/x-value/versions", schema(TWO), json!({"id": 2})),
            ("POST", "/subjects/y-value/versions", schema(ONE), json!({"id": 1})),
            ("GET", "/subjects", json!(null), json!(["x-value", "y-value"])),
            ("GET", "/subjects/x-value/versions", json!(null), json!([1, 2])),
            ("GET", "/subjects/x-value/versions/1", json!(null), json!({"subject": "x-value", "version": 1, "id": 1, "schema": ONE})),
            ("GET", "/subjects/x-value/versions/latest", json!(null), json!({"subject": "x-value", "version": 2, "id": 2, "schema": TWO})),
            ("POST", "/subjects/x-value", schema(TWO), json!({"subject": "x-value", "version": 2, "id": 2, "schema": TWO})),
            ("GET", "/schemas/ids/2", json!(null), schema(TWO)),
            ("GET", &guid(TWO), json!(null), schema(TWO)),
            ("GET", "/schemas/types", json!(null), json!(["AVRO"])),
            ("POST", "/compatibility/subjects/x-value/versions/latest", schema(ONE), json!({"is_compatible": true})),
            ("POST", "/compatibility/subjects/x-value/versions/1", schema(BAD), json!({"is_compatible": false})),
            ("POST", "/compatibility/subjects/x-value/versions", schema(BAD), json!({"is_compatible": false})),
            ("GET", "/config", json!(null), json!({"compatibilityLevel": "FULL_TRANSITIVE"})),
            ("GET", "/config/x-value?defaultToGlobal=true", json!(null), json!({"compatibilityLevel": "FULL_TRANSITIVE"})),
            ("PUT", "/config/x-value", json!({"compatibility": "NONE"}), json!({"compatibility": "NONE"})),
            ("GET", "/config/x-value", json!(null), json!({"compatibilityLevel": "NONE"})),
            ("PUT", "/config", json!({"compatibility": "BACKWARD"}), json!({"compatibility": "BACKWARD"})),
            ("GET", "/config", json!(null), json!({"compatibilityLevel": "BACKWARD"})),
            ("POST", "/subjects/x-value/versions", schema(BAD), json!({"id": 3})),
        ] {
            assert_eq!(ask(&router, method, path, body).await, (200, expected), "{method} {path}");
        }
        let (_, verdict) = ask(&router, "POST", "/compatibility/subjects/y-value/versions/1?verbose=true", schema(BAD)).await;
        assert_eq!(verdict["messages"].as_array().map(Vec::len), Some(1), "{verdict}");
    }

    #[tokio::test]
    async fn refusals_carry_confluents_codes() {
        let router = router(Arc::new(MemorySchemas::with_committed()));
        let known = "/subjects/waypost.events.v1-value";
        for (method, path, body, status, code) in [
            ("GET", "/schemas/ids/99".to_owned(), json!(null), 404, SCHEMA_NOT_FOUND),
            ("GET", "/schemas/ids/x".to_owned(), json!(null), 404, SCHEMA_NOT_FOUND),
            ("GET", "/schemas/guids/00".to_owned(), json!(null), 404, SCHEMA_NOT_FOUND),
            ("GET", "/subjects/nothing/versions".to_owned(), json!(null), 404, SUBJECT_NOT_FOUND),
            ("GET", "/subjects/nothing/versions/1".to_owned(), json!(null), 404, SUBJECT_NOT_FOUND),
            ("GET", format!("{known}/versions/9"), json!(null), 404, VERSION_NOT_FOUND),
            ("GET", format!("{known}/versions/x"), json!(null), 422, INVALID_VERSION),
            ("GET", format!("{known}/versions/0"), json!(null), 422, INVALID_VERSION),
            ("POST", known.to_owned(), schema(ONE), 404, SCHEMA_NOT_FOUND),
            ("POST", format!("{known}/versions"), schema("{"), 422, INVALID_SCHEMA),
            ("POST", format!("{known}/versions"), schema(r#"{"type":"nothing"}"#), 422, INVALID_SCHEMA),
            ("POST", format!("{known}/versions"), json!({"schema": "{}", "schemaType": "JSON"}), 422, INVALID_SCHEMA),
            ("POST", format!("{known}/versions"), schema(ONE), 409, INCOMPATIBLE),
            ("POST", format!("{known}/versions"), json!(5), 422, UNPROCESSABLE),
            ("GET", "/config/nothing".to_owned(), json!(null), 404, NO_LEVEL),
            ("PUT", "/config".to_owned(), json!({"compatibility": "SOME"}), 422, INVALID_LEVEL),
        ] {
            let (found, answer) = ask(&router, method, &path, body).await;
            assert_eq!((found, answer["error_code"].as_u64()), (status, Some(u64::from(code))), "{method} {path}: {answer}");
        }
    }
}
