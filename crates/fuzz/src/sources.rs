//! What people write: conditions, manifests, templates.

use std::collections::BTreeMap;

use waypost_engine::{
    apply::{SetManifest, plan_apply},
    condition::{self, Facts, Root, Roots, Scope, Truth},
    definitions::{EmailBody, Policy, Template},
    library::Library,
    manifest::parse_files,
    template::{self, Links},
};
use waypost_types::{ContentHash, Currency, Timestamp, Value};

use crate::{
    pieces,
    shop::{FILES, NOW, SHOP},
    text,
};

/// A condition, compiled for a journey, evaluated on facts that are known, and on none.
pub(crate) fn condition(data: &[u8]) -> bool {
    let source = String::from_utf8_lossy(data);
    let scope = Scope {
        roots: Roots::of(&Root::ALL),
        event_names: Vec::new(),
        vars: BTreeMap::new(),
        segments: ["vip".to_owned()].into(),
        currency: Currency::EUR,
    };
    let Ok(program) = condition::compile(&source, &scope) else { return false };
    for facts in [&Known as &dyn Facts, &Unknown] {
        let (truth, until) = program.truth(facts);
        assert!(until.is_none_or(|until| until > facts.now()), "an answer that has flipped already");
        let (explained, same_until, _) = program.explain(facts);
        assert_eq!((truth, until), (explained, same_until), "the explanation is of another answer");
    }
    true
}

/// A file of definitions, applied to an empty workspace.
pub(crate) fn manifest(data: &[u8]) -> bool {
    let source = String::from_utf8_lossy(data).into_owned();
    let attachments = |path: &str| FILES.iter().find(|(name, _)| name.ends_with(path)).map(|(_, text)| (*text).to_owned());
    match parse_files(&[("fuzz.yaml".to_owned(), source)], &attachments) {
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a problem");
            false
        }
        Ok(manifests) => {
            let library = Library::default();
            let empty = SetManifest::empty(SHOP, "shop");
            let applied = plan_apply(&empty, &library, SHOP, &manifests);
            assert!(applied.as_ref().err().is_none_or(|problems| !problems.is_empty()), "refused without a problem");
            applied.is_ok()
        }
    }
}

/// A template: subject, then body, HTML or MJML by the first byte.
pub(crate) fn template(data: &[u8]) -> bool {
    let Some((mjml, rest)) = data.split_first() else { return false };
    let parts = pieces(rest, 2);
    let body = EmailBody { subject: text(parts.first()), preheader: None, source: text(parts.get(1)), mjml: mjml & 1 == 1 };
    let template = Template {
        name: "fuzz".to_owned(),
        hash: ContentHash::of(b"fuzz"),
        version: 1,
        requires: Vec::new(),
        optional: BTreeMap::from([("profile.first_name".to_owned(), "there".to_owned())]),
        data: Vec::new(),
        action: Some(("Go".to_owned(), "https://shop.example/".to_owned())),
        email: Some(body),
    };
    drop(template::check(&template));
    let variables = Value::object([("profile".to_owned(), Value::object([("first_name".to_owned(), Value::text("<b>Ann\r\n</b>"))]))]);
    let links = Links {
        unsubscribe_url: "https://shop.example/u/t".to_owned(),
        restore_url: Some("https://shop.example/cart?id={cart_id}".to_owned()),
        product_url: Some("https://shop.example/p/".to_owned()),
    };
    let policy = Policy { postal_address: Some("Shop GmbH, Street 1".to_owned()), ..Policy::default() };
    let Ok(email) = template::render_email(&template, &variables, &links, &policy) else { return false };
    assert!(!email.subject.contains(['\r', '\n']), "a subject of two lines");
    let again = template::render_email(&template, &variables, &links, &policy);
    assert_eq!(again.ok(), Some(email), "rendered twice, other bytes");
    true
}

/// Facts of which some are there.
struct Known;
/// Facts of which none is there.
struct Unknown;

impl Facts for Known {
    fn now(&self) -> Timestamp {
        NOW
    }
    fn path(&self, _: Root, path: &str) -> Option<Value> {
        match path.len() % 6 {
            0 => Some(Value::text("text")),
            1 => Some(Value::Int(i64::MAX)),
            2 => Some(Value::Money(i64::MIN)),
            3 => Some(Value::Time(NOW)),
            4 => Some(Value::List(vec![Value::Int(1), Value::text("a")])),
            _ => None,
        }
    }
    fn segment(&self, _: &str) -> (Truth, Option<Timestamp>) {
        (Truth::Yes, Some(NOW.plus(waypost_types::Span::from_secs(1))))
    }
    fn cart(&self, _: &str) -> Option<Value> {
        Some(Value::object([("status".to_owned(), Value::text("open")), ("value".to_owned(), Value::Money(7_000))]))
    }
    fn order(&self, _: &str) -> Option<Value> {
        None
    }
    fn covered_since(&self) -> Option<Timestamp> {
        Some(Timestamp::ZERO)
    }
    fn currency(&self) -> Currency {
        Currency::EUR
    }
}

impl Facts for Unknown {
    fn now(&self) -> Timestamp {
        NOW
    }
    fn path(&self, _: Root, _: &str) -> Option<Value> {
        None
    }
    fn segment(&self, _: &str) -> (Truth, Option<Timestamp>) {
        (Truth::Unknown, None)
    }
    fn cart(&self, _: &str) -> Option<Value> {
        None
    }
    fn order(&self, _: &str) -> Option<Value> {
        None
    }
    fn covered_since(&self) -> Option<Timestamp> {
        None
    }
    fn currency(&self) -> Currency {
        Currency::EUR
    }
}
