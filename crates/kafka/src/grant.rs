//! Tokens for clients of administration, which rdkafka (0.39) asks for none: it serves such events of consumers and producers alone.

#![expect(unsafe_code, reason = "librdkafka's own call; rdkafka has no safe one")]

use std::{
    ffi::{CStr, CString},
    ptr,
};

use rdkafka::{ClientContext, admin::AdminClient, bindings::rd_kafka_oauthbearer_set_token, types::RDKafkaRespErr};

use crate::tokens::Token;

/// Lets a client show a token from now on.
pub(crate) fn grant<C: ClientContext>(client: &AdminClient<C>, token: &Token) -> Result<(), String> {
    let (Ok(value), Ok(principal)) = (CString::new(token.value.as_str()), CString::new(token.principal.as_str())) else {
        return Err("the token for Kafka is none: it holds a zero".to_owned());
    };
    let (mut why, expires) = ([0; 256], token.expires.millis());
    // SAFETY: the client lives as long as `client`; librdkafka copies both texts, reads no extensions, and writes a text that ends
    // within the buffer.
    let code = unsafe {
        let client = client.inner().native_ptr();
        rd_kafka_oauthbearer_set_token(client, value.as_ptr(), expires, principal.as_ptr(), ptr::null_mut(), 0, why.as_mut_ptr(), why.len())
    };
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    let why = why.map(|byte| byte.to_ne_bytes()[0]);
    Err(CStr::from_bytes_until_nul(&why)
        .map_or_else(|_| "librdkafka takes no token".to_owned(), |text| text.to_string_lossy().into_owned()))
}
