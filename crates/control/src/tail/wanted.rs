//! From where rows are asked for, and until when.

use std::time::Duration;

use tonic::metadata::MetadataMap;
use waypost_types::Timestamp;

use crate::status::Refusal;

/// Which rows are wanted.
#[derive(Debug)]
pub(super) struct Wanted<F> {
    pub(super) filter: F,
    /// From when on; none: from now on.
    pub(super) since: Option<Timestamp>,
    pub(super) follow: bool,
    pub(super) limit: Option<usize>,
    /// How long the client waits.
    pub(super) deadline: Option<Duration>,
}

// === impl Wanted ===

impl<F> Wanted<F> {
    pub(super) fn new(filter: F, since: Option<i64>, follow: bool, limit: i32, deadline: Option<Duration>) -> Result<Self, Refusal> {
        let negative = |field: &str| Refusal::Invalid("INVALID_ARGUMENT", format!("{field} may not be negative"));
        if since.is_some_and(|since| since < 0) {
            return Err(negative("since"));
        }
        let limit = usize::try_from(limit).map_err(|_| negative("limit"))?;
        let limit = (limit > 0).then_some(limit);
        Ok(Self { filter, since: since.map(Timestamp::from_millis), follow, limit, deadline })
    }
}

/// How long the client waits, as gRPC says it: at most eight digits and a unit.
pub(super) fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_hours(amount),
        "M" => Duration::from_mins(amount),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_not_negative() {
        let asked = |since, limit| Wanted::new((), since, false, limit, None);
        assert!(matches!(asked(Some(-1), 0), Err(Refusal::Invalid(..))));
        assert!(matches!(asked(None, -1), Err(Refusal::Invalid(..))));
        let all = asked(Some(0), 0).unwrap();
        assert_eq!((all.since, all.limit), (Some(Timestamp::ZERO), None));
    }

    #[test]
    fn a_client_s_patience_is_read_as_grpc_writes_it() {
        let of = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            deadline(&metadata)
        };
        assert_eq!(of("2S"), Some(Duration::from_secs(2)));
        assert_eq!(of("100m"), Some(Duration::from_millis(100)));
        assert_eq!((of("123456789S"), of("S"), of("2"), of("-1S")), (None, None, None, None));
        assert_eq!(deadline(&MetadataMap::new()), None);
    }
}
