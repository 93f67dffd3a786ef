//! Addresses: one spelling of each, and the key under which the sender knows it.

/// Why a text cannot be sent to; a refusal at gate 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// The one spelling of an address of a channel type.
///
/// The local part of an e-mail address is folded too: nobody runs two mailboxes that differ in case,
/// and a suppression that a capital letter gets around is none.
pub fn normalise(channel: &str, address: &str) -> String {
    let trimmed = address.trim();
    match channel {
        "email" => trimmed.to_lowercase(),
        "sms" | "whatsapp" | "rcs" | "viber" => trimmed.chars().filter(|c| c.is_ascii_digit() || *c == '+').collect(),
        _ => trimmed.to_owned(),
    }
}

/// Routing key at the sender: the first 16 bytes of BLAKE3 over channel type and normalised address.
pub fn key(channel: &str, address: &str) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("waypost address key v1");
    hasher.update(channel.as_bytes());
    hasher.update(&[0]);
    hasher.update(normalise(channel, address).as_bytes());
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Whether a provider could be asked to take it; whether it exists is for the provider to say.
pub fn check(channel: &str, address: &str) -> Result<(), Invalid> {
    let address = normalise(channel, address);
    let fits = match channel {
        "email" => email(&address),
        "sms" | "whatsapp" | "rcs" | "viber" => {
            address.strip_prefix('+').is_some_and(|digits| (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()))
        }
        _ => !address.is_empty() && address.len() <= 1_024,
    };
    if fits { Ok(()) } else { Err(Invalid) }
}

fn email(address: &str) -> bool {
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '<' | '>' | ',' | ';' | ':' | '"' | '(' | ')' | '\\');
    !local.is_empty()
        && local.len() <= 64
        && address.len() <= 254
        && address.matches('@').count() == 1
        && address.chars().all(plain)
        && domain.contains('.')
        && domain.split('.').all(|label| !label.is_empty() && label.len() <= 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mailbox_has_one_key() {
        assert_eq!(key("email", " Ana@Shop.Example "), key("email", "ana@shop.example"));
        assert_eq!(key("sms", "+49 151 123"), key("sms", "+49151123"));
        assert_ne!(key("email", "ana@shop.example"), key("email", "ben@shop.example"));
        assert_ne!(key("email", "x"), key("push", "x"));
    }

    #[test]
    fn what_no_provider_could_take_is_refused() {
        for (channel, address, valid) in [
            ("email", "ana@shop.example", true),
            ("email", "ana+cart@mail.shop.example", true),
            ("email", "ana", false),
            ("email", "ana@shop", false),
            ("email", "@shop.example", false),
            ("email", "ana@shop..example", false),
            ("email", "a b@shop.example", false),
            ("email", "a@b@shop.example", false),
            ("email", "ana@shop.example\r\nBcc: x@shop.example", false),
            ("sms", "+4915112345678", true),
            ("sms", "015112345678", false),
            ("push", "token", true),
            ("push", "", false),
        ] {
            assert_eq!(check(channel, address).is_ok(), valid, "{channel} {address}");
        }
    }
}
