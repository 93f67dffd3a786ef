//! Nothing that anybody can send makes the doors panic, or lets in what has no identifier.

use proptest::{collection, prelude::*};
use serde_json::{Value as Json, json};
use waypost_codec::avro::EventInput;
use waypost_ingest::{
    Env, kafka_event,
    segment_call::{self, CallKind, Shared},
};

use crate::support::{INSTALL, NOW, rights};

/// Words that lead into the branches, and anything else.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "event",
            "userId",
            "anonymousId",
            "properties",
            "traits",
            "context",
            "email",
            "phone",
            "products",
            "price",
            "currency",
            "quantity",
            "product_id",
            "order_id",
            "timestamp",
            "sentAt",
            "originalTimestamp",
            "Order Completed",
            "Product Added",
            "EUR",
            "1e400",
            "-0.5e-30",
            "2026-01-01",
            "99999999999999",
            "0170 / 123 45 67",
            "+49 (",
            "location",
            "country",
            "DE",
            "+49170",
            "a@b.example",
            "createdAt",
            "birthday",
            "device",
            "id",
            "externalIds",
            "collection",
            "users",
            "card",
            "é",
            "type",
            "messageId",
            "value_base",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ]
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        word().prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            collection::vec((word(), inner), 0..8).prop_map(|entries| entries.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_judged(properties in json(), traits in json(), context in json(), name in word(), id in json(), stamp in json(), kind in 0_usize..6) {
        let body = json!({
            "userId": id, "anonymousId": "c-1", "event": name, "properties": properties, "traits": traits, "context": context,
            "timestamp": stamp, "groupId": id, "previousId": stamp,
        });
        let env = Env { install: &INSTALL, now: NOW };
        if let Ok(accepted) = segment_call::read(Some(CallKind::ALL[kind]), &body.to_string(), &Shared::default(), &rights(), env) {
            prop_assert!(!accepted.event.identifiers.is_empty());
            prop_assert_eq!(&accepted.record.key, &accepted.event.identifiers[0].hash);
            prop_assert!(accepted.record.body.len() < 256 * 1024);
        }
    }

    #[test]
    fn any_text_is_judged(text in any::<String>()) {
        let env = Env { install: &INSTALL, now: NOW };
        let _judged = segment_call::read(None, &text, &Shared::default(), &rights(), env);
        let input = EventInput {
            message_id: "m".to_owned(),
            name: text.clone(),
            identifiers: vec![("user_id".to_owned(), text.clone())],
            properties: text.clone(),
            context: text.clone(),
            traits: text,
            ..EventInput::default()
        };
        let _judged = kafka_event::read(input, &rights(), env);
    }
}
