//! Money: integer minor units of a currency.

use std::fmt;

/// An ISO 4217 code, upper case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

// ISO 4217 codes in circulation and the number of their minor digits where it is not two.
const KNOWN: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG";
const NO_MINOR: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF";
const THREE_MINOR: &str = "BHD IQD JOD KWD LYD OMR TND";

// === impl Currency ===

impl Currency {
    /// The default of a workspace that says nothing.
    pub const EUR: Self = Self(*b"EUR");

    /// From a code in any case; none if it is not in circulation.
    pub fn parse(code: &str) -> Option<Self> {
        let upper = code.trim().to_ascii_uppercase();
        let bytes: [u8; 3] = upper.as_bytes().try_into().ok()?;
        KNOWN.split(' ').any(|k| k == upper).then_some(Self(bytes))
    }

    /// Its code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// Digits behind the point: 100 cents make a euro, 1 yen is the smallest.
    pub fn minor_digits(&self) -> u32 {
        let is = |list: &str| list.split(' ').any(|k| k == self.as_str());
        if is(NO_MINOR) {
            0
        } else if is(THREE_MINOR) {
            3
        } else {
            2
        }
    }

    /// Minor units of a decimal text such as `60.00`; surplus digits are rounded half to even.
    ///
    /// Returns the amount and whether it had to be rounded; none if the text is not a decimal of at
    /// most 18 digits. Never through a float.
    pub fn minor_units(&self, decimal: &str) -> Option<(i64, bool)> {
        let text = decimal.trim();
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) || whole.len() + fraction.len() > 18 {
            return None;
        }
        let wanted = self.minor_digits() as usize;
        let kept = &fraction[..fraction.len().min(wanted)];
        let rest = &fraction[kept.len()..];
        let mut number: i64 = format!("{whole}{kept:0<wanted$}").parse().ok()?;
        let half = match rest.as_bytes().first() {
            None | Some(b'0'..=b'4') => std::cmp::Ordering::Less,
            Some(b'5') if rest[1..].bytes().all(|b| b == b'0') => std::cmp::Ordering::Equal,
            Some(_) => std::cmp::Ordering::Greater,
        };
        if half == std::cmp::Ordering::Greater || (half == std::cmp::Ordering::Equal && number % 2 != 0) {
            number = number.checked_add(1)?;
        }
        let rounded = rest.bytes().any(|b| b != b'0');
        Some((if negative { -number } else { number }, rounded))
    }

    /// An amount as text with its code: `60.00 EUR`.
    pub fn format(&self, minor: i64) -> String {
        let digits = self.minor_digits() as usize;
        let sign = if minor < 0 { "-" } else { "" };
        let plain = format!("{:0>width$}", minor.unsigned_abs(), width = digits + 1);
        let (whole, fraction) = plain.split_at(plain.len() - digits);
        let point = if digits == 0 { "" } else { "." };
        format!("{sign}{whole}{point}{fraction} {}", self.as_str())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_units_come_from_the_text() {
        let of = |code, text| Currency::parse(code).and_then(|c| c.minor_units(text));
        assert_eq!(of("eur", "60.00"), Some((6000, false)));
        assert_eq!(of("EUR", "0.1"), Some((10, false)));
        assert_eq!(of("EUR", "0.125"), Some((12, true)));
        assert_eq!(of("EUR", "0.135"), Some((14, true)));
        assert_eq!(of("EUR", "-1.5"), Some((-150, false)));
        assert_eq!(of("JPY", "1250"), Some((1250, false)));
        assert_eq!(of("KWD", "1.5"), Some((1500, false)));
        for bad in ["", ".", "1e3", "1,5", "NaN", "1234567890123456789", "--1"] {
            assert_eq!(of("EUR", bad), None, "{bad}");
        }
        assert!(Currency::parse("XXX").is_none());
    }

    #[test]
    fn amounts_print_with_their_code() {
        let show = |code, minor| Currency::parse(code).map(|c| c.format(minor));
        assert_eq!(show("EUR", 6000).as_deref(), Some("60.00 EUR"));
        assert_eq!(show("EUR", -5).as_deref(), Some("-0.05 EUR"));
        assert_eq!(show("JPY", 1250).as_deref(), Some("1250 JPY"));
    }
}
