//! Canaries: values of a person and secrets that are let in everywhere, and must come out nowhere but in messages and private reads.
//! Every process logs all that it ever logs.

use std::{fs, path::Path};

use bytes::Bytes;
use serde_json::{Value as Json, json};
use waypost_tests::process::free_port;

use crate::{
    access, collector,
    http::{Answer, Request},
    letters::id_of,
    public::Event,
    shop::{ROLES, Shop, said, vase},
    stack::beside,
};

const TRACE: u128 = 0x0caa_a117_0caa_a117_0caa_a117_0caa_a117;
const USER: &str = "canary-person-5521";
const NAME: &str = "Quetzal-Canary";
const NOTE: &str = "note-of-a-canary";
const CART: &str = "k-canary-5521";
const HEADER: &str = "header-of-a-canary";
const LINK_KEY: &str = "caa117c0ffee0123456789abcdefcaa117c0ffee0123456789abcdefcaa117c0";
const PASSWORD: &str = "password-of-a-canary";

/// A call whose trace is kept.
fn call(shop: &Shop, path: &str, body: impl Into<Vec<u8>>, key: &str) -> Answer {
    shop.request(&Request::post(path, body).key(key).header("traceparent", format!("00-{TRACE:032x}-00f067aa0ba902b7-01")))
}

fn tell(shop: &Shop, path: &str, body: &Json) {
    let answer = call(shop, path, body.to_string(), &shop.backend);
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// Lets the canaries in by every door, into messages and into dead letters; ids of the letters, and the words of refusals.
fn let_in(shop: &Shop) -> (Vec<String>, Vec<String>) {
    let address = format!("{USER}@mail.example");
    tell(shop, "/v1/identify", &json!({"userId": USER, "traits": {"email": address, "firstName": NAME}}));
    let topic = |topic: &str| json!({"userId": USER, "event": "Subscribed", "properties": {"channel": "email", "topic": topic}});
    tell(shop, "/v1/track", &topic("greetings"));
    tell(shop, "/v1/track", &json!({"userId": USER, "event": "Signed Up", "properties": {"note": NOTE}}));
    tell(shop, "/v1/track", &json!({"userId": USER, "event": "Product Added", "properties": vase(CART)}));
    shop.mail(&address, &format!("greet {NAME}"));

    let nobody = json!({"event": "Nobody's", "properties": {"email": address, "note": NOTE}}).to_string();
    let broken = format!(r#"{{"userId": "{USER}", "event": "#);
    let refused = [
        call(shop, "/v1/track", nobody.clone(), &shop.backend),
        call(shop, "/v1/track", broken, &shop.backend),
        call(shop, "/v1/track", nobody.clone(), &format!("wk_{USER}")),
    ];
    assert_eq!(refused.each_ref().map(|answer| answer.status), [400, 400, 401]);

    let event = Event {
        message_id: "canary-cut",
        name: "Cut Short",
        identifiers: &[("user_id", USER)],
        properties: vase(CART),
        ..Event::default()
    };
    let whole = shop.registry.event(&event);
    let cut: Bytes = whole.slice(..whole.len() - 6);
    shop.events().write_at(5, USER, &[("note", HEADER)], cut.clone());
    let letters = [nobody.as_bytes(), &cut].map(|original| id_of(shop, original));
    (letters.to_vec(), refused.map(|answer| answer.head + &answer.body).to_vec())
}

/// Writes a secret to a file; the file's name.
fn secret(folder: &Path, name: &str, content: &str) -> String {
    let file = folder.join(name);
    fs::write(&file, content).unwrap();
    file.display().to_string()
}

/// Calls an API that asks who calls, with a token that it knows and with one that it does not know; the first, and the words of refusals.
fn call_with_token(shop: &Shop, folder: &Path) -> (String, String) {
    let file = access::token(shop, folder, "canary-token", "viewer", "default");
    let port = free_port();
    let settings = [
        ("WAYPOST_CONTROL_LISTEN", format!("127.0.0.1:{port}")),
        ("WAYPOST_CONTROL_ACCESS_FILE", folder.join("access.toml").display().to_string()),
    ];
    let _control = shop.begin_with("canary-control", &["serve", "--role", "control"], &settings);
    let server = format!("http://127.0.0.1:{port}");
    let ask = |file: &str, arguments: &[&str]| shop.ask(&[&["--server", &server, "--token-file", file], arguments].concat());
    shop.until("the API that asks who calls", || ask(&file, &["whoami"]).status.success().then_some(()));
    let token = fs::read_to_string(&file).unwrap().trim().to_owned();
    let almost = secret(folder, "almost", &format!("{token}0"));
    let refused = [ask(&file, &["source", "rotate-key", "web"]), ask(&almost, &["whoami"])];
    assert!(refused.iter().all(|refused| !refused.status.success()));
    (token, refused.each_ref().map(said).join("\n"))
}

/// A sender that knows a password, which it never gets to show: the mail server of tests has no TLS.
fn send_with_password(shop: &Shop, folder: &Path) {
    let settings = [
        ("WAYPOST_MAIL_SMTP_TLS", "starttls".to_owned()),
        ("WAYPOST_MAIL_SMTP_USERNAME", "shop".to_owned()),
        ("WAYPOST_MAIL_SMTP_PASSWORD_FILE", secret(folder, "password", PASSWORD)),
    ];
    let _sender = shop.begin_with("canary-sender", &["serve", "--role", "sender"], &settings);
    shop.until("the sender with a password", || shop.log("canary-sender").contains("serving").then_some(()));
}

#[test]
fn nothing_of_a_person_and_no_secret_comes_out_by_traces_metrics_logs_errors_or_letters() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let further = [("WAYPOST_LOG_FILTER", "debug".to_owned()), ("WAYPOST_SECRETS_LINK_KEY_FILE", secret(folder, "links", LINK_KEY))];
    let beside = beside("canaries", further.map(|(name, value)| (name.to_owned(), value)).to_vec());
    let shop = &beside.shop;
    let (letters, errors) = let_in(shop);
    shop.until("the trace as far as the provider", || {
        collector::of(&TRACE.to_be_bytes()).iter().any(|span| span.name == "call email").then_some(())
    });
    let (token, refusals) = call_with_token(shop, folder);
    send_with_password(shop, folder);
    let processes = ROLES.into_iter().chain(["canary-control", "canary-sender"]);
    let places = [
        ("traces and metrics that are pushed", "call email", collector::everything()),
        ("metrics", "waypost_", ROLES.map(|role| shop.admin(role, "/metrics").body).concat()),
        ("errors at the door", "success", errors.join("\n")),
        ("errors of the API", "PermissionDenied", refusals),
        ("logs", "DEBUG", processes.map(|name| shop.log(name)).collect()),
        ("letters", "Nobody's", letters.iter().map(|id| shown(shop, id)).collect()),
        ("what stands beside a letter", "DECODE_FAILED", letters.iter().map(|id| beside_it(shop, id)).collect()),
    ];
    for (place, seen, text) in &places {
        assert!(text.contains(seen), "nothing was looked at in {place}: {text}");
        for canary in [USER, NAME, NOTE, CART, HEADER, LINK_KEY, PASSWORD, &token, &shop.backend, &shop.web] {
            let lines: Vec<&str> = text.lines().filter(|line| line.contains(canary)).take(5).collect();
            assert!(lines.is_empty(), "{canary} in {place}: {lines:#?}");
        }
    }
}

/// A letter as whoever may list letters sees it, who need not be allowed to see people.
fn shown(shop: &Shop, id: &str) -> String {
    let all = shop.tell_json(&["deadletter", "list", "--limit", "1000"]);
    let listed = all["letters"].as_array().unwrap().iter().find(|letter| letter["id"] == id).expect("it is listed");
    format!("{listed} {} {}", shop.tell(&["deadletter", "show", id]), shop.tell_json(&["deadletter", "show", id]))
}

/// Key and headers of a letter's record, which are not protected as the original in it is.
fn beside_it(shop: &Shop, id: &str) -> String {
    let letters = shop.dead.raw();
    let letter = letters.iter().find(|letter| format!("{}-{}", letter.partition, letter.offset) == id).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = letter.headers.iter().map(|(name, value)| format!("{name}: {}\n", text(value)));
    headers.chain(letter.key.iter().map(|key| text(key))).collect()
}
