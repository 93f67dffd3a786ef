//! Phone numbers (PRODUCT §5.2): their E.164 form by the numbering plans of ITU-T E.164, as libphonenumber knows them.

use phonenumber::{Mode, Type, country, metadata::DATABASE};

use super::Refused;
use crate::json::Map;

/// More than any number with its punctuation has.
const LONGEST: usize = 40;

/// A country whose plan says what a national number means.
pub(crate) type Country = country::Id;

/// The country that an ISO 3166 code names, in either case.
pub(crate) fn country(code: &str) -> Option<Country> {
    (code.len() == 2).then(|| code.to_ascii_uppercase().parse().ok())?
}

/// Where the caller of an event is, by what the event says of it.
pub(crate) fn country_of(traits: &Map, context: &Map, properties: &Map) -> Option<Country> {
    let said = |map: &Map, path: &[&str]| {
        let (last, way) = path.split_last()?;
        let place = way.iter().try_fold(map, |map, key| map.get(*key)?.as_object())?;
        country(place.get(*last)?.as_str()?)
    };
    said(context, &["location", "country"])
        .or_else(|| said(traits, &["address", "country"]))
        .or_else(|| said(traits, &["country"]))
        .or_else(|| said(properties, &["shipping_address", "country"]))
}

/// The number with `+` and its country code.
///
/// # Errors
/// [`Refused::Invalid`] where no plan has such a number, or it is national and no country is known;
/// [`Refused::Blocked`] for numbers that are no person's: premium and shared-cost lines, voice mail, short codes.
pub(super) fn normalise(value: &str, country: Option<Country>) -> Result<String, Refused> {
    let of_a_number = |c: char| c.is_ascii_digit() || matches!(c, '+' | ' ' | '-' | '.' | '(' | ')' | '/' | '\u{a0}');
    if value.len() > LONGEST || !value.chars().all(of_a_number) {
        return Err(Refused::Invalid);
    }
    // A number with a country code is judged by that country's plan alone.
    let country = country.filter(|_| !value.contains('+'));
    let number = phonenumber::parse(country, value).map_err(|_| Refused::Invalid)?;
    let kind = number.number_type(&DATABASE);
    if matches!(kind, Type::PremiumRate | Type::SharedCost | Type::Voicemail | Type::ShortCode | Type::Emergency) {
        return Err(Refused::Blocked);
    }
    if number.is_valid() { Ok(number.format().mode(Mode::E164).to_string()) } else { Err(Refused::Invalid) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_national_number_is_read_by_its_country() {
        for (region, from, to) in [
            ("", "+49 (170) 123-4567", Ok("+491701234567")),
            ("DE", "0170 / 123 45 67", Ok("+491701234567")),
            ("DE", "0049 170 1234567", Ok("+491701234567")),
            ("US", "+49 170 1234567", Ok("+491701234567")),
            ("US", "(415) 555-2671", Ok("+14155552671")),
            ("GB", "07400 123456", Ok("+447400123456")),
            ("IT", "06 1234 5678", Ok("+390612345678")),
            ("", "0170 1234567", Err(Refused::Invalid)),
            ("", "+0170 1234567", Err(Refused::Invalid)),
            ("", "+4917", Err(Refused::Invalid)),
            ("", "+49170x234567", Err(Refused::Invalid)),
            ("", "+49 170 1234567 ext. 5", Err(Refused::Invalid)),
            ("US", "0170 1234567", Err(Refused::Invalid)),
            ("DE", "110", Err(Refused::Invalid)),
            ("US", "(900) 234-5678", Err(Refused::Blocked)),
            ("GB", "0909 879 0123", Err(Refused::Blocked)),
            ("", "+", Err(Refused::Invalid)),
            ("DE", "((((", Err(Refused::Invalid)),
        ] {
            assert_eq!(normalise(from, country(region)).as_deref(), to.as_deref(), "{from} in {region:?}");
        }
        assert_eq!(normalise(&format!("+49{}1701234567", " ".repeat(40)), None), Err(Refused::Invalid));
    }

    proptest! {
        #[test]
        fn whatever_looks_like_a_number_is_judged(number in "[-0-9+ ()./\u{a0}]{0,40}", region in "[A-Z]{2}") {
            if let Ok(normal) = normalise(&number, country(&region)) {
                let again = normalise(&normal, None);
                prop_assert_eq!(again, Ok(normal), "one form");
            }
        }
    }

    #[test]
    fn an_event_says_where_it_is_from() {
        let map = |json: serde_json::Value| json.as_object().cloned().unwrap_or_default();
        let (none, de) = (Map::new(), country("DE"));
        assert!(de.is_some());
        let context = map(json!({"location": {"country": "de"}}));
        let traits = map(json!({"address": {"country": "DE"}, "country": "US"}));
        assert_eq!(country_of(&map(json!({"country": "US"})), &context, &none), de);
        assert_eq!(country_of(&traits, &none, &none), de);
        assert_eq!(country_of(&map(json!({"country": "DE"})), &map(json!({"location": 7})), &none), de);
        assert_eq!(country_of(&none, &none, &map(json!({"shipping_address": {"country": "DE"}}))), de);
        assert_eq!(country_of(&none, &none, &map(json!({"shipping_address": {"country": "Germany"}}))), None);
    }
}
