//! `docs/api` is what the `.proto` files of the control API say.
//!
//! `WAYPOST_CODEGEN=write cargo test -p waypost-proto` writes it anew.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use std::{collections::BTreeMap, fs, path::Path};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

const PACKAGE: &str = "waypost.control.v1";

// Numbers of fields in descriptor.proto, of which paths to comments are made.
const FILE_MESSAGES: i32 = 4;
const FILE_ENUMS: i32 = 5;
const FILE_SERVICES: i32 = 6;
const MESSAGE_FIELDS: i32 = 2;
const MESSAGE_NESTED: i32 = 3;
const MESSAGE_ENUMS: i32 = 4;
const ENUM_VALUES: i32 = 2;
const SERVICE_METHODS: i32 = 2;

/// One file, and what its comments say of which path.
struct File {
    proto: FileDescriptorProto,
    comments: BTreeMap<Vec<i32>, String>,
}

// === impl File ===

impl File {
    fn new(proto: FileDescriptorProto) -> Self {
        let places = proto.source_code_info.iter().flat_map(|info| &info.location);
        let comments = places.map(|place| (place.path.clone(), joined(place.leading_comments()))).collect();
        Self { proto, comments }
    }

    fn comment(&self, path: &[i32]) -> &str {
        self.comments.get(path).map_or("", String::as_str)
    }

    fn services(&self, page: &mut Vec<String>) {
        for (i, service) in numbered(&self.proto.service) {
            self.service(service, &[FILE_SERVICES, i], page);
        }
    }

    fn service(&self, service: &ServiceDescriptorProto, path: &[i32], page: &mut Vec<String>) {
        page.push(format!("## {}\n\n{}\n\n| method | takes | gives | |\n|---|---|---|---|", service.name(), self.comment(path)));
        for (i, method) in numbered(&service.method) {
            let stream = |streams: bool| if streams { "stream of " } else { "" };
            page.push(format!(
                "| `{}` | {}{} | {}{} | {} |",
                method.name(),
                stream(method.client_streaming()),
                linked(method.input_type()),
                stream(method.server_streaming()),
                linked(method.output_type()),
                self.comment(&[path, &[SERVICE_METHODS, i]].concat()),
            ));
        }
        page.push(String::new());
    }

    fn messages(&self, page: &mut Vec<String>) {
        for (i, message) in numbered(&self.proto.message_type) {
            self.message(message, "", &[FILE_MESSAGES, i], page);
        }
        for (i, one) in numbered(&self.proto.enum_type) {
            self.values(one, "", &[FILE_ENUMS, i], page);
        }
    }

    fn message(&self, message: &DescriptorProto, within: &str, path: &[i32], page: &mut Vec<String>) {
        let name = format!("{within}{}", message.name());
        page.push(format!("### {name}\n"));
        if !self.comment(path).is_empty() {
            page.push(format!("{}\n", self.comment(path)));
        }
        if message.field.is_empty() {
            page.push("Has no fields.\n".to_owned());
        } else {
            page.push("| field | type | |\n|---|---|---|".to_owned());
            for (i, field) in numbered(&message.field) {
                let said = self.comment(&[path, &[MESSAGE_FIELDS, i]].concat()).to_owned();
                page.push(format!("| `{}` | {} | {said} |", field.name(), kind(field)));
            }
            page.push(String::new());
        }
        for (i, nested) in numbered(&message.nested_type) {
            self.message(nested, &format!("{name}."), &[path, &[MESSAGE_NESTED, i]].concat(), page);
        }
        for (i, one) in numbered(&message.enum_type) {
            self.values(one, &format!("{name}."), &[path, &[MESSAGE_ENUMS, i]].concat(), page);
        }
    }

    fn values(&self, one: &EnumDescriptorProto, within: &str, path: &[i32], page: &mut Vec<String>) {
        page.push(format!("### {within}{}\n", one.name()));
        if !self.comment(path).is_empty() {
            page.push(format!("{}\n", self.comment(path)));
        }
        page.push("| value | number | |\n|---|---|---|".to_owned());
        for (i, value) in numbered(&one.value) {
            let said = self.comment(&[path, &[ENUM_VALUES, i]].concat()).to_owned();
            page.push(format!("| `{}` | {} | {said} |", value.name(), value.number()));
        }
        page.push(String::new());
    }
}

fn numbered<T>(items: &[T]) -> impl Iterator<Item = (i32, &T)> {
    (0..).zip(items)
}

/// A comment as one line of a table.
fn joined(comment: &str) -> String {
    comment.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().replace('|', "\\|")
}

fn short(name: &str) -> &str {
    name.trim_start_matches('.').strip_prefix(PACKAGE).map_or(name, |rest| rest.trim_start_matches('.'))
}

fn linked(name: &str) -> String {
    let short = short(name);
    format!("[{short}](#{})", short.to_lowercase().replace('.', ""))
}

fn kind(field: &FieldDescriptorProto) -> String {
    let plain = || field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase();
    let one = if matches!(field.r#type(), Type::Message | Type::Enum) { linked(field.type_name()) } else { plain() };
    if field.label() == Label::Repeated { format!("list of {one}") } else { one }
}

#[test]
fn the_reference_of_the_api_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = root.join("proto").join(PACKAGE.replace('.', "/"));
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut compiler = protox::Compiler::new([root.join("proto")]).unwrap();
    compiler.include_source_info(true).open_files(names).unwrap();
    let files: Vec<_> = compiler.file_descriptor_set().file.into_iter().filter(|file| file.package() == PACKAGE).map(File::new).collect();

    let mut page = vec![format!(
        "# {PACKAGE}\n\nThe control API over gRPC, as the `.proto` files under `proto/` say it; this page is written from them by `make codegen`.\n\
         Who may call what stands in [access.md](../access.md). Times are milliseconds since 1970.\n"
    )];
    for file in &files {
        file.services(&mut page);
    }
    page.push("## Messages\n".to_owned());
    for file in &files {
        file.messages(&mut page);
    }
    let fresh = page.join("\n").trim_end().to_owned() + "\n";

    let target = root.join("docs/api").join(format!("{PACKAGE}.md"));
    if fs::read_to_string(&target).ok().as_deref() == Some(&fresh) {
        return;
    }
    let write = std::env::vars().any(|(name, value)| name == "WAYPOST_CODEGEN" && value == "write");
    assert!(write, "{} is stale; run `make codegen`", target.display());
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::write(&target, fresh).unwrap();
}
