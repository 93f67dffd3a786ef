//! A message as the catcher lists it: names of files and links that somebody else's address and subject are in.

use bytes::Bytes;
use waypost_providers::catcher::Caught;
use waypost_sender::OutgoingEmail;

use crate::{pieces, shop::NOW, text};

const TAGS: [&str; 4] = ["<tr>", "<td>", "<a href=", "</a>"];

/// Recipient, subject and sender, cut at zero bytes.
pub(crate) fn caught(data: &[u8]) -> bool {
    let parts = pieces(data, 3);
    let message = OutgoingEmail {
        dispatch: "dsp_01".to_owned(),
        from: text(parts.get(2)),
        to: text(parts.first()),
        message_id: "01@shop.example".to_owned(),
        at: NOW,
        subject: text(parts.get(1)),
        html: String::new(),
        text: String::new(),
        raw: Bytes::new(),
    };
    let caught = Caught::of(7, &message);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    assert!(caught.file.chars().all(plain) && !caught.file.starts_with('.'), "no name for a file: {:?}", caught.file);
    assert!(caught.file.len() < 200, "too long for a file system");
    let row = caught.row();
    let (mut rest, mut tags) = (row.as_str(), [0; 4]);
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        let known = TAGS.iter().position(|tag| rest.starts_with(tag));
        tags[known.unwrap_or_else(|| panic!("a tag that nobody wrote: {rest}"))] += 1;
        rest = &rest[1..];
    }
    assert_eq!(tags, [1, 5, 3, 3], "cells and links are the page's own");
    assert_eq!(row.matches(&format!("href=\"{}.", caught.file)).count(), 3, "a link leads elsewhere");
    true
}
