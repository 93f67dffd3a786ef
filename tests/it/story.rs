//! The story end to end: what goes in, what goes out, what stops it, and why.

use serde_json::{Value as Json, json};

use crate::{
    http::Request,
    public::{Event, header},
    shop::{Shop, said, vase},
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

/// Says who somebody is, with a loyalty card.
fn with_card(shop: &Shop, mut who: Json, card: &str) {
    who["context"] = json!({"externalIds": [{"id": card, "type": "loyalty_card", "collection": "users", "encoding": "none"}]});
    shop.say("/v1/identify", who);
}

fn profile_of(shop: &Shop, identifier: &str) -> Option<Json> {
    let shown = shop.ask(&["-o", "json", "profile", "show", identifier]);
    shown.status.success().then(|| serde_json::from_slice(&shown.stdout).unwrap())
}

#[test]
fn an_order_under_a_loyalty_card_stops_the_cart_of_the_cookie_that_showed_it() {
    let visit = visit();
    let shop = &visit.shop;
    let address = shop.person("has-card");
    // on the web she shows it as herself, and with a cookie that nobody knows
    with_card(shop, user("has-card"), "LC-77");
    with_card(shop, json!({"anonymousId": "tablet-of-has-card"}), "LC-77");
    // the shop's app writes to Kafka
    let event = |message_id, name, identifiers, properties| Event { message_id, name, identifiers, properties, ..Event::default() };
    let app: &[(&str, &str)] = &[("custom:loyalty_card", "LC-77"), ("anonymous", "phone-of-has-card"), ("custom:crm", "C-1")];
    shop.events().write([shop.registry.event(&event("card-1", "Signed In", app, json!({})))]);
    let id = shop.until("her profile", || profile_of(shop, "user_id:has-card"))["id"].clone();
    for other in ["custom:loyalty_card:LC-77", "anonymous:tablet-of-has-card", "anonymous:phone-of-has-card", "custom:crm:C-1"] {
        let is_hers = || profile_of(shop, other).filter(|shown| shown["id"] == id);
        shop.until(&format!("{other} to be hers"), is_hers);
    }

    let cookie = json!({"anonymousId": "tablet-of-has-card"});
    shop.touch(&cookie, "k-has-card");
    // the till knows nothing but the card
    let products = json!([{"product_id": "p1", "price": "89.00", "quantity": 1}]);
    let bought = json!({"order_id": "o-has-card", "currency": "EUR", "total": "89.00", "products": products});
    let till: &[(&str, &str)] = &[("custom:loyalty_card", " LC-77 ")];
    shop.events().write([shop.registry.event(&event("card-2", "Order Completed", till, bought))]);
    assert_eq!(shop.ended("cart-recovery", "k-has-card"), "GOAL");

    let explained = shop.tell_json(&["explain", "custom:loyalty_card:LC-77", "cart-recovery"]);
    let entries = explained["entries"].as_array().unwrap();
    assert!(entries.iter().any(|e| e["what"] == "EXITED" && e["reason"] == "GOAL" && e["key"] == "k-has-card"), "{explained:#}");
    let shown = shop.tell_json(&["profile", "show", "custom:loyalty_card:LC-77"]);
    assert!(shown["orders"].to_string().contains("o-has-card") && shown["carts"].to_string().contains("k-has-card"), "{shown:#}");
    assert!(shown.to_string().contains(&address), "{shown:#}");

    // the card goes to somebody else, who is then forgotten by it; she stays who she is
    shop.tell(&["--as", "ana", "profile", "detach", "custom:loyalty_card:LC-77", "--yes"]);
    shop.order(&json!({"context": {"externalIds": [{"id": "LC-77", "type": "loyalty_card"}]}}), "o-next");
    let next = shop.until("somebody else under the card", || profile_of(shop, "custom:loyalty_card:LC-77").filter(|p| p["id"] != id));
    assert!(next["orders"].to_string().contains("o-next") && !next.to_string().contains("o-has-card"), "{next:#}");
    shop.tell(&["--as", "ana", "profile", "erase", "custom:loyalty_card:LC-77", "--yes"]);
    shop.until("the card to be forgotten", || {
        let shown = shop.ask(&["profile", "show", "custom:loyalty_card:LC-77"]);
        (!shown.status.success() && said(&shown).contains("forgotten")).then_some(())
    });
    assert_eq!(shop.tell_json(&["profile", "show", "anonymous:tablet-of-has-card"])["id"], id);
    assert!(shop.sink.to(&address).is_empty(), "{:?}", shop.sink.to(&address));
}

#[test]
fn a_sixth_loyalty_card_stays_somebody_elses() {
    let visit = visit();
    let shop = &visit.shop;
    shop.person("six-cards");
    let id = shop.until("her profile", || profile_of(shop, "user_id:six-cards"))["id"].clone();
    // one after the other: what is under way at once is not counted yet
    for card in 1..=5 {
        with_card(shop, user("six-cards"), &format!("SC-{card}"));
        let is_hers = || profile_of(shop, &format!("custom:loyalty_card:SC-{card}")).filter(|shown| shown["id"] == id);
        shop.until("a card to be hers", is_hers);
    }
    with_card(shop, user("six-cards"), "SC-6");
    for (card, order) in [("SC-6", "o-sixth"), ("SC-5", "o-fifth")] {
        shop.order(&json!({"context": {"externalIds": [{"id": card, "type": "loyalty_card"}]}}), order);
        let identifier = format!("custom:loyalty_card:{card}");
        let shown = shop.until(order, || profile_of(shop, &identifier).filter(|shown| shown["orders"].to_string().contains(order)));
        assert_eq!(shown["id"] == id, card == "SC-5", "{shown:#}");
    }
}

#[test]
fn a_card_that_the_policy_does_not_declare_costs_its_event_nothing_and_where_nothing_else_names_anybody_is_set_aside() {
    let visit = visit();
    let shop = &visit.shop;
    let signed_up = |message_id, identifiers| Event { message_id, name: "Signed Up", identifiers, ..Event::default() };
    let beside: &[(&str, &str)] = &[("user_id", "has-bonus"), ("custom:bonus", "B-1")];
    let alone = shop.registry.event(&signed_up("bonus-2", &beside[1..]));
    shop.events().write([shop.registry.event(&signed_up("bonus-1", beside)), alone.clone()]);
    shop.until("whoever is named beside it", || profile_of(shop, "user_id:has-bonus"));
    let letter = shop.until("the letter", || shop.dead.raw().into_iter().find(|letter| letter.payload == alone));
    let says = ["reason", "path", "expected"].map(|name| header(&letter, name));
    assert_eq!((says[0].as_str(), says[1].as_str()), ("SCHEMA_MISMATCH", "identifiers[0].class"));
    assert!(says[2].contains("Policy.custom_identifiers"), "{says:?}");
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
