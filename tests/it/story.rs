//! The story end to end: what goes in, what goes out, what stops it, and why.

use serde_json::{Value as Json, json};

use crate::{
    http::Request,
    public::Event,
    shop::{Shop, vase},
    stack::visit,
};

fn user(name: &str) -> Json {
    json!({"userId": name})
}

/// What was decided for a key, as `WHAT step reason`.
fn trail(shop: &Shop, journey: &str, key: &str) -> Vec<String> {
    let rows = shop.decisions.rows(&shop.registry);
    let own = rows.iter().filter(|row| row["journey"] == journey && row["key"] == key);
    own.map(|row| ["what", "step", "reason"].map(|f| row[f].as_str().unwrap()).join(" ").trim().to_owned()).collect()
}

fn position(trail: &[String], begins: &str) -> usize {
    trail.iter().position(|line| line.starts_with(begins)).unwrap_or_else(|| panic!("no `{begins}` in {trail:#?}"))
}

#[test]
fn a_cart_left_alone_is_reminded_of_twice() {
    let visit = visit();
    let shop = &visit.shop;
    let address = shop.person("left-alone");
    let touched = shop.touch(&user("left-alone"), "k-left-alone");
    let first = shop.mail(&address, "remind k-left-alone");
    let second = shop.mail(&address, "again k-left-alone");
    assert_eq!(shop.ended("cart-recovery", "k-left-alone"), "COMPLETED");

    // never early, by the clock of the same machine
    assert!(first.at >= touched.first_tried + 4_000 && second.at >= touched.first_tried + 8_000, "{touched:?} {first:?} {second:?}");
    assert_eq!(shop.sink.to(&address).len(), 2);
    assert_eq!(first.from, "hello@news.shop.example");
    assert!(first.body.contains("1 x Blue vase") && first.body.contains("89.00") && first.body.contains("Shop GmbH"), "{}", first.body);
    assert_eq!(first.header("list-unsubscribe-post"), "List-Unsubscribe=One-Click");
    assert_ne!(first.header("message-id"), second.header("message-id"));

    let trail = trail(shop, "cart-recovery", "k-left-alone");
    let order = ["ENTERED", "SENT remind", "SENT again", "EXITED"].map(|line| position(&trail, line));
    assert!(order.is_sorted(), "{trail:#?}");
    for step in ["remind", "again"] {
        let row = shop.message("the acceptance", |row| row["step"] == step && row["run"] == run_of(shop, "k-left-alone"));
        assert_eq!(row["name"], "Message Accepted", "{row}");
    }
}

fn run_of(shop: &Shop, key: &str) -> Json {
    let entered = shop.decision("the entry", |row| row["key"] == key && row["what"] == "ENTERED");
    entered["run"].clone()
}

#[test]
fn a_later_touch_moves_the_reminder() {
    let visit = visit();
    let shop = &visit.shop;
    let address = shop.person("comes-back");
    shop.touch(&user("comes-back"), "k-comes-back");
    std::thread::sleep(std::time::Duration::from_secs(1));
    let last = shop.touch(&user("comes-back"), "k-comes-back");
    let first = shop.mail(&address, "remind k-comes-back");
    assert!(first.at >= last.first_tried + 4_000, "{last:?} {first:?}");
    assert_eq!(shop.ended("cart-recovery", "k-comes-back"), "COMPLETED");
    assert_eq!(shop.sink.to(&address).len(), 2);
}

#[test]
fn events_on_kafka_tell_the_same_story() {
    let visit = visit();
    let shop = &visit.shop;
    let who: &[(&str, &str)] = &[("user_id", "writes-avro")];
    let subscribed = json!({"channel": "email", "topic": "cart-reminders"});
    let traits = json!({"email": "writes-avro@mail.example", "firstName": "Ann"});
    let touched = Event { message_id: "avro-3", name: "Product Added", identifiers: who, properties: vase("k-avro"), ..Event::default() };
    let events = [
        Event { message_id: "avro-1", identifiers: who, traits, ..Event::default() },
        Event { message_id: "avro-2", name: "Subscribed", identifiers: who, properties: subscribed, ..Event::default() },
        touched,
    ];
    let events = events.map(|event| shop.registry.event(&event));
    // the last one twice, as a producer that retries writes it
    shop.events().write(events.iter().chain(&events[2..]).cloned());
    shop.mail("writes-avro@mail.example", "remind k-avro");
    shop.mail("writes-avro@mail.example", "again k-avro");
    assert_eq!(shop.ended("cart-recovery", "k-avro"), "COMPLETED");
    assert_eq!(shop.sink.to("writes-avro@mail.example").len(), 2);
    let rearmed = trail(shop, "cart-recovery", "k-avro").iter().filter(|line| line.starts_with("REARMED")).count();
    assert_eq!(rearmed, 0, "a repeated message id is folded once");
}

#[test]
fn an_order_stops_the_cart_and_explain_names_it() {
    let visit = visit();
    let shop = &visit.shop;
    let address = shop.person("buys");
    shop.touch(&user("buys"), "k-buys");
    shop.order(&user("buys"), "o-buys");
    assert_eq!(shop.ended("cart-recovery", "k-buys"), "GOAL");

    let explained = shop.tell_json(&["explain", &format!("email:{address}"), "cart-recovery"]);
    assert!(explained["verdict"].as_str().unwrap().contains("GOAL"), "{explained:#}");
    let entries = explained["entries"].as_array().unwrap();
    assert!(entries.iter().any(|e| e["what"] == "EXITED" && e["reason"] == "GOAL" && e["key"] == "k-buys"), "{explained:#}");
    let shown = shop.tell_json(&["profile", "show", "user_id:buys"]);
    assert!(shown["orders"].to_string().contains("o-buys"), "{shown:#}");

    // proof that time went on: somebody who came later has had the mail
    let later = shop.person("buys-nothing");
    shop.touch(&user("buys-nothing"), "k-buys-nothing");
    shop.mail(&later, "again k-buys-nothing");
    assert!(shop.sink.to(&address).is_empty(), "{:?}", shop.sink.to(&address));
}

#[test]
fn an_order_from_a_known_other_device_stops_the_cart() {
    let visit = visit();
    let shop = &visit.shop;
    let address = shop.person("two-devices");
    shop.say("/v1/identify", json!({"userId": "two-devices", "anonymousId": "phone-of-two-devices"}));
    shop.touch(&user("two-devices"), "k-two-devices");
    shop.order(&json!({"anonymousId": "phone-of-two-devices"}), "o-two-devices");
    assert_eq!(shop.ended("cart-recovery", "k-two-devices"), "GOAL");
    assert!(shop.sink.to(&address).is_empty(), "{:?}", shop.sink.to(&address));
}

#[test]
fn an_order_of_a_stranger_stops_the_cart_when_the_stranger_turns_out_to_be_the_same_person() {
    let visit = visit();
    let shop = &visit.shop;
    let address = shop.person("turns-out");
    let phone = json!({"anonymousId": "phone-of-turns-out"});
    shop.touch(&user("turns-out"), "k-turns-out");
    shop.order(&phone, "o-turns-out");
    shop.say("/v1/identify", json!({"userId": "turns-out", "anonymousId": "phone-of-turns-out"}));
    assert_eq!(shop.ended("cart-recovery", "k-turns-out"), "GOAL");
    assert!(shop.sink.to(&address).is_empty(), "{:?}", shop.sink.to(&address));
    let shown = shop.tell_json(&["profile", "show", "anonymous:phone-of-turns-out"]);
    assert!(shown["orders"].to_string().contains("o-turns-out") && shown["carts"].to_string().contains("k-turns-out"), "{shown:#}");
}

#[test]
fn a_cart_filled_before_its_owner_is_known_is_reminded_of_at_her_address() {
    let visit = visit();
    let shop = &visit.shop;
    let cookie = json!({"anonymousId": "cookie-of-late"});
    shop.touch(&cookie, "k-late");
    shop.say("/v1/identify", json!({"userId": "late", "anonymousId": "cookie-of-late", "traits": {"email": "late@mail.example"}}));
    shop.consent("late");
    let mail = shop.mail("late@mail.example", "remind k-late");
    assert!(mail.body.contains("Hello there"), "{}", mail.body);
    // an order under the address alone, from a third device
    shop.order(&json!({"anonymousId": "till", "context": {"traits": {"email": "late@mail.example"}}}), "o-late");
    let reason = shop.ended("cart-recovery", "k-late");
    assert!(matches!(reason.as_str(), "GOAL" | "COMPLETED"), "{reason}");
    let sent = shop.sink.to("late@mail.example").len();
    assert!(sent <= 2 && (reason == "COMPLETED" || sent == 1), "{reason} {sent}");
}

#[test]
fn without_consent_nothing_goes_out_and_the_reason_is_there() {
    let visit = visit();
    let shop = &visit.shop;
    shop.say("/v1/identify", json!({"userId": "no-consent", "traits": {"email": "no-consent@mail.example"}}));
    shop.touch(&user("no-consent"), "k-no-consent");
    let stopped = shop.decision("the stop", |row| row["key"] == "k-no-consent" && row["what"] == "STOPPED");
    assert_eq!((stopped["step"].as_str(), stopped["reason"].as_str()), (Some("remind"), Some("CONSENT_MISSING")));
    assert_eq!(shop.ended("cart-recovery", "k-no-consent"), "COMPLETED");
    assert!(shop.sink.to("no-consent@mail.example").is_empty());
}

#[test]
fn one_click_unsubscribes_and_looking_at_the_page_does_not() {
    let visit = visit();
    let shop = &visit.shop;
    let address = shop.person("leaves");
    shop.touch(&user("leaves"), "k-leaves-1");
    let mail = shop.mail(&address, "remind k-leaves-1");
    let link = mail.header("list-unsubscribe").trim_matches(['<', '>']).to_owned();
    let path = &link[link.find("/u/").expect("an unsubscribe link")..];

    for _ in 0..2 {
        let page = shop.request(&Request::get(path));
        assert_eq!(page.status, 200, "{}", page.body);
        assert!(page.body.contains("<form method=\"post\">") && page.head.contains("cache-control: no-store"), "{page:?}");
    }
    shop.touch(&user("leaves"), "k-leaves-2");
    shop.mail(&address, "remind k-leaves-2");

    let form = Request::post(path, "List-Unsubscribe=One-Click");
    assert_eq!(shop.request(&form).status, 200);
    shop.touch(&user("leaves"), "k-leaves-3");
    let stopped = shop.decision("the stop", |row| row["key"] == "k-leaves-3" && row["what"] == "STOPPED");
    assert_eq!((stopped["step"].as_str(), stopped["reason"].as_str()), (Some("remind"), Some("CONSENT_DENIED")));
    assert_eq!(shop.request(&Request::get("/u/forged")).status, 404);
    assert_eq!(shop.request(&Request::post("/u/forged", "")).status, 404);
}

#[test]
fn a_field_that_the_template_requires_stops_the_send_before_it_is_decided() {
    let visit = visit();
    let shop = &visit.shop;
    shop.say("/v1/identify", json!({"userId": "nameless", "traits": {"email": "nameless@mail.example"}}));
    shop.consent("nameless");
    shop.track(&user("nameless"), "Signed Up", json!({}));
    let profile = shop.tell_json(&["profile", "show", "user_id:nameless"])["id"].clone();
    let stopped = shop.decision("the stop", |row| row["profile"] == profile && row["what"] == "STOPPED");
    assert_eq!((stopped["step"].as_str(), stopped["reason"].as_str()), (Some("greet"), Some("FIELD_MISSING")));
    assert!(shop.sink.to("nameless@mail.example").is_empty());
}

#[test]
fn a_field_that_turns_out_missing_in_rendering_stops_the_message() {
    let visit = visit();
    let shop = &visit.shop;
    let address = shop.person("pictureless");
    shop.touch(&user("pictureless"), "k-pictureless");
    shop.track(&user("pictureless"), "Lookbook Requested", json!({"cart_id": "k-pictureless"}));
    let run = shop.decision("the entry", |row| row["journey"] == "lookbook" && row["key"] == "k-pictureless" && row["what"] == "ENTERED");
    let row = shop.message("the failure", |row| row["run"] == run["run"]);
    assert_eq!((row["name"].as_str(), row["reason"].as_str()), (Some("Message Failed"), Some("RENDER_MISSING_FIELD")));
    assert!(shop.sink.to(&address).iter().all(|mail| !mail.header("subject").starts_with("look")));
}

#[test]
fn a_refused_recipient_and_a_busy_server_end_as_they_should() {
    let visit = visit();
    let shop = &visit.shop;
    shop.person("nobody");
    let busy = shop.person("busy");
    shop.track(&user("nobody"), "Signed Up", json!({}));
    shop.track(&user("busy"), "Signed Up", json!({}));
    let bounced = shop.message("the bounce", |row| row["name"] == "Message Bounced");
    assert_eq!((bounced["reason"].as_str(), bounced["spec_name"].as_str()), (Some("PROVIDER_RECIPIENT"), Some("Email Bounced")));
    // the address is known to be dead from now on
    shop.touch(&user("nobody"), "k-nobody");
    let stopped = shop.decision("the stop", |row| row["key"] == "k-nobody" && row["what"] == "STOPPED");
    assert_eq!(stopped["reason"], "SUPPRESSED_HARD_BOUNCE");
    // 451 means again, half a minute later
    shop.mail(&busy, "greet Ann");
    assert_eq!(shop.sink.to(&busy).len(), 1);
}
