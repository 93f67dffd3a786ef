//! Canaries: values of a person and keys that are let in everywhere, and must come out nowhere but in messages and private reads.
//! `metrics` looks for its own in `/metrics`.

use bytes::Bytes;
use serde_json::{Value as Json, json};

use crate::{
    collector,
    http::{Answer, Request},
    letters::id_of,
    public::Event,
    shop::{ROLES, Shop, vase},
    stack::visit,
};

const TRACE: u128 = 0x0caa_a117_0caa_a117_0caa_a117_0caa_a117;
const USER: &str = "canary-person-5521";
const NAME: &str = "Quetzal-Canary";
const NOTE: &str = "note-of-a-canary";
const CART: &str = "k-canary-5521";
const HEADER: &str = "header-of-a-canary";

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

#[test]
fn nothing_of_a_person_and_no_key_comes_out_by_traces_logs_errors_or_letters() {
    let visit = visit();
    let shop = &visit.shop;
    let (letters, errors) = let_in(shop);
    shop.until("the trace as far as the provider", || {
        collector::of(&TRACE.to_be_bytes()).iter().any(|span| span.name == "call email").then_some(())
    });
    let places = [
        ("traces and metrics", collector::everything()),
        ("errors", errors.join("\n")),
        ("logs", ROLES.map(|role| shop.log(role)).join("\n")),
        ("letters", letters.iter().map(|id| shown(shop, id)).collect()),
        ("what stands beside a letter", letters.iter().map(|id| beside(shop, id)).collect()),
    ];
    let seen = ["call email", "success", "serving", "Nobody's", "DECODE_FAILED"];
    for ((place, text), seen) in places.iter().zip(seen) {
        assert!(text.contains(seen), "nothing was looked at in {place}: {text}");
        for canary in [USER, NAME, NOTE, CART, HEADER, &shop.backend, &shop.web] {
            assert!(!text.contains(canary), "{canary} in {place}: {text}");
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
fn beside(shop: &Shop, id: &str) -> String {
    let letters = shop.dead.raw();
    let letter = letters.iter().find(|letter| format!("{}-{}", letter.partition, letter.offset) == id).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = letter.headers.iter().map(|(name, value)| format!("{name}: {}\n", text(value)));
    headers.chain(letter.key.iter().map(|key| text(key))).collect()
}
