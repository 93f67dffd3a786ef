//! The registry client against a server that answers as registries do.

use std::sync::Mutex;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use super::*;

const SCHEMA: &str = r#"{"type":"record","name":"A","fields":[{"name":"a","type":"string"}]}"#;

type Seen = Arc<Mutex<Vec<String>>>;

// Answers every request with the first entry whose start matches `METHOD path`.
async fn server(answers: Vec<(&'static str, u16, String)>) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/apis/ccompat/v7/", listener.local_addr().unwrap());
    let seen = Seen::default();
    let log = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let (mut head, mut length, mut auth) = (String::new(), 0, String::new());
            stream.read_line(&mut head).await.unwrap();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if lower.starts_with("authorization:") {
                    auth = line["authorization:".len()..].trim().to_owned();
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            let request = head.split(" HTTP").next().unwrap_or("").replace("/apis/ccompat/v7", "");
            log.lock().unwrap().push(format!("{request} {auth} {}", String::from_utf8_lossy(&body)));
            let answer = answers.iter().find(|(start, ..)| request.starts_with(start));
            let (status, body) = answer.map_or_else(|| (404, "<html>".to_owned()), |(_, status, body)| (*status, body.clone()));
            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            stream.get_mut().write_all(text.as_bytes()).await.unwrap();
        }
    });
    (base, seen)
}

/// A file that holds a text.
fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

fn quoted(schema: &str) -> String {
    serde_json::to_string(schema).unwrap()
}

#[tokio::test]
async fn schemas_are_asked_for_once() {
    let (base, seen) = server(vec![("GET /schemas/ids/7", 200, format!("{{\"schema\":{}}}", quoted(SCHEMA)))]).await;
    let password = file("p\n");
    let registry = Registry::new(&base, Auth::Basic("u".to_owned(), password.path().to_owned()), None).unwrap();
    for _ in 0..2 {
        assert_eq!(registry.by_id(7).await.unwrap().text, SCHEMA);
    }
    assert_eq!(*seen.lock().unwrap(), ["GET /schemas/ids/7 Basic dTpw "]);
}

#[tokio::test]
async fn what_is_renewed_in_files_is_shown_from_then_on() {
    let (base, seen) = server(vec![("GET /subjects", 200, "[]".to_owned())]).await;
    let token = file("one");
    let registry = Registry::new(&base, Auth::Bearer(token.path().to_owned()), None).unwrap();
    registry.subjects().await.unwrap();
    fs::write(token.path(), "two\n").unwrap();
    registry.subjects().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["GET /subjects Bearer one ", "GET /subjects Bearer two "]);
    token.close().unwrap();
    let Err(SchemasError::Unavailable(why)) = registry.subjects().await else { panic!("without a token") };
    assert!(why.contains("registry.token_file: cannot read"), "{why}");
    let nonsense = file("no certificate");
    let refused = Registry::new(&base, Auth::None, Some(nonsense.path().to_owned())).map(drop);
    assert!(matches!(refused, Err(SchemasError::Unavailable(why)) if why.contains("registry.ca_file holds no certificate")));
}

#[tokio::test]
async fn only_a_registrys_404_is_definite() {
    let (base, _) = server(vec![
        ("GET /schemas/ids/1", 404, r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned()),
        ("GET /schemas/ids/2", 404, "<html>not here</html>".to_owned()),
        ("GET /schemas/ids/3", 500, r#"{"error_code":50001}"#.to_owned()),
        ("GET /schemas/ids/4", 200, "<html>log in</html>".to_owned()),
        ("GET /schemas/ids/5", 200, r#"{"schema":"nonsense"}"#.to_owned()),
        ("GET /schemas/ids/6", 401, r#"{"error_code":401}"#.to_owned()),
    ])
    .await;
    let registry = Registry::new(&base, Auth::None, None).unwrap();
    assert_eq!(registry.by_id(1).await.err(), Some(SchemasError::NotFound));
    for id in [2, 3, 4, 6] {
        assert!(matches!(registry.by_id(id).await, Err(SchemasError::Unavailable(_))), "{id}");
    }
    assert!(matches!(registry.by_id(5).await, Err(SchemasError::Invalid(_))));
    let gone = Registry::new("http://127.0.0.1:1", Auth::None, None).unwrap();
    assert_eq!(gone.by_id(1).await.err(), Some(SchemasError::Unavailable("no connection".to_owned())));
    assert!(Registry::new("ftp://x.example", Auth::None, None).is_err());
}

#[tokio::test]
async fn versions_are_found_checked_and_registered() {
    let version = format!("{{\"subject\":\"a/b\",\"version\":3,\"id\":7,\"schema\":{}}}", quoted(SCHEMA));
    let (base, seen) = server(vec![
        ("GET /subjects/a%2Fb/versions/latest", 200, version),
        ("POST /compatibility/subjects/good/versions/latest", 200, r#"{"is_compatible":true}"#.to_owned()),
        ("POST /compatibility/subjects/bad/versions/latest", 200, r#"{"is_compatible":false,"messages":["no default"]}"#.to_owned()),
        ("POST /compatibility/subjects/new/versions/latest", 404, r#"{"error_code":40401}"#.to_owned()),
        ("POST /subjects/good/versions", 200, r#"{"id":9}"#.to_owned()),
        ("POST /subjects/bad/versions", 409, r#"{"error_code":409,"message":"incompatible"}"#.to_owned()),
        ("POST /subjects/broken/versions", 422, r#"{"error_code":42201,"message":"no schema"}"#.to_owned()),
        ("GET /subjects", 200, r#"["b","a"]"#.to_owned()),
        ("PUT /config/good", 200, r#"{"compatibility":"FULL_TRANSITIVE"}"#.to_owned()),
    ])
    .await;
    let token = file("t");
    let registry = Registry::new(&base, Auth::Bearer(token.path().to_owned()), None).unwrap();
    let latest = registry.latest("a/b").await.unwrap();
    assert_eq!((latest.version, latest.schema.id), (3, 7));
    assert_eq!(registry.by_id(7).await.unwrap().text, SCHEMA, "known from the version");
    assert!(registry.check("good", SCHEMA).await.unwrap().is_compatible());
    assert_eq!(registry.check("bad", SCHEMA).await.unwrap().reasons, ["no default"]);
    assert!(registry.check("new", SCHEMA).await.unwrap().is_compatible());
    assert_eq!(registry.register("good", SCHEMA).await, Ok(9));
    assert_eq!(registry.register("bad", SCHEMA).await, Err(SchemasError::Incompatible(vec!["incompatible".to_owned()])));
    assert_eq!(registry.register("broken", SCHEMA).await, Err(SchemasError::Invalid("no schema".to_owned())));
    assert_eq!(registry.subjects().await.unwrap(), ["a", "b"]);
    registry.set_level("good", Level::FullTransitive).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|s| s.contains(" Bearer t ")), "{seen:?}");
    assert!(seen.iter().any(|s| s.starts_with("PUT /config/good") && s.ends_with(r#"{"compatibility":"FULL_TRANSITIVE"}"#)), "{seen:?}");
}

#[test]
fn secrets_do_not_print() {
    let registry = Registry::new("http://user:hunter2@127.0.0.1", Auth::Bearer("/run/hunter".into()), None).unwrap();
    assert!(!format!("{registry:?}").contains("hunter2"));
}
