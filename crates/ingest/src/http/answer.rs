//! Answers (CONVENTIONS §1.2).

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use waypost_runtime::door::DoorError;

use super::counting::RefusedWhole;
use crate::{Reason, Rejection};

/// A request refused whole.
#[derive(Debug)]
pub(super) struct Refusal {
    reason: Reason,
    message: String,
    /// Seconds after which there is room again.
    room_in: u64,
}

/// One event of it refused.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) index: usize,
    pub(super) rejection: Rejection,
}

// === impl Refusal ===

impl Refusal {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), room_in: 1 }
    }

    /// More than may come now.
    pub(super) fn throttled(message: impl Into<String>, room_in: u64) -> Self {
        Self { room_in, ..Self::new(Reason::Throttled, message) }
    }

    fn status(&self) -> StatusCode {
        match self.reason {
            Reason::BadKey => StatusCode::UNAUTHORIZED,
            Reason::SourceForbidden => StatusCode::FORBIDDEN,
            Reason::Throttled => StatusCode::TOO_MANY_REQUESTS,
            Reason::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Reason::BadJson
            | Reason::BatchTooManyEvents
            | Reason::BodyTooLarge
            | Reason::NoIdentifier
            | Reason::NameMissing
            | Reason::PropertyMissing
            | Reason::EventTooLarge
            | Reason::TooDeep
            | Reason::SchemaMismatch
            | Reason::NotYetSupported
            | Reason::NotFramed
            | Reason::SchemaUnknown
            | Reason::DecodeFailed
            | Reason::MessageIdMissing => StatusCode::BAD_REQUEST,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = json!({"success": false, "reason": self.reason.as_str(), "message": self.message, "rejected": []});
        let mut response = (status, Json(body)).into_response();
        response.extensions_mut().insert(RefusedWhole(self.reason));
        let room_in = HeaderValue::from(self.room_in);
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, room_in.clone());
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert("x-ratelimit-reset", room_in);
        }
        response
    }
}

/// Nothing is known to be stored: come again, unless the same would fail again.
#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
pub(super) fn not_stored(error: DoorError) -> Refusal {
    tracing::warn!(%error, "event not appended");
    match error {
        DoorError::Unavailable(_) => Refusal::new(Reason::Unavailable, "the event log does not answer; send the same again"),
        DoorError::TooLarge => Refusal::new(Reason::EventTooLarge, "an event is larger than the log takes"),
    }
}

/// The answer to a request that was read.
pub(super) fn judged(accepted: usize, rejected: &[Rejected]) -> Response {
    let list: Vec<_> = rejected
        .iter()
        .map(|r| {
            json!({
                "index": r.index,
                "messageId": r.rejection.message_id,
                "reason": r.rejection.reason.as_str(),
                "path": r.rejection.path,
                "message": r.rejection.message(),
            })
        })
        .collect();
    match rejected.first() {
        None => Json(json!({"success": true})).into_response(),
        Some(_) if accepted > 0 => Json(json!({"success": true, "rejected": list})).into_response(),
        Some(first) => {
            let body = json!({
                "success": false,
                "reason": first.rejection.reason.as_str(),
                "message": first.rejection.message(),
                "rejected": list,
            });
            (StatusCode::BAD_REQUEST, Json(body)).into_response()
        }
    }
}
