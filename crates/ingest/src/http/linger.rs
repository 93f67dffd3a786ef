//! What nobody wants to read is read on for a moment: a connection that closes while bytes still arrive is reset, and the
//! reset overtakes the answer.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use futures::StreamExt as _;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(1);
/// More than that is not worth it.
const MOST: usize = 1024 * 1024;

/// Reads a body and keeps nothing of it.
pub(super) async fn linger(headers: &HeaderMap, body: Body) {
    // Who asks first does not send what is refused.
    if headers.contains_key(header::EXPECT) || super::stated(headers).is_some_and(|length| length > MOST) {
        return;
    }
    let mut pieces = body.into_data_stream();
    let reading = async {
        let mut read = 0;
        while let Some(Ok(piece)) = pieces.next().await
            && read <= MOST
        {
            read += piece.len();
        }
    };
    drop(timeout(PATIENCE, reading).await);
}
