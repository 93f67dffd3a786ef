//! Loyalty cards: custom identifiers that people show beside their own, that are passed on, and that are all that a
//! till knows (PRODUCT §5.2).

use prost::Message as _;
use waypost_codec::{
    inbox::{Event, Identifier, IdentityEvent},
    kind,
};
use waypost_types::{IdentifierClass, IdentifierHash, Span, Value};

use super::{Append, INSTALL_KEY, event, nodes};
use crate::{chance::Chance, shop::WORKSPACE};

/// Behind the numbers of all other events.
const FIRST: usize = 20_000;
const NAMES: [&str; 2] = ["card", "crm"];

/// Gives some of what was told a card, and lets some cards act alone.
///
/// Everything is drawn at the name of the record, so that what is said again says the same.
pub fn draw(chance: &Chance, appends: &mut Vec<Append>) {
    let mut alone = Vec::new();
    for append in appends.iter_mut().filter(|append| append.record.kind == kind::EVENT) {
        let mut head = [0; 8];
        head.copy_from_slice(&append.record.id[..8]);
        let mut chance = chance.at(u64::from_be_bytes(head));
        if chance.index(3) > 0 {
            continue;
        }
        // Four people share six cards of each name: most have some of their own, some meet.
        let shown: Vec<Identifier> = (0..chance.small(2)).map(|_| card(NAMES[chance.index(2)], chance.index(6))).collect();
        if chance.index(3) == 0
            && append.number.is_some()
            && let Some(card) = shown.first()
        {
            let at = append.at.plus(Span::from_millis(chance.within(1, 900)));
            let number = FIRST + alone.len();
            let bought = vec![("order_id".to_owned(), Value::text(format!("k{number}")))];
            let (name, properties) = if chance.index(2) == 0 { ("Order Completed", bought) } else { ("Signed Up", vec![]) };
            let bare = event(number, name, &[], properties, vec![], at);
            alone.extend(showing(&bare, vec![card.clone()]));
        }
        if let Some(with) = showing(append, shown) {
            *append = with;
        }
    }
    appends.extend(alone);
}

fn card(name: &str, number: usize) -> Identifier {
    let value = format!("{name}-{number}");
    let hash = IdentifierHash::of(&INSTALL_KEY, WORKSPACE, IdentifierClass::Custom, name, &value);
    let hash = bytes::Bytes::copy_from_slice(hash.as_bytes());
    Identifier { class: IdentifierClass::Custom.number(), custom: name.to_owned(), value, hash }
}

/// The same event with these beside its own identifiers.
fn showing(append: &Append, mut cards: Vec<Identifier>) -> Option<Append> {
    cards.sort_by(|a, b| (&a.custom, &a.value).cmp(&(&b.custom, &b.value)));
    cards.dedup();
    let body = IdentityEvent::decode(append.record.body.clone()).ok()?;
    let mut event = Event::decode(body.event).ok()?;
    let names: Vec<&str> = cards.iter().map(|card| card.value.as_str()).collect();
    let says = format!("{} {}", append.says, names.join(" "));
    event.identifiers.extend(cards);
    let mut record = append.record.clone();
    record.key = event.identifiers.first()?.hash.clone();
    let body = IdentityEvent { identifiers: nodes(&event.identifiers), event: event.encode_to_vec().into(), ..body };
    record.body = body.encode_to_vec().into();
    Some(Append { record, says, ..append.clone() })
}
