//! The key of links is changed while everything runs, in the order of docs/operations.md: links of mails that are out stay good, new ones
//! carry the new key.

use std::fs;

use serde_json::json;
use waypost_codec::unsubscribe;

use crate::{
    http::Request,
    shop::{Shop, said},
    stack::beside,
};

const OLD: [u8; 32] = [0x11; 32];
const NEW: [u8; 32] = [0x22; 32];

/// Somebody signs up and is greeted; where the link of the mail leads.
fn greeted(shop: &Shop, name: &str) -> String {
    let address = shop.person(name);
    shop.track(&json!({"userId": name}), "Signed Up", json!({}));
    let mail = shop.mail(&address, "greet Ann");
    let link = mail.header("list-unsubscribe").trim_matches(['<', '>']).to_owned();
    link[link.find("/u/").expect("an unsubscribe link")..].to_owned()
}

fn is_under(key: &[u8; 32], link: &str) -> bool {
    unsubscribe::open(key, link.trim_start_matches("/u/")).is_ok()
}

fn asked(shop: &Shop, link: &str) -> u16 {
    shop.request(&Request::get(link)).status
}

#[test]
fn a_key_that_is_changed_keeps_the_links_that_are_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("link-keys");
    let holds = |keys: &[[u8; 32]]| {
        let text = keys.iter().map(|key| hex::encode(key) + "\n").collect::<String>();
        // as a mounted secret changes: at once
        fs::write(folder.path().join("next"), text).unwrap();
        fs::rename(folder.path().join("next"), &file).unwrap();
    };
    holds(&[OLD]);
    let beside = beside("links", vec![("WAYPOST_SECRETS_LINK_KEY_FILE".to_owned(), file.display().to_string())]);
    let shop = &beside.shop;
    let before = greeted(shop, "links-before");
    assert!(is_under(&OLD, &before) && !is_under(&NEW, &before));
    assert_eq!(asked(shop, &unsubscribe_under(&NEW, &before)), 404, "a key that is nobody's yet");

    // first where links are opened
    holds(&[OLD, NEW]);
    let foreseen = unsubscribe_under(&NEW, &before);
    shop.until("the door to know the new key", || (asked(shop, &foreseen) == 200).then_some(()));
    assert_eq!(asked(shop, &before), 200);

    // then where they are sealed
    holds(&[NEW, OLD]);
    let mut number = 0;
    let after = shop.until("a link under the new key", || {
        number += 1;
        Some(greeted(shop, &format!("links-after-{number}"))).filter(|link| is_under(&NEW, link))
    });
    assert_eq!([asked(shop, &before), asked(shop, &after)], [200, 200]);
    let press = |link: &str| shop.request(&Request::post(link, "List-Unsubscribe=One-Click")).status;
    assert_eq!([press(&before), press(&after)], [200, 200]);
    for name in ["links-before".to_owned(), format!("links-after-{number}")] {
        shop.until("the stop", || {
            shop.track(&json!({"userId": name}), "Signed Up", json!({}));
            let stopped = shop.decisions.rows(&shop.registry).into_iter().filter(|row| row["reason"] == "CONSENT_DENIED").count();
            (stopped > usize::from(name != "links-before")).then_some(())
        });
    }

    // too early: each process keeps what it knew, says so, and forgets it when it ends
    holds(&[NEW]);
    shop.until("the door to say what is gone", || {
        // it looks when a link is opened
        assert_eq!([asked(shop, &before), asked(shop, &after)], [200, 200]);
        shop.log("ingest").contains("keys are gone from secrets.link_key_file").then_some(())
    });
    assert!(shop.stop("ingest").success());
    shop.start("ingest");
    shop.wait_for_ingest();
    assert_eq!([asked(shop, &before), asked(shop, &after)], [404, 200]);

    // what is no key changes nothing, and no key is ever told
    fs::write(&file, "no key\n").unwrap();
    let doctor = shop.run(&["doctor"]);
    assert!(!said(&doctor).contains(&hex::encode(NEW)), "{}", said(&doctor));
    assert_eq!(asked(shop, &after), 200);
    for role in ["ingest", "sender"] {
        assert!([OLD, NEW].iter().all(|key| !shop.log(role).contains(&hex::encode(key))), "{role} logged a key");
    }
}

/// The same link under another key.
fn unsubscribe_under(key: &[u8; 32], link: &str) -> String {
    let opened = unsubscribe::open(&OLD, link.trim_start_matches("/u/")).unwrap();
    format!("/u/{}", unsubscribe::seal(key, &opened))
}
