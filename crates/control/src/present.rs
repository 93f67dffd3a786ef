//! Stored state in the form of the API: for people, so values are text.

use waypost_codec::{inbox, state, value};
use waypost_engine::explain::{Decided, Explanation};
use waypost_proto::control as pb;
use waypost_types::{Currency, RunId, Timestamp, Value};

use crate::lookup::Found;

/// A person.
pub(crate) fn profile(found: &Found, currency: Currency) -> pb::Profile {
    let empty = inbox::Person::default();
    let person = found.segment.as_ref().and_then(|s| s.person.as_ref()).unwrap_or(&empty);
    let journey = found.journey.clone().unwrap_or_default();
    let addresses = person.addresses.iter().map(|a| pb::Field { path: format!("address.{}", a.channel), value: a.value.clone() });
    let fields = person.fields.iter().map(|f| pb::Field { path: f.path.clone(), value: show(f.value.as_ref(), currency) });
    let (live, ended): (Vec<_>, Vec<_>) = journey.runs.iter().partition(|r| r.exit_reason.is_empty());
    let ended = ended.into_iter().map(|r| pb::PastRun {
        journey: r.journey.clone(),
        key: r.key.clone(),
        entered_at: r.entered_at,
        exited_at: r.exited_at,
        reason: r.exit_reason.clone(),
    });
    let past = journey.past.iter().map(|p| pb::PastRun {
        journey: p.journey.clone(),
        key: p.key.clone(),
        entered_at: p.entered_at,
        exited_at: p.exited_at,
        reason: p.reason.clone(),
    });
    let mut past: Vec<_> = past.chain(ended).collect();
    past.sort_by(|a, b| (a.exited_at, &a.journey, &a.key).cmp(&(b.exited_at, &b.journey, &b.key)));
    past.dedup_by(|a, b| a == b);
    pb::Profile {
        id: found.profile.to_string(),
        fields: addresses.chain(fields).collect(),
        carts: person.carts.iter().map(|c| cart(c, currency)).collect(),
        orders: person.orders.iter().map(|o| order(o, currency)).collect(),
        consents: person.consents.iter().map(consent).collect(),
        memberships: person.memberships.iter().filter(|m| m.truth() == inbox::Truth::Yes).map(|m| m.segment.clone()).collect(),
        runs: live.into_iter().map(run).collect(),
        past,
        segment_offset: found.segment_offset,
        journey_offset: found.journey_offset,
        joined_from: found.joined_from.iter().map(ToString::to_string).collect(),
    }
}

/// An explanation of the engine's.
pub(crate) fn explanation(found: &Found, explained: Explanation) -> pb::ExplainProfileResponse {
    pb::ExplainProfileResponse {
        profile: found.profile.to_string(),
        verdict: explained.verdict,
        entries: explained.entries.into_iter().map(entry).collect(),
        journey_offset: found.journey_offset,
    }
}

fn entry(decided: Decided) -> pb::ExplainEntry {
    let checks = decided.checks.into_iter().map(|c| pb::ExplainCheck {
        what: c.what,
        truth: c.truth.as_str().to_owned(),
        operands: c.operands,
        valid_until: c.valid_until.map_or(0, Timestamp::millis),
    });
    pb::ExplainEntry {
        at: decided.at.millis(),
        journey: decided.journey,
        version: decided.version,
        run: decided.run.map_or_else(String::new, |r| r.to_string()),
        key: decided.key,
        what: decided.what,
        step: decided.step,
        reason: decided.reason,
        cause: decided.cause,
        checks: checks.collect(),
        send: decided.send.map_or_else(String::new, |s| s.to_string()),
        note: decided.note,
    }
}

fn run(run: &state::Run) -> pb::Run {
    let sends = run.sends.iter().map(|s| {
        let state = s.state().as_str_name().trim_start_matches("SEND_STATE_").to_lowercase();
        let reason = if s.reason.is_empty() { String::new() } else { format!(" {}", s.reason) };
        format!("{} {state}{reason}", s.step)
    });
    pb::Run {
        id: RunId::from_slice(&run.id).map(|r| r.to_string()).unwrap_or_default(),
        journey: run.journey.clone(),
        version: run.version,
        key: run.key.clone(),
        step: run.step.clone(),
        entered_at: run.entered_at,
        next_due: run.timers.iter().map(|t| t.due).min().unwrap_or(0),
        sends: sends.collect(),
    }
}

fn cart(cart: &inbox::Cart, currency: Currency) -> String {
    let status = cart.status().as_str_name().trim_start_matches("CART_STATUS_").to_lowercase();
    let value = cart.value.map_or_else(|| "value unknown".to_owned(), |v| currency.format(v));
    format!("{} {status}, {} line{}, {value}", cart.cart_id, cart.lines.len(), if cart.lines.len() == 1 { "" } else { "s" })
}

fn order(order: &inbox::Order, currency: Currency) -> String {
    let value = order.value.map_or_else(|| "value unknown".to_owned(), |v| currency.format(v));
    let flags = if order.flags.is_empty() { String::new() } else { format!(" ({})", order.flags.join(", ")) };
    format!("{} {}{flags}, {value}, at {}", order.order_id, order.status, Timestamp::from_millis(order.placed_at))
}

fn consent(consent: &inbox::Consent) -> String {
    let state = consent.state().as_str_name().trim_start_matches("CONSENT_STATE_").to_lowercase();
    format!("{} {} {state} since {}", consent.channel, consent.topic, Timestamp::from_millis(consent.at))
}

fn show(stored: Option<&inbox::Value>, currency: Currency) -> String {
    stored.and_then(value::from_proto).map_or_else(String::new, |v| text(&v, currency))
}

/// A value in words.
pub(crate) fn text(value: &Value, currency: Currency) -> String {
    match value {
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Decimal(d) => {
            format!("{}{}.{:06}", if *d < 0 { "-" } else { "" }, d.unsigned_abs() / 1_000_000, d.unsigned_abs() % 1_000_000)
        }
        Value::Text(t) => t.clone(),
        Value::Money(m) => currency.format(*m),
        Value::Amount { minor, currency } => Currency::parse(currency).map_or_else(|| format!("{minor} {currency}"), |c| c.format(*minor)),
        Value::Time(t) => t.to_string(),
        Value::Date(d) => Timestamp::from_millis(i64::from(*d) * 86_400_000).to_string().chars().take(10).collect(),
        Value::List(items) => format!("[{}]", items.iter().map(|i| text(i, currency)).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            format!("{{{}}}", entries.iter().map(|(n, v)| format!("{n}: {}", text(v, currency))).collect::<Vec<_>>().join(", "))
        }
    }
}
