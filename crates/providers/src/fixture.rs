//! What the tests of several providers need.

use bytes::Bytes;
use waypost_sender::{Channel, OutgoingEmail};
use waypost_types::{ContentHash, Timestamp};

pub(crate) fn channel() -> Channel {
    Channel {
        name: "mail".to_owned(),
        kind: "email".to_owned(),
        provider: "test".to_owned(),
        from: "Shop <hello@shop.example>".to_owned(),
        secret: None,
        default: true,
        http: None,
        hash: ContentHash::of(b"channel"),
    }
}

pub(crate) fn message() -> OutgoingEmail {
    OutgoingEmail {
        dispatch: "dsp_01".to_owned(),
        from: "hello@shop.example".to_owned(),
        to: "ann@shop.example".to_owned(),
        message_id: "01@shop.example".to_owned(),
        at: Timestamp::ZERO,
        subject: "Grüße".to_owned(),
        html: "<p>Hi</p>".to_owned(),
        text: "Hi".to_owned(),
        raw: Bytes::from_static(b"Subject: x\r\n\r\nHi\r\n"),
    }
}
