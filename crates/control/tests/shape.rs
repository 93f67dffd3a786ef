//! What the API design guide wants of every request (<https://google.aip.dev/158>, <https://google.aip.dev/163>), by the descriptors.

use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};

/// Lists that are short by themselves.
const SHORT: &[(&str, &str)] = &[
    ("ListPartitions", "as many as the installation has: 1,024 at most"),
    ("ListRuns", "of one person, who has a bounded number"),
    ("ListSkips", "each is two people's decision"),
];

/// Methods that change nothing.
const READING: &[&str] = &["Diff", "Explain", "Export", "Get", "List", "Lookup", "Plan", "Tail", "Wait", "WhoAmI"];

/// Changes that cannot be tried.
const UNTRIED: &[(&str, &str)] = &[("CancelOperation", "it is a wish; what is done stays done")];

fn short(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, short)| short)
}

/// Whether a message has a field.
fn has(set: &FileDescriptorSet, message: &str, field: &str) -> bool {
    let messages = set.file.iter().flat_map(|file| &file.message_type);
    messages.filter(|m| m.name() == short(message)).any(|m| m.field.iter().any(|f| f.name() == field))
}

fn methods(set: &FileDescriptorSet) -> Vec<&MethodDescriptorProto> {
    let ours = set.file.iter().filter(|file| file.package() == "waypost.control.v1");
    ours.flat_map(|file| &file.service).flat_map(|service| &service.method).collect()
}

#[test]
fn every_list_has_pages() {
    let set = FileDescriptorSet::decode(waypost_proto::DESCRIPTORS).unwrap();
    let lists = methods(&set).into_iter().filter(|method| method.name().starts_with("List"));
    let paged = |method: &MethodDescriptorProto| {
        has(&set, method.input_type(), "page_size")
            && has(&set, method.input_type(), "page_token")
            && has(&set, method.output_type(), "next_page_token")
    };
    let mut without: Vec<_> = lists.filter(|method| !paged(method)).map(|method| method.name().to_owned()).collect();
    without.sort_unstable();
    assert_eq!(without, SHORT.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}

#[test]
fn every_change_can_be_tried() {
    let set = FileDescriptorSet::decode(waypost_proto::DESCRIPTORS).unwrap();
    let changes = methods(&set).into_iter().filter(|method| !READING.iter().any(|verb| method.name().starts_with(verb)));
    let without = changes.filter(|method| !has(&set, method.input_type(), "validate_only")).map(|method| method.name().to_owned());
    let mut without: Vec<_> = without.collect();
    without.sort_unstable();
    assert_eq!(without, UNTRIED.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}
