//! Where a Kafka record says which schema wrote it (CONVENTIONS §3.2).

use bytes::{BufMut as _, Bytes, BytesMut};

const VALUE_HEADER: &str = "__value_schema_id";
const APICURIO_HEADER: &str = "apicurio.value.";

/// Which schema wrote a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaRef {
    /// Framing V0.
    Id(u32),
    /// Framing V1 and header mode.
    Guid([u8; 16]),
}

/// Why a record does not say which schema wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// No known prefix and no header.
    #[error(
        "the value begins with no schema id: expected byte 0 and a 4-byte id, byte 1 and a 16-byte GUID, or the header `{VALUE_HEADER}`"
    )]
    NotFramed,
    /// Apicurio's own headers.
    #[error("Apicurio's own header mode is not supported: set `apicurio.registry.headers.enabled=false` and the Confluent id handler")]
    ApicurioHeaders,
}

/// V0: byte 0, the id big-endian, the Avro binary.
pub fn write(id: u32, body: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + body.len());
    framed.put_u8(0);
    framed.put_u32(id);
    framed.put_slice(body);
    framed.freeze()
}

/// Splits a value into its schema and its Avro binary.
pub fn read(headers: &[(String, Bytes)], value: &Bytes) -> Result<(SchemaRef, Bytes), FramingError> {
    if let Some((_, header)) = headers.iter().find(|(name, _)| name == VALUE_HEADER) {
        let (schema, rest) = prefix(header).ok_or(FramingError::NotFramed)?;
        return if rest == header.len() { Ok((schema, value.clone())) } else { Err(FramingError::NotFramed) };
    }
    if headers.iter().any(|(name, _)| name.starts_with(APICURIO_HEADER)) {
        return Err(FramingError::ApicurioHeaders);
    }
    let (schema, rest) = prefix(value).ok_or(FramingError::NotFramed)?;
    Ok((schema, value.slice(rest..)))
}

fn prefix(bytes: &[u8]) -> Option<(SchemaRef, usize)> {
    match bytes.split_first()? {
        (0, rest) => Some((SchemaRef::Id(u32::from_be_bytes(*rest.first_chunk()?)), 5)),
        (1, rest) => Some((SchemaRef::Guid(*rest.first_chunk()?), 17)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &[u8]) -> Vec<(String, Bytes)> {
        vec![(name.to_owned(), Bytes::copy_from_slice(value))]
    }

    #[test]
    fn each_framing_is_recognised() {
        let guid = [7; 16];
        let v1 = [&[1][..], &guid, b"body"].concat();
        let body = Bytes::from_static(b"body");
        assert_eq!(write(258, b"body").as_ref(), b"\x00\x00\x00\x01\x02body");
        assert_eq!(read(&[], &write(258, b"body")), Ok((SchemaRef::Id(258), body.clone())));
        assert_eq!(read(&[], &v1.clone().into()), Ok((SchemaRef::Guid(guid), body.clone())));
        assert_eq!(read(&header(VALUE_HEADER, &v1[..17]), &body), Ok((SchemaRef::Guid(guid), body.clone())));
    }

    #[test]
    fn anything_else_is_refused() {
        for value in [&b""[..], b"\x00", b"\x00\x00\x00\x01", b"\x01short", b"{}", b"\x02\x00\x00\x00\x00\x00"] {
            assert_eq!(read(&[], &Bytes::copy_from_slice(value)), Err(FramingError::NotFramed), "{value:?}");
        }
        let value = Bytes::from_static(b"value");
        assert_eq!(read(&header("apicurio.value.globalId", &[0; 8]), &value), Err(FramingError::ApicurioHeaders));
        assert_eq!(read(&header(VALUE_HEADER, b"\x01short"), &value), Err(FramingError::NotFramed));
        assert_eq!(read(&header(VALUE_HEADER, &[1; 18]), &value), Err(FramingError::NotFramed));
    }
}
