//! `waypost skip`. No record of this release is known to kill a process, so what is noted of six lives that died at
//! one is written here as they would have left it; all the rest is the product's own.

use bytes::Bytes;
use serde_json::json;
use waypost_codec::{frame::Frame, kind};
use waypost_types::{PartitionId, Role};

use super::Site;

const ROLE: &str = "identity";

/// `--role … --partition … --offset … --index …`
fn place(partition: PartitionId, offset: u64, index: u32) -> [String; 8] {
    let [p, o, i] = [u64::from(partition.index), offset, u64::from(index)].map(|n| n.to_string());
    ["--role".into(), partition.role.to_string(), "--partition".into(), p, "--offset".into(), o, "--index".into(), i]
}

/// `waypost skip propose`.
fn propose<'a>(place: &'a [String; 8], by: &'a str) -> Vec<&'a str> {
    let words = place.iter().map(String::as_str);
    ["skip", "propose"].into_iter().chain(words).chain(["--reason", "kills every process", "--as", by]).collect()
}

/// `waypost skip approve`.
fn approve<'a>(place: &'a [String; 8], by: &'a str) -> Vec<&'a str> {
    ["skip", "approve"].into_iter().chain(place.iter().map(String::as_str)).chain(["--as", by]).collect()
}

/// Whether the frame at an offset is an event's.
fn is_event(site: &Site<'_>, partition: PartitionId, offset: u64) -> bool {
    if site.end(partition) <= offset {
        return false;
    }
    let rows = site.shop.topic("wp1.identity").rows(partition.index, offset);
    let frame = rows.first().and_then(|row| Frame::decode(row.payload.clone()).ok());
    frame.is_some_and(|frame| frame.sections[0].records[0].kind == kind::EVENT)
}

/// Until the role has committed everything, then stops it.
fn stop(site: &Site<'_>) {
    site.idle(Role::Identity);
    assert!(site.shop.stop(ROLE).success());
}

pub(super) fn a_record_that_kills_is_set_aside_by_two_people(site: &Site<'_>) {
    let shop = site.shop;
    stop(site);
    let ends: Vec<u64> = Site::of(Role::Identity).map(|partition| site.end(partition)).collect();
    let carts: Vec<String> = (0..12).map(|number| site.stranger(number)).collect();
    let grown: Vec<PartitionId> = Site::of(Role::Identity).filter(|p| site.end(*p) > ends[p.index as usize]).collect();
    let [bad, broken, ..] = grown[..] else { panic!("all carts in one partition: {grown:?}") };
    let off = ends[bad.index as usize];
    assert_eq!(site.held.off(bad), off);
    // six processes died while they folded the first of them
    site.held.ask(&["SET", &site.held.keys.deaths(bad), &format!("{off} 6 0 a1,a2")]);
    shop.start(ROLE);
    shop.until("the carts of the other partitions", || (site.entered(&carts) > 0).then_some(()));
    let advice = format!("waypost skip propose --role identity --partition {} --offset {off} --index 0 --reason", bad.index);
    shop.until("the halt, with what to do", || shop.log(ROLE).contains(&advice).then_some(()));
    let others: Vec<PartitionId> = Site::of(Role::Identity).filter(|partition| *partition != bad).collect();
    shop.until("the other partitions", || others.iter().all(|other| site.held.off(*other) >= site.end(*other)).then_some(()));
    assert_eq!(site.held.off(bad), off, "it stands where it halted");
    assert!(site.entered(&carts) < carts.len());

    let here = place(bad, off, 0);
    site.refused(&approve(&here, "ben"), "nobody has proposed to skip");
    site.refused(&propose(&place(bad, off + 1, 0), "ana"), &format!("identity/{} stands at offset {off}", bad.index));
    site.refused(&propose(&place(bad, off, 7), "ana"), &format!("the frame at offset {off} has "));
    site.refused(&propose(&place(PartitionId { index: 9, ..bad }, off, 0), "ana"), "partitions are 0 to 3");
    site.refused(&propose(&place(PartitionId { role: Role::Ingest, index: 0 }, 0, 0), "ana"), "owns no partitions");
    let said = site.tell(&propose(&here, "ana"));
    assert!(said.contains("somebody else approves: waypost skip approve --role identity"), "{said}");
    site.refused(&propose(&here, "ben"), "is proposed already, by ana");
    site.refused(&approve(&here, "ana"), "somebody else has to approve it");
    assert!(site.tell(&["skip", "list"]).contains("proposed by ana, waits for approval: kills every process"));
    assert_eq!(site.held.off(bad), off, "one person is not enough");
    site.tell(&approve(&here, "ben"));
    site.refused(&approve(&here, "cid"), "is skipped already, approved by ben");
    assert!(site.tell(&["skip", "list"]).contains("approved by ben"));

    // the process that runs takes it up, and sets aside that one record only
    shop.until("the rest of the partition", || (site.entered(&carts) == carts.len() - 1).then_some(()));
    let letters = shop.tell_json(&["deadletter", "list", "--reason", "SKIPPED", "--source", &format!("identity/{}", bad.index)]);
    assert_eq!(letters["total"], 1, "{letters}");
    let acts = |by: &str, act: &str| json!({"by": by, "act": act});
    let lines = site.audit(&format!("partitions/identity/{}", bad.index));
    let lines: Vec<_> = lines.iter().map(|line| json!({"by": line["by"], "act": line["act"]})).collect();
    assert_eq!(lines, [acts("ana", "skip.propose"), acts("ben", "skip.approve")]);
    // once something can fold it, it is put back
    shop.tell(&["deadletter", "redrive", letters["letters"][0]["id"].as_str().unwrap()]);
    shop.until("the last cart", || (site.entered(&carts) == carts.len()).then_some(()));

    // a frame that cannot be read halts nobody, and is no record to skip
    stop(site);
    let offset = site.end(broken);
    shop.topic("wp1.identity").append(broken.index, Bytes::from_static(b"\xffno frame"));
    site.refused(&propose(&place(broken, offset, 0), "ana"), "it is set aside whole without a skip");
    // what was noted of deaths is forgotten for whoever has more memory
    let (off, p) = (site.held.off(bad), bad.index.to_string());
    site.held.ask(&["SET", &site.held.keys.deaths(bad), &format!("{off} 6 0 a1,a2")]);
    let retry = ["skip", "retry", "--role", ROLE, "--partition", &p, "--as", "ana"];
    assert!(site.tell(&retry).contains(&format!("is folded again from offset {off}")));
    site.refused(&retry, "no life of identity/");
    site.start(ROLE, Role::Identity);
}

pub(super) fn what_is_folded_already_is_not_skipped(site: &Site<'_>) {
    let shop = site.shop;
    // a backup behind which an event comes next, and nothing of the partition's own
    let (partition, offset, from, cart) = (100..110)
        .find_map(|number| {
            let from = format!("before-{number}");
            site.idle(Role::Identity);
            let said = site.tell(&["backup", "--out", &from, "--role", ROLE]);
            let cart = site.stranger(number);
            let mut taken = Site::of(Role::Identity).map(|partition| (partition, taken_at(&said, partition)));
            let (partition, offset) = taken.find(|(p, offset)| is_event(site, *p, *offset))?;
            Some((partition, offset, from, cart))
        })
        .expect("a quiet moment");
    shop.until("the cart", || (site.entered(std::slice::from_ref(&cart)) == 1).then_some(()));
    stop(site);
    let p = partition.index.to_string();
    site.tell(&["restore", "--from", &from, "--role", ROLE, "--partition", &p, "--yes"]);
    site.refused(&propose(&place(partition, offset, 0), "ana"), "somebody has folded this record already");
    site.start(ROLE, Role::Identity);
}

/// The offset that a backup says it has of a partition.
fn taken_at(said: &str, partition: PartitionId) -> u64 {
    let (_, rest) = said.split_once(&format!("{partition}: off ")).unwrap_or_else(|| panic!("no {partition} in {said}"));
    rest.split(',').next().unwrap().parse().unwrap()
}
