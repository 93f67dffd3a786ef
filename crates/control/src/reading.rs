//! `read_mask`: which fields of an answer are given (AIP-157). One way for every message: its descriptor says which paths there are,
//! and what is not asked for is left out of its bytes.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use bytes::Buf as _;
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field},
};
use prost_types::{
    DescriptorProto, FieldMask, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

use crate::status::Refusal;

/// The package of the API.
const PACKAGE: &str = ".waypost.control.v1";
/// Paths of a mask at most.
const PATHS_MAX: usize = 100;

/// Messages of the API by their full names.
static MESSAGES: LazyLock<BTreeMap<String, Arc<DescriptorProto>>> = LazyLock::new(messages);

/// Which fields are given; none: all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReadMask(Option<Fields>);

/// By number of the field; nothing below it: the whole of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fields(BTreeMap<u32, Option<Fields>>);

fn messages() -> BTreeMap<String, Arc<DescriptorProto>> {
    let mut found = BTreeMap::new();
    // Committed beside the code that was made of it.
    let set = FileDescriptorSet::decode(waypost_proto::DESCRIPTORS).unwrap_or_default();
    for file in set.file.into_iter().filter(|file| file.package() == &PACKAGE[1..]) {
        for message in file.message_type {
            add(PACKAGE, message, &mut found);
        }
    }
    found
}

fn add(within: &str, message: DescriptorProto, found: &mut BTreeMap<String, Arc<DescriptorProto>>) {
    let name = format!("{within}.{}", message.name());
    for nested in message.nested_type.clone() {
        add(&name, nested, found);
    }
    found.insert(name, Arc::new(message));
}

// === impl ReadMask ===

impl ReadMask {
    /// Of the fields of a message of the API. No mask, an empty one and `*` mean all.
    ///
    /// # Errors
    /// When a path leads nowhere.
    pub(crate) fn of(message: &str, mask: Option<FieldMask>) -> Result<Self, Refusal> {
        let paths = mask.map(|mask| mask.paths).unwrap_or_default();
        if paths.len() > PATHS_MAX {
            return Err(Refusal::Invalid("INVALID_MASK", format!("read_mask: {PATHS_MAX} paths at most")));
        }
        let mut fields = Fields::default();
        for path in paths.iter().filter(|path| *path != "*") {
            fields
                .add(&format!("{PACKAGE}.{message}"), path)
                .map_err(|why| Refusal::Invalid("INVALID_MASK", format!("read_mask: {why}")))?;
        }
        let is_all = paths.is_empty() || paths.iter().any(|path| path == "*");
        Ok(Self((!is_all).then_some(fields)))
    }

    /// The message with these fields alone.
    pub(crate) fn cut<M: Message + Default>(&self, message: M) -> Result<M, Refusal> {
        let Some(fields) = &self.0 else { return Ok(message) };
        let mut cut = Vec::new();
        // Bytes that were made a moment ago can be read.
        fields.cut(&message.encode_to_vec(), &mut cut).map_err(|_| Refusal::Internal)?;
        M::decode(&*cut).map_err(|_| Refusal::Internal)
    }

    /// Each of several messages so.
    pub(crate) fn cut_all<M: Message + Default>(&self, messages: Vec<M>) -> Result<Vec<M>, Refusal> {
        messages.into_iter().map(|message| self.cut(message)).collect()
    }
}

// === impl Fields ===

impl Fields {
    fn add(&mut self, message: &str, path: &str) -> Result<(), String> {
        let (mut here, mut message, whole) = (self, message.to_owned(), path);
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let descriptor = MESSAGES.get(&message).ok_or_else(|| nothing(whole, None))?;
            let Some(field) = descriptor.field.iter().find(|field| field.name() == name) else {
                return Err(nothing(whole, Some(descriptor)));
            };
            let number = u32::try_from(field.number()).unwrap_or_default();
            if names.peek().is_none() {
                here.0.insert(number, None);
                break;
            }
            if field.label() == Label::Repeated {
                return Err(format!("`{whole}` goes into `{name}`, of which there are several: name it as a whole"));
            }
            if field.r#type() != Type::Message {
                return Err(format!("`{whole}` goes into `{name}`, which has no fields"));
            }
            message = field.type_name().to_owned();
            match here.0.entry(number).or_insert_with(|| Some(Self::default())) {
                Some(further) => here = further,
                // asked for as a whole already
                None => break,
            }
        }
        Ok(())
    }

    /// Copies what is asked for.
    fn cut(&self, mut bytes: &[u8], into: &mut Vec<u8>) -> Result<(), prost::DecodeError> {
        while bytes.has_remaining() {
            let whole = bytes;
            let (number, wire) = decode_key(&mut bytes)?;
            match self.0.get(&number) {
                Some(Some(further)) if wire == WireType::LengthDelimited => {
                    let length = usize::try_from(decode_varint(&mut bytes)?).unwrap_or(usize::MAX);
                    let inner = bytes.get(..length).unwrap_or(bytes);
                    bytes.advance(inner.len());
                    let mut part = Vec::new();
                    further.cut(inner, &mut part)?;
                    encode_key(number, wire, into);
                    encode_varint(part.len() as u64, into);
                    into.extend(part);
                }
                wanted => {
                    skip_field(wire, number, &mut bytes, DecodeContext::default())?;
                    if wanted.is_some() {
                        into.extend_from_slice(&whole[..whole.len() - bytes.len()]);
                    }
                }
            }
        }
        Ok(())
    }
}

fn nothing(path: &str, message: Option<&Arc<DescriptorProto>>) -> String {
    let known: Vec<_> = message.iter().flat_map(|message| &message.field).map(prost_types::FieldDescriptorProto::name).collect();
    format!("there is no `{path}`; there are {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use waypost_proto::control as pb;

    use super::*;

    fn mask(message: &str, paths: &[&str]) -> Result<ReadMask, String> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        ReadMask::of(message, Some(FieldMask { paths })).map_err(|refusal| {
            let Refusal::Invalid("INVALID_MASK", why) = refusal else { panic!("{refusal:?}") };
            why
        })
    }

    fn letter() -> pb::DeadLetter {
        let redrive = |by: &str| pb::Redrive { at: 5, by: by.to_owned(), record: "00".to_owned() };
        pb::DeadLetter {
            id: "3-9".to_owned(),
            reason: "R".to_owned(),
            at: -7,
            redrives: vec![redrive("ana"), redrive("ben")],
            content: "text".to_owned(),
            discard: Some(pb::Discard { at: 6, by: "cid".to_owned(), note: "done".to_owned() }),
            ..pb::DeadLetter::default()
        }
    }

    #[test]
    fn what_is_not_asked_for_is_left_out() {
        let all = letter();
        let cut = |paths: &[&str]| mask("DeadLetter", paths).unwrap().cut(letter()).unwrap();
        for whole in [&[][..], &["*"], &["id", "*"]] {
            assert_eq!(cut(whole), all, "{whole:?}");
        }
        let one = pb::DeadLetter { id: all.id.clone(), at: -7, ..pb::DeadLetter::default() };
        assert_eq!(cut(&["id", "at"]), one);
        assert_eq!(cut(&["redrives"]), pb::DeadLetter { redrives: all.redrives.clone(), ..pb::DeadLetter::default() });
        let note = pb::Discard { note: "done".to_owned(), ..pb::Discard::default() };
        assert_eq!(cut(&["discard.note"]), pb::DeadLetter { discard: Some(note), ..pb::DeadLetter::default() });
        for both in [&["discard.note", "discard"][..], &["discard", "discard.note"]] {
            assert_eq!(cut(both), pb::DeadLetter { discard: all.discard.clone(), ..pb::DeadLetter::default() }, "the whole wins");
        }
        assert_eq!(ReadMask::of("DeadLetter", None).unwrap().cut(letter()).unwrap(), all);
    }

    #[test]
    fn a_path_that_leads_nowhere_is_named() {
        for (path, says) in [
            ("origins", "there is no `origins`; there are id, reason, door, origin,"),
            ("", "there is no ``"),
            ("id.x", "goes into `id`, which has no fields"),
            ("redrives.by", "of which there are several"),
            ("discard.who", "there is no `discard.who`; there are at, by, note"),
            ("discard.", "there is no `discard.`"),
        ] {
            let why = mask("DeadLetter", &[path]).unwrap_err();
            assert!(why.contains(says), "{path}: {why}");
        }
        assert!(mask("DeadLetter", &["*", "wrong"]).is_err(), "beside all others too");
        assert!(mask("DeadLetter", &["id"; PATHS_MAX + 1]).is_err());
    }

    #[test]
    fn every_message_that_is_masked_is_known() {
        for message in ["Definition", "Profile", "RunDetail", "DeadLetter"] {
            assert!(mask(message, &["*"]).is_ok() && MESSAGES.contains_key(&format!("{PACKAGE}.{message}")), "{message}");
        }
    }
}
