//! What the segmenter holds: addresses, fields and traits, carts, orders, consents, segments.

use serde_json::{Value as Json, json};
use waypost_codec::{inbox, state};
use waypost_engine::{definitions::Workspace, segment::fingerprint};
use waypost_types::Currency;

use super::{id, instant, stored, word};

/// The segmenter's state of a profile.
pub(super) fn segmented(segment: Option<&state::SegmentProfile>, definitions: Option<&Workspace>, currency: Currency) -> Json {
    let Some(segment) = segment else { return Json::Null };
    // The nodes stand among the identifiers; where they moved and that they are gone does not come up: nobody is found then.
    let state::SegmentProfile {
        moved_to: _,
        erased: _,
        person,
        ids: _,
        losers,
        now,
        created_at,
        last_event_at,
        events,
        draining,
        draining_since,
        erased_at: _,
        suppress: _,
    } = segment;
    let empty = inbox::Person::default();
    let inbox::Person {
        fields,
        carts,
        orders,
        consents,
        memberships,
        addresses,
        removed_carts: _,
        removed_orders: _,
        not_in,
        removed_not_in: _,
    } = person.as_ref().unwrap_or(&empty);
    json!({
        "createdAt": instant(*created_at), "lastEventAt": instant(*last_event_at), "updatedAt": instant(*now), "events": events,
        "joined": losers.iter().map(|profile| id(profile)).collect::<Vec<_>>(),
        "joiningSince": instant(*draining_since), "joining": draining.iter().map(|node| id(node)).collect::<Vec<_>>(),
        "addresses": addresses.iter().map(address).collect::<Vec<_>>(),
        "fields": fields.iter().map(|f| field(f, currency)).collect::<Vec<_>>(),
        "carts": carts.iter().map(|c| cart(c, currency)).collect::<Vec<_>>(),
        "orders": orders.iter().map(|o| order(o, currency)).collect::<Vec<_>>(),
        "consents": consents.iter().map(consent).collect::<Vec<_>>(),
        "segments": memberships.iter().map(membership).collect::<Vec<_>>(),
        "notInSegments": not_in.iter().map(|fingerprint| segment_name(*fingerprint, definitions)).collect::<Vec<_>>(),
    })
}

/// Of a segment that somebody is plainly not in a fingerprint is kept; its name is in what is in force, or nowhere.
fn segment_name(of: u32, definitions: Option<&Workspace>) -> Json {
    let named = definitions.and_then(|definitions| definitions.segments.keys().find(|name| fingerprint(name) == of));
    named.map_or_else(|| json!(format!("{of:08x}")), |name| json!(name))
}

fn address(address: &inbox::Address) -> Json {
    let inbox::Address { channel, value, verified, set_at } = address;
    json!({"channel": channel, "value": value, "verified": verified, "setAt": instant(*set_at)})
}

fn field(field: &inbox::Field, currency: Currency) -> Json {
    let inbox::Field { path, value, set_at } = field;
    json!({"path": path, "value": stored(value.as_ref(), currency), "setAt": instant(*set_at)})
}

fn cart(cart: &inbox::Cart, currency: Currency) -> Json {
    let inbox::Cart { cart_id, status: _, lines, value, total, updated_at, status_at } = cart;
    json!({
        "cartId": cart_id, "status": word(cart.status().as_str_name(), "CART_STATUS_"), "lines": lines_of(lines, currency),
        "value": money(*value, currency), "total": amount(total.as_ref()), "updatedAt": instant(*updated_at),
        "statusAt": instant(*status_at),
    })
}

fn order(order: &inbox::Order, currency: Currency) -> Json {
    let inbox::Order { order_id, status, flags, lines, value, total, placed_at, updated_at, refunded, cart_id, stub } = order;
    json!({
        "orderId": order_id, "status": status, "flags": flags, "lines": lines_of(lines, currency), "value": money(*value, currency),
        "total": amount(total.as_ref()), "placedAt": instant(*placed_at), "updatedAt": instant(*updated_at),
        "refunded": money(Some(*refunded), currency), "cartId": cart_id, "onlyMentioned": stub,
    })
}

fn lines_of(lines: &[inbox::Line], currency: Currency) -> Vec<Json> {
    let line = |line: &inbox::Line| {
        let inbox::Line { product_id, sku, name, category, brand, variant, price, price_amount, url, image_url, quantity } = line;
        json!({
            "productId": product_id, "sku": sku, "name": name, "category": category, "brand": brand, "variant": variant,
            "price": money(*price, currency), "priceAmount": amount(price_amount.as_ref()), "url": url, "imageUrl": image_url,
            "quantity": quantity,
        })
    };
    lines.iter().map(line).collect()
}

/// An entry of the ledger, with what proves it: basis, source, instant and address.
fn consent(consent: &inbox::Consent) -> Json {
    let inbox::Consent { channel, topic, state: _, basis, source, at, expires_at, address } = consent;
    json!({
        "channel": channel, "topic": topic, "state": word(consent.state().as_str_name(), "CONSENT_STATE_"), "basis": basis,
        "source": source, "at": instant(*at), "expiresAt": instant(*expires_at), "address": address,
    })
}

fn membership(membership: &inbox::Membership) -> Json {
    let inbox::Membership { segment, truth: _, valid_until, since, version } = membership;
    json!({
        "segment": segment, "isIn": word(membership.truth().as_str_name(), "TRUTH_"), "validUntil": instant(*valid_until),
        "since": instant(*since), "version": version,
    })
}

/// Minor units of the workspace's currency.
fn money(minor: Option<i64>, currency: Currency) -> Json {
    minor.map_or(Json::Null, |minor| json!(currency.format(minor)))
}

fn amount(amount: Option<&inbox::Amount>) -> Json {
    let Some(inbox::Amount { minor, currency }) = amount else { return Json::Null };
    Currency::parse(currency).map_or_else(|| json!({"minor": minor, "currency": currency}), |currency| json!(currency.format(*minor)))
}
