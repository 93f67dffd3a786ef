//! The whole message, headers and parts: a function of the dispatch and what was rendered, so that
//! every attempt sends the same bytes.

use std::borrow::Cow;

use mail_builder::{
    MessageBuilder,
    headers::{address::Address, content_type::ContentType, date::Date, message_id::MessageId, raw::Raw, text::Text},
    mime::{BodyPart, MimePart},
};
use waypost_codec::inbox::Dispatch;
use waypost_engine::{address, template::Email};
use waypost_types::Timestamp;

use crate::provider::OutgoingEmail;

/// Why there is no message: something would not stay in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) &'static str);

/// What goes around the rendered parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a> {
    pub(crate) dispatch: &'a Dispatch,
    /// `Shop <hello@news.shop.example>`.
    pub(crate) from: &'a str,
    pub(crate) workspace: &'a str,
    pub(crate) topic_title: &'a str,
    pub(crate) unsubscribe_url: &'a str,
}

/// Builds the message.
pub(crate) fn build(around: Around<'_>, email: &Email) -> Result<OutgoingEmail, Refused> {
    let Around { dispatch, from, workspace, topic_title, unsubscribe_url } = around;
    let (name, sender) = parse(from).ok_or(Refused("from"))?;
    let to = dispatch.address.trim();
    address::check("email", to).map_err(|_| Refused("to"))?;
    address::check("email", sender).map_err(|_| Refused("from"))?;
    let domain = sender.rsplit_once('@').map_or("", |(_, domain)| domain);
    let id = hex::encode(&dispatch.dispatch);
    let message_id = format!("{id}@{domain}");
    for (field, value) in [
        ("from", from),
        ("subject", &email.subject),
        ("topic", topic_title),
        ("topic", &dispatch.topic),
        ("journey", &dispatch.journey),
        ("workspace", workspace),
        ("unsubscribe_url", unsubscribe_url),
    ] {
        if value.chars().any(char::is_control) {
            return Err(Refused(field));
        }
    }
    let marketing = dispatch.class != "transactional";
    let mut builder = MessageBuilder::new()
        .from(Address::new_address(name, sender))
        .to(Address::new_address(None::<Cow<'_, str>>, to))
        .subject(Text::new(email.subject.as_str()))
        .date(Date::new(dispatch.decided_at.div_euclid(1_000).max(0)))
        .message_id(MessageId::new(message_id.as_str()));
    if marketing {
        if unsubscribe_url.contains(['<', '>', ' ']) || unsubscribe_url.is_empty() {
            return Err(Refused("unsubscribe_url"));
        }
        let list = label(if dispatch.topic.is_empty() { "all" } else { &dispatch.topic });
        builder = builder
            .header("List-Unsubscribe", Raw::new(format!("<{unsubscribe_url}>")))
            .header("List-Unsubscribe-Post", Raw::new("List-Unsubscribe=One-Click"))
            .header("List-Id", Raw::new(format!("{}<{list}.{domain}>", phrase(topic_title))))
            .header("Feedback-ID", Raw::new(format!("{}:{}:marketing:waypost", label(&dispatch.journey), label(workspace))));
    } else {
        builder = builder.header("Auto-Submitted", Raw::new("auto-generated"));
    }
    // The boundary would be drawn at random; from the id it is the same on every attempt, and no line
    // of an encoded part begins like it.
    let alternatives = ContentType::new("multipart/alternative").attribute("boundary", format!("=_{id}"));
    let parts = vec![part("text/plain", &email.text), part("text/html", &email.html)];
    let mut raw = Vec::with_capacity(email.html.len() * 2);
    builder.body(MimePart::new(alternatives, parts)).write_to(&mut raw).map_err(|_| Refused("body"))?;
    Ok(OutgoingEmail {
        dispatch: dispatch_id(&dispatch.dispatch),
        from: sender.to_owned(),
        to: to.to_owned(),
        message_id,
        at: Timestamp::from_millis(dispatch.decided_at),
        subject: email.subject.clone(),
        html: email.html.clone(),
        text: email.text.clone(),
        raw: raw.into(),
    })
}

/// A dispatch as providers know it.
pub(crate) fn dispatch_id(dispatch: &[u8]) -> String {
    format!("dsp_{}", hex::encode(dispatch))
}

fn part<'a>(kind: &'a str, text: &'a str) -> MimePart<'a> {
    MimePart::new(ContentType::new(kind).attribute("charset", "utf-8"), BodyPart::Text(text.into()))
}

/// Name and address of `Shop <hello@news.shop.example>`, or of the bare address.
fn parse(from: &str) -> Option<(Option<&str>, &str)> {
    let from = from.trim();
    let Some((name, rest)) = from.rsplit_once('<') else { return Some((None, from)) };
    let address = rest.strip_suffix('>')?;
    let name = name.trim().trim_matches('"');
    Some(((!name.is_empty()).then_some(name), address.trim()))
}

// A word that needs no quotes in any of these headers.
fn label(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c.to_ascii_lowercase() } else { '-' }).collect()
}

// The human name before a List-Id; left out where it is not plain ASCII.
fn phrase(title: &str) -> String {
    let plain = title.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-'));
    if plain && !title.trim().is_empty() { format!("{} ", title.trim()) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn dispatch(class: &str) -> Dispatch {
        Dispatch {
            dispatch: Bytes::from_static(&[0xab; 16]),
            journey: "cart".to_owned(),
            address: "ann@shop.example".to_owned(),
            class: class.to_owned(),
            topic: "cart-reminders".to_owned(),
            decided_at: 1_767_222_000_123,
            ..Dispatch::default()
        }
    }

    fn email() -> Email {
        Email {
            subject: "Grüße 🙂 your cart".to_owned(),
            preheader: None,
            html: "<p>Hi</p>\n.\n<p>=_abab</p>".to_owned(),
            text: "Hi\n.\n".to_owned(),
        }
    }

    fn around<'a>(dispatch: &'a Dispatch, from: &'a str) -> Around<'a> {
        Around { dispatch, from, workspace: "main", topic_title: "Cart reminders", unsubscribe_url: "https://shop.example/u/abc" }
    }

    fn built(class: &str) -> String {
        let dispatch = dispatch(class);
        let message = build(around(&dispatch, "Shop & Co <hello@news.shop.example>"), &email()).expect("builds");
        assert_eq!(build(around(&dispatch, "Shop & Co <hello@news.shop.example>"), &email()), Ok(message.clone()));
        String::from_utf8(message.raw.to_vec()).expect("ascii")
    }

    #[test]
    fn marketing_mail_can_be_left_with_one_click() {
        let raw = built("marketing");
        for line in [
            "From: \"Shop & Co\" <hello@news.shop.example>\r\n",
            "To: <ann@shop.example>\r\n",
            "Date: Wed, 31 Dec 2025 23:00:00 +0000\r\n",
            "Message-ID: <abababababababababababababababab@news.shop.example>\r\n",
            "List-Unsubscribe: <https://shop.example/u/abc>\r\n",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
            "List-Id: Cart reminders <cart-reminders.news.shop.example>\r\n",
            "Feedback-ID: cart:main:marketing:waypost\r\n",
            "Subject: =?utf-8?",
            "MIME-Version: 1.0\r\n",
        ] {
            assert!(raw.contains(line), "{line}\n{raw}");
        }
        assert!(!raw.contains("Auto-Submitted"), "{raw}");
        assert!(raw.replace("\r\n", "").find(['\r', '\n']).is_none(), "only CRLF");
    }

    #[test]
    fn transactional_mail_says_that_nobody_wrote_it() {
        let raw = built("transactional");
        assert!(raw.contains("Auto-Submitted: auto-generated\r\n") && !raw.contains("List-Unsubscribe"), "{raw}");
    }

    #[test]
    fn nothing_can_begin_a_header_of_its_own() {
        let evil = "x\r\nBcc: eve@shop.example";
        let good = dispatch("marketing");
        let from = "Shop <hello@shop.example>";
        let refused = |around: Around<'_>, email: &Email| build(around, email).err();
        assert!(refused(around(&good, &format!("{evil} <hello@shop.example>")), &email()).is_some());
        assert!(refused(around(&good, "hello"), &email()).is_some());
        assert!(refused(around(&good, from), &Email { subject: evil.to_owned(), ..email() }).is_some());
        assert!(refused(around(&Dispatch { address: format!("ann@shop.example{evil}"), ..good.clone() }, from), &email()).is_some());
        assert!(refused(around(&Dispatch { topic: evil.to_owned(), ..good.clone() }, from), &email()).is_some());
        assert!(refused(around(&Dispatch { journey: evil.to_owned(), ..good.clone() }, from), &email()).is_some());
        assert!(refused(Around { topic_title: evil, ..around(&good, from) }, &email()).is_some());
        assert!(refused(Around { unsubscribe_url: evil, ..around(&good, from) }, &email()).is_some());
        assert!(refused(Around { unsubscribe_url: "https://x.example/> <y", ..around(&good, from) }, &email()).is_some());
    }
}
