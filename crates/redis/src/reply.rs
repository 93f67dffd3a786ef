//! From Redis' values to the port's replies.

use redis::Value;
use waypost_runtime::ports::{ClaimReply, Claimed, Deaths, InitReply, Install, Meta, Offset, ReleaseReply, StoreError, Token};
use waypost_types::Timestamp;

use crate::connection;

/// Bytes of a string value.
pub(crate) fn bytes(value: &Value) -> Option<&[u8]> {
    if let Value::BulkString(bytes) = value {
        Some(bytes)
    } else if let Value::SimpleString(text) = value {
        Some(text.as_bytes())
    } else {
        None
    }
}

fn text(values: &[Value], index: usize) -> Result<&str, StoreError> {
    values.get(index).and_then(bytes).and_then(|b| std::str::from_utf8(b).ok()).ok_or_else(|| odd(values))
}

fn number<T: std::str::FromStr>(values: &[Value], index: usize) -> Result<T, StoreError> {
    text(values, index)?.parse().map_err(|_| odd(values))
}

/// An answer that nothing of ours is given. It names no bytes, because they may be a person's.
fn odd(values: &[Value]) -> StoreError {
    let word = values.first().and_then(bytes).map(String::from_utf8_lossy).unwrap_or_default();
    StoreError::Refused(format!("unexpected reply `{}` of {} elements", word.chars().take(20).collect::<String>(), values.len()))
}

/// `offset count index processes`, with `-` for no index and commas between the processes.
pub(crate) fn deaths_text(deaths: &Deaths) -> String {
    let index = deaths.index.map_or_else(|| "-".to_owned(), |index| index.to_string());
    let processes: Vec<String> = deaths.processes.iter().map(|process| format!("{process:x}")).collect();
    format!("{} {} {index} {}", deaths.offset, deaths.count, processes.join(","))
}

/// The same, read.
pub(crate) fn deaths(text: &str) -> Option<Deaths> {
    let mut parts = text.split(' ');
    let (offset, count) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let index = Some(parts.next()?).filter(|index| *index != "-").map(str::parse).transpose().ok()?;
    let processes = parts.next()?.split(',').filter(|name| !name.is_empty());
    Some(Deaths { offset, count, processes: processes.map(|name| u64::from_str_radix(name, 16)).collect::<Result<_, _>>().ok()?, index })
}

/// The text form of a token in `own`.
pub(crate) fn token_text(token: Token) -> String {
    format!("{token:?}")
}

/// A token from `own`; none if it is empty or no token.
pub(crate) fn token(text: &[u8]) -> Option<Token> {
    let digits = std::str::from_utf8(text).ok().filter(|t| t.len() == 32)?;
    u128::from_str_radix(digits, 16).ok().map(|n| Token(n.to_be_bytes()))
}

pub(crate) fn init(values: &[Value]) -> Result<InitReply, StoreError> {
    match text(values, 0)? {
        "OK" => Ok(InitReply::Created),
        "EXISTS" => Ok(InitReply::Exists),
        "REMAINS" => Err(StoreError::Refused(format!("{} exists without its meta", text(values, 1)?))),
        _ => Err(odd(values)),
    }
}

pub(crate) fn claim(values: &[Value]) -> Result<ClaimReply, StoreError> {
    Ok(match text(values, 0)? {
        "OK" => ClaimReply::Ok(Box::new(claimed(values)?)),
        "UNINIT" => ClaimReply::Uninit,
        "MISMATCH" => ClaimReply::Mismatch(Install {
            id: text(values, 1)?.to_owned(),
            layout: text(values, 2)?.parse().unwrap_or(0),
            format: text(values, 3)?.parse().unwrap_or(0),
        }),
        "FROZEN" => ClaimReply::Frozen(text(values, 1)?.trim_start_matches("frozen:").to_owned()),
        "CORRUPT" => ClaimReply::Corrupt(format!("{} is a {}", text(values, 1)?, text(values, 2)?)),
        _ => return Err(odd(values)),
    })
}

fn claimed(values: &[Value]) -> Result<Claimed, StoreError> {
    let meta = Meta {
        clk: Timestamp::from_millis(number(values, 2)?),
        wm: Timestamp::from_millis(number(values, 3)?),
        ochain: number(values, 4)?,
        digest: values.get(5).and_then(bytes).ok_or_else(|| odd(values))?.to_vec().into(),
        eng: number(values, 6)?,
        defv: text(values, 7)?.to_owned(),
        leader: number(values, 8)?,
        lastrec: text(values, 9)?.to_owned(),
    };
    let Some(Value::Array(pairs)) = values.get(11) else { return Err(odd(values)) };
    let mut sequences = Vec::with_capacity(pairs.len() / 2);
    for index in (0..pairs.len()).step_by(2) {
        let value = pairs.get(index + 1).and_then(bytes).and_then(|b| b.try_into().ok()).ok_or_else(|| odd(values))?;
        sequences.push((text(pairs, index)?.to_owned(), value));
    }
    sequences.sort();
    Ok(Claimed { off: number(values, 1)?, meta, previous: values.get(10).and_then(bytes).and_then(token), sequences })
}

pub(crate) fn release(values: &[Value]) -> Result<ReleaseReply, StoreError> {
    match text(values, 0)? {
        "OK" => Ok(ReleaseReply::Ok),
        "FENCED" => Ok(ReleaseReply::Fenced),
        _ => Err(odd(values)),
    }
}

/// What a partition's meta says of who may commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetaHead {
    pub(crate) own: Option<Token>,
    /// None: there is no such partition.
    pub(crate) off: Option<Offset>,
}

/// Answers to WATCH, HMGET and MULTI.
pub(crate) fn watched(answers: &[Value]) -> Result<MetaHead, StoreError> {
    refused(answers)?;
    let [_, Value::Array(head), _] = answers else { return Err(odd(answers)) };
    let [own, off] = head.as_slice() else { return Err(odd(head)) };
    let off = match bytes(off) {
        Some(text) => Some(std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(|| odd(head))?),
        None => None,
    };
    Ok(MetaHead { own: bytes(own).and_then(token), off })
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executed {
    Whole,
    /// Nothing was written: what was watched has changed.
    Touched,
    /// A command failed among others that did not, which Redis never takes back.
    Torn,
}

/// Answers to the commands of a transaction and to its EXEC, which is the last.
pub(crate) fn executed(answers: &[Value]) -> Result<Executed, StoreError> {
    // One that is refused before EXEC makes EXEC refuse all of them.
    refused(answers)?;
    match answers.last() {
        Some(Value::Nil) => Ok(Executed::Touched),
        Some(Value::Array(results)) if results.iter().any(|result| matches!(result, Value::ServerError(_))) => Ok(Executed::Torn),
        Some(Value::Array(_)) => Ok(Executed::Whole),
        _ => Err(odd(answers)),
    }
}

/// The first refusal among answers.
fn refused(answers: &[Value]) -> Result<(), StoreError> {
    let refusal = answers.iter().find_map(|answer| if let Value::ServerError(error) = answer { Some(error) } else { None });
    refusal.map_or(Ok(()), |error| Err(connection::refusal(&error.clone().into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_from_their_text() {
        let it = Token([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(token(token_text(it).as_bytes()), Some(it));
        assert_eq!(token(b""), None);
        assert_eq!(token(b"frozen:relayout"), None);
    }

    #[test]
    fn a_reply_of_nobody_is_an_error() {
        assert!(executed(&[Value::BulkString(b"HELLO".to_vec())]).is_err());
        assert!(executed(&[]).is_err());
        assert!(watched(&[Value::Okay, Value::Array(vec![Value::Nil]), Value::Okay]).is_err());
        assert!(claim(&[Value::BulkString(b"OK".to_vec())]).is_err());
        assert!(release(&[]).is_err());
    }
}
