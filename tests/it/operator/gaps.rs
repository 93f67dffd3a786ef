//! `waypost repair`: a broker comes back without the tail of a log that it had acknowledged. The receiver sees that records
//! are missing and takes none that follow; the source's log, folded again, gives them.

use std::{fs, path::Path};

use serde_json::json;
use waypost_types::{PartitionId, Role};

use super::Site;
use crate::{
    shop::ROLES,
    stack::{self, root, variable},
};

/// Cuts a partition's only segment in front of an offset, as a disk does that had not got further; what the broker knew of
/// the rest goes too. How many bytes went.
fn cut(folder: &Path, offset: u64) -> u64 {
    let file = folder.join("00000000000000000000.log");
    let bytes = fs::read(&file).unwrap();
    // a batch: base offset, length of what follows these two
    let number = |at: usize, size: usize| bytes[at..at + size].iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    let mut at = 0;
    while at + 12 <= bytes.len() && number(at, 8) < offset {
        at += 12 + usize::try_from(number(at + 8, 4)).unwrap();
    }
    fs::write(&file, &bytes[..at]).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ["index", "timeindex", "snapshot"].iter().any(|known| ending == *known)) {
            fs::remove_file(path).unwrap();
        }
    }
    (bytes.len() - at) as u64
}

/// `identity/2 to segmenter/1: …`, as flags.
fn flags(line: &str) -> Option<[String; 6]> {
    let (source, rest) = line.split_once(" to ")?;
    let (role, partition) = source.split_once('/')?;
    let (receiver, _) = rest.split_once(": ")?;
    Some(["--role", role, "--partition", partition, "--channel", receiver].map(str::to_owned))
}

pub(super) fn records_that_a_log_lost_are_put_back_from_the_source(site: &Site<'_>) {
    let shop = site.shop;
    for role in ROLES.iter().filter(|role| **role != "segmenter") {
        shop.start(role);
    }
    shop.wait_for_control();
    shop.wait_for_ingest();
    // they come while the segmenter is away
    let names = ["gap-0", "gap-1", "gap-2", "gap-3"];
    for name in names {
        shop.person(name);
        shop.touch(&json!({"userId": name}), &format!("k-{name}"));
    }
    site.idle(Role::Identity);
    let waiting = |partition: &PartitionId| site.end(*partition) - site.held.off(*partition);
    let lossy = Site::of(Role::Segmenter).max_by_key(waiting).unwrap();
    assert!(waiting(&lossy) > 0, "nothing is on its way");
    let topic = format!("{}wp1.segment-{}", shop.prefix(), lossy.index);
    stack::shut_down("kafka");
    let lost = cut(&root().join(variable("STACK_DIR")).join("kafka/data").join(topic), site.held.off(lossy));
    stack::raise();
    assert!(lost > 0 && waiting(&lossy) == 0, "{lost} bytes");
    shop.start("segmenter");
    // what comes now is behind the gap
    for name in names {
        shop.touch(&json!({"userId": name}), &format!("k-{name}"));
    }
    site.idle(Role::Identity);
    let said = site.ends(&["repair", "--list"], 1);
    let gaps: Vec<[String; 6]> = said.lines().filter_map(flags).filter(|flags| flags[5] == lossy.to_string()).collect();
    assert!(!gaps.is_empty() && said.contains("gaps that stay"), "{said}");
    let stopped: Vec<_> = names.iter().filter(|name| site.entered(&[format!("k-{name}")]) == 0).collect();
    assert!(!stopped.is_empty(), "everybody came through: {said}");

    for gap in &gaps {
        let repair: Vec<&str> = ["repair"].into_iter().chain(gap.iter().map(String::as_str)).chain(["--as", "ana"]).collect();
        let said = site.tell(&repair);
        assert!(said.contains("frames appended to"), "{said}");
        let lines = site.audit(&format!("channels/{}/{}/{}", gap[1], gap[3], gap[5]));
        assert_eq!((lines.len(), lines[0]["act"].as_str(), lines[0]["by"].as_str()), (1, Some("channel.repair"), Some("ana")));
    }
    for name in names {
        let (address, subject) = (format!("{name}@mail.example"), format!("remind k-{name}"));
        shop.mail(&address, &subject);
        let mails = shop.sink.to(&address).into_iter().filter(|mail| mail.header("subject") == subject);
        assert_eq!(mails.count(), 1, "{subject}");
    }
    assert!(site.tell(&["repair", "--list"]).contains("0 gaps that stay"));
    let nothing: Vec<&str> = ["repair"].into_iter().chain(gaps[0].iter().map(String::as_str)).collect();
    assert!(site.tell(&nothing).contains("nothing is missing"));
    site.refused(&["repair", "--role", "identity", "--partition", "0", "--channel", "segmenter"], "as segmenter/3");
    site.refused(&["repair", "--role", "ingest", "--partition", "0", "--channel", "segmenter/0"], "owns no partitions");
    site.refused(&["repair", "--role", "identity", "--partition", "9", "--channel", "segmenter/0"], "partitions are 0 to 3");
    site.refused(&["repair", "--role", "identity", "--partition", "0", "--channel", "segmenter/9"], "partitions are 0 to 3");
    // and what is stored is what the logs give, the repaired one too
    site.idle(Role::Segmenter);
    let said = site.tell(&["refold", "--role", "segmenter", "--partition", &lossy.index.to_string()]);
    assert!(said.contains("the same: "), "{said}");
}
