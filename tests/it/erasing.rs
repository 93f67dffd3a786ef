//! `waypostctl profile erase`: a person in the middle of everything is forgotten, and comes back as somebody new.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt as _};

use serde_json::{Value as Json, json};

use crate::{
    redis::Held,
    shop::{Shop, said},
    stack::visit,
};

/// Everything that was ever said of a person, by the name of her account.
fn words(name: &str) -> [String; 4] {
    [format!("{name}@mail.example"), name.to_owned(), format!("cookie-of-{name}"), format!("k-{name}")]
}

/// Somebody with an account, a cookie, an address and a cart, who has signed up a moment ago.
fn shopper(shop: &Shop, name: &str) -> Json {
    let [address, account, cookie, cart] = words(name);
    let who = json!({"userId": account, "anonymousId": cookie});
    let mut identify = who.clone();
    identify["traits"] = json!({"email": address, "firstName": name});
    shop.say("/v1/identify", identify);
    shop.consent(name);
    shop.track(&who, "Signed Up", json!({}));
    shop.touch(&who, &cart);
    who
}

/// Asks for it as ana; what was answered.
fn erase(shop: &Shop, identifier: &str) -> Json {
    shop.tell_json(&["--as", "ana", "profile", "erase", identifier, "--yes"])
}

fn id_of(shop: &Shop, identifier: &str) -> Json {
    shop.tell_json(&["profile", "show", identifier])["id"].clone()
}

/// Asks for all that is stored, into a file that is for nobody else; the audit topic says so, and no log what was in it.
fn export(shop: &Shop, name: &str, profile: &Json) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("person.json");
    let out = file.to_str().unwrap();
    let identifier = format!("user_id:{name}");
    let told = shop.tell_json(&["--as", "ana", "profile", "export", &identifier, "--out", out]);
    assert_eq!(&told["profile"], profile);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let document: Json = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let classes: BTreeSet<_> = document["identifiers"].as_array().unwrap().iter().filter_map(|i| i["class"].as_str()).collect();
    assert_eq!(classes, BTreeSet::from(["anonymous", "email", "user_id"]), "{document}");
    let [address, _, _, cart] = words(name);
    assert_eq!(document["person"]["addresses"][0]["value"], address);
    assert_eq!(document["person"]["carts"][0]["cartId"], cart);
    assert_eq!(document["person"]["consents"][0]["state"], "granted");
    let whats: BTreeSet<_> = document["journeys"]["trail"].as_array().unwrap().iter().filter_map(|t| t["what"].as_str()).collect();
    assert!(whats.contains("ENTERED") && whats.contains("SENT"), "{whats:?}");
    assert_eq!(document["journeys"]["runs"].as_array().unwrap().iter().filter(|r| r["key"] == cart).count(), 1);
    let again = shop.ask(&["profile", "export", &identifier, "--out", out]);
    assert!(!again.status.success() && said(&again).contains("not written over"), "{}", said(&again));
    let lines: Vec<_> = shop.audit().into_iter().filter(|line| line["act"] == "profile.export").collect();
    assert_eq!(lines.len(), 1, "what is not asked for has no line: {lines:?}");
    assert_eq!(lines[0]["by"], "ana");
    assert!(!lines[0].to_string().contains(&address));
}

#[test]
fn an_erased_person_is_stopped_everywhere_and_nothing_of_her_is_kept() {
    let visit = visit();
    let shop = &visit.shop;
    let held = Held::under(shop.prefix());
    // one whose greeting has gone out, one whose greeting waits for a server that was busy
    let (sent, waits) = ("erased-sent", "busy-erased");
    let who = shopper(shop, sent);
    shop.mail("erased-sent@mail.example", "greet erased-sent");
    shopper(shop, waits);
    shop.until("a server that is busy", || shop.sink.was_busy("busy-erased@mail.example").then_some(()));
    // a late touch, so that both runs have their time before them
    shop.touch(&who, "k-erased-sent");
    shop.touch(&json!({"userId": waits}), "k-busy-erased");
    let before = id_of(shop, "anonymous:cookie-of-erased-sent");
    for word in words(sent).into_iter().chain(words(waits)).filter(|word| word.contains('@')) {
        assert!(!held.where_is(&word).is_empty(), "{word} is nowhere, so that it is gone would show nothing");
    }

    export(shop, sent, &before);

    let refused = shop.ask(&["profile", "erase", "user_id:erased-sent"]);
    assert!(!refused.status.success() && said(&refused).contains("--yes"), "{}", said(&refused));
    let unknown = shop.ask(&["profile", "erase", "user_id:erased-nobody", "--yes"]);
    assert!(!unknown.status.success() && said(&unknown).contains("no event ever carried"), "{}", said(&unknown));
    let answers = [erase(shop, "email:erased-sent@mail.example"), erase(shop, "user_id:busy-erased")];

    for name in [sent, waits] {
        assert_eq!(shop.ended("cart-recovery", &format!("k-{name}")), "ERASED");
    }
    let entered =
        shop.decision("the greeting's run", |row| row["what"] == "ENTERED" && row["journey"] == "greetings" && row["profile"] == before);
    assert_eq!(entered["key"], "");
    let recalled = shop.message("the recall", |row| row["reason"] == "RECALLED" && row["step"] == "greet");
    assert_eq!(recalled["name"], "Message Failed");
    for word in words(sent).iter().chain(&words(waits)) {
        shop.until(&format!("{word} to be gone"), || held.where_is(word).is_empty().then_some(()));
    }
    let gone = shop.ask(&["profile", "show", "user_id:erased-sent"]);
    assert!(!gone.status.success() && said(&gone).contains("was forgotten at 20"), "{}", said(&gone));

    // one line each, written by whom, about what, without a word of hers
    let lines = shop.audit();
    for answer in &answers {
        let subject = format!("identifiers/{}", answer["identifierHash"].as_str().unwrap());
        let line = lines.iter().find(|line| line["subject"] == subject.as_str()).unwrap_or_else(|| panic!("no {subject} in {lines:#?}"));
        assert_eq!((line["act"].as_str(), line["by"].as_str()), (Some("profile.erase"), Some("ana")));
        assert_eq!(line["record"], answer["record"]);
    }
    let all = format!("{lines:?}");
    assert!(words(sent).iter().chain(&words(waits)).all(|word| !all.contains(word.as_str())), "{all}");

    // the cookie comes again, as somebody who was never here; her address is never written to again
    shopper(shop, sent);
    let again = shop.until("the new person", || {
        let shown = shop.ask(&["-o", "json", "profile", "show", "anonymous:cookie-of-erased-sent"]);
        let shown: Json = serde_json::from_slice(&shown.stdout).ok()?;
        shown.to_string().contains("k-erased-sent").then(|| shown["id"].clone())
    });
    assert_ne!(again, before);
    let refused = shop.message("the refusal", |row| row["profile"] == again && row["step"] == "greet");
    assert_eq!((refused["name"].as_str(), refused["reason"].as_str()), (Some("Message Failed"), Some("ERASED")));
    assert_eq!(shop.sink.to("erased-sent@mail.example").len(), 1, "only the greeting of before");
    assert!(shop.sink.to("busy-erased@mail.example").is_empty());
}
