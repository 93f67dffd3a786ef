//! Where the pipeline stands: each partition, or a screen that is drawn again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::ensure;
use serde_json::{Value, json};
use waypost_proto::control::{self as pb, partition_service_client::PartitionServiceClient};

use crate::{
    cli::Output,
    commands::{Done, Session},
    output,
    terminal::Screen,
};

// === impl Session ===

impl Session {
    async fn ask(&self, role: &str, troubled: bool) -> anyhow::Result<pb::ListPartitionsResponse> {
        let request = pb::ListPartitionsRequest { role: role.to_owned(), troubled };
        Ok(PartitionServiceClient::new(self.channel.clone()).list_partitions(request).await?.into_inner())
    }

    /// Each partition, once.
    pub(crate) async fn partitions(&self, role: Option<String>, troubled: bool) -> anyhow::Result<Done> {
        let answer = self.ask(&role.unwrap_or_default(), troubled).await?;
        let json = json!({"at": output::time(answer.at), "partitions": answer.partitions.iter().map(partition).collect::<Vec<_>>()});
        Ok(self.show(
            &json,
            || {
                let rows = answer.partitions.iter().map(|p| {
                    let offsets = [p.committed, p.next, p.end.saturating_sub(p.next)].map(|n| n.to_string());
                    let [committed, next, waiting] = offsets;
                    vec![short(p).to_owned(), state(p).to_owned(), p.owner.clone(), committed, next, waiting, trouble(p)]
                });
                output::table(&["PARTITION", "STATE", "OWNER", "COMMITTED", "NEXT", "FRAMES WAITING", "TROUBLE"], rows)
            },
            || answer.partitions.iter().map(|p| p.name.clone()).collect(),
        ))
    }

    /// A line a role, drawn again every `every`, until somebody ends it; or once.
    ///
    /// # Errors
    /// The first time that the server does not answer; later it is shown instead, and asked again.
    pub(crate) async fn top<S: Screen>(&self, every: Duration, once: bool, open: impl FnOnce() -> S) -> anyhow::Result<Done> {
        let mut before = self.ask("", false).await?;
        if once {
            tokio::time::sleep(every).await;
            let now = self.ask("", false).await?;
            let roles = roles(&before, &now);
            let json = json!({"at": output::time(now.at), "roles": roles.iter().map(RoleLine::json).collect::<Vec<_>>()});
            return Ok(self.show(&json, || screen(&roles, &now), || roles.iter().map(|line| line.role.clone()).collect()));
        }
        ensure!(self.output == Output::Table, "a screen that is drawn again is for people: say --once for another form");
        let mut out = open();
        out.draw("looking …");
        while out.rest(every).await {
            match self.ask("", false).await {
                Ok(now) => {
                    out.draw(&screen(&roles(&before, &now), &now));
                    before = now;
                }
                Err(error) => out.draw(&format!("no answer: {error:#}\n\nasked again every {} s", every.as_secs_f32())),
            }
        }
        Ok(Done::default())
    }
}

#[derive(Default)]
struct RoleLine {
    role: String,
    partitions: usize,
    led: usize,
    halted: usize,
    owners: BTreeSet<String>,
    waiting: u64,
    folded: u64,
    /// Folded in a second.
    rate: u64,
    uncommitted: u64,
    /// Of the slowest, ms.
    behind: i64,
}

// === impl RoleLine ===

impl RoleLine {
    fn add(&mut self, p: &pb::Partition, before: Option<u64>, now: i64) {
        self.partitions += 1;
        self.led += usize::from(p.state() == pb::PartitionState::Leading);
        self.halted += usize::from(p.state() == pb::PartitionState::Halted);
        if !p.owner.is_empty() {
            self.owners.insert(p.owner.clone());
        }
        self.waiting += p.end.saturating_sub(p.next);
        self.uncommitted += p.next.saturating_sub(p.committed);
        self.folded += before.map_or(0, |next| p.next.saturating_sub(next));
        if p.end > p.next {
            self.behind = self.behind.max(now - p.through);
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.role.clone(),
            self.owners.len().to_string(),
            format!("{}/{}", self.led, self.partitions),
            self.halted.to_string(),
            self.rate.to_string(),
            self.waiting.to_string(),
            if self.behind == 0 { "–".to_owned() } else { format!("{}.{} s", self.behind / 1_000, self.behind % 1_000 / 100) },
            self.uncommitted.to_string(),
        ]
    }

    fn json(&self) -> Value {
        json!({"role": self.role, "processes": self.owners.len(), "partitions": self.partitions, "led": self.led, "halted": self.halted,
            "framesPerSecond": self.rate, "waiting": self.waiting, "behindMs": self.behind, "uncommitted": self.uncommitted})
    }
}

/// A line a role of two looks, the later one's figures and what came between.
fn roles(before: &pb::ListPartitionsResponse, now: &pb::ListPartitionsResponse) -> Vec<RoleLine> {
    let folded: BTreeMap<&str, u64> = before.partitions.iter().map(|p| (p.name.as_str(), p.next)).collect();
    let mut lines: Vec<RoleLine> = Vec::new();
    for p in &now.partitions {
        let role = short(p).split('/').next().unwrap_or_default();
        if lines.last().is_none_or(|line| line.role != role) {
            lines.push(RoleLine { role: role.to_owned(), ..RoleLine::default() });
        }
        if let Some(line) = lines.last_mut() {
            line.add(p, folded.get(p.name.as_str()).copied(), now.at);
        }
    }
    let took = u64::try_from((now.at - before.at).max(1)).unwrap_or(1);
    for line in &mut lines {
        line.rate = line.folded * 1_000 / took;
    }
    lines
}

/// What is shown of it.
fn screen(roles: &[RoleLine], now: &pb::ListPartitionsResponse) -> String {
    let head = ["ROLE", "PROCESSES", "LED", "HALTED", "FRAMES/S", "WAITING", "BEHIND", "UNCOMMITTED"];
    let mut paragraphs = vec![output::time(now.at), String::new(), output::table(&head, roles.iter().map(RoleLine::cells))];
    let troubled: Vec<_> = now.partitions.iter().map(|p| (short(p), trouble(p))).filter(|(_, trouble)| !trouble.is_empty()).collect();
    paragraphs.extend(troubled.iter().take(TROUBLES).map(|(name, trouble)| format!("{name}: {trouble}")));
    if troubled.len() > TROUBLES {
        paragraphs.push(format!("… and {} more: waypostctl partitions --troubled", troubled.len() - TROUBLES));
    }
    paragraphs.join("\n")
}

/// Lines of trouble on a screen.
const TROUBLES: usize = 10;

fn short(partition: &pb::Partition) -> &str {
    partition.name.strip_prefix("partitions/").unwrap_or(&partition.name)
}

fn state(partition: &pb::Partition) -> &'static str {
    match partition.state() {
        pb::PartitionState::Unspecified => "unknown",
        pb::PartitionState::Unowned => "unowned",
        pb::PartitionState::Replaying => "replaying",
        pb::PartitionState::Leading => "leading",
        pb::PartitionState::Halted => "halted",
    }
}

/// What is wrong with it; empty: nothing.
fn trouble(partition: &pb::Partition) -> String {
    let mut wrong = Vec::new();
    if partition.state() == pb::PartitionState::Unowned {
        wrong.push("nobody owns it".to_owned());
    }
    if !partition.halted.is_empty() {
        wrong.push(partition.halted.clone());
    }
    if !partition.diverged.is_empty() {
        wrong.push(format!("diverged: {}", partition.diverged.join(", ")));
    }
    if partition.gap_since != 0 {
        wrong.push(format!("a gap since {}", output::time(partition.gap_since)));
    }
    wrong.join("; ")
}

fn partition(p: &pb::Partition) -> Value {
    json!({
        "name": p.name, "state": state(p), "owner": p.owner, "committed": p.committed, "next": p.next, "end": p.end,
        "through": output::time(p.through), "engine": p.engine, "definitions": p.definitions, "trouble": trouble(p),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(at: i64, next: u64, halted: &str) -> pb::ListPartitionsResponse {
        let led = pb::Partition {
            name: "partitions/identity/0".into(),
            state: pb::PartitionState::Leading.into(),
            owner: "a".into(),
            committed: 10,
            next,
            end: next + 5,
            through: at - 1_500,
            ..pb::Partition::default()
        };
        let state = if halted.is_empty() { pb::PartitionState::Unowned } else { pb::PartitionState::Halted };
        let other =
            pb::Partition { name: "partitions/identity/1".into(), state: state.into(), halted: halted.into(), ..pb::Partition::default() };
        pb::ListPartitionsResponse { partitions: vec![led, other], at }
    }

    #[test]
    fn a_screen_says_how_fast_how_far_behind_and_what_is_wrong() {
        let now = answer(12_000, 220, "digest of bucket 3");
        let roles = roles(&answer(10_000, 20, ""), &now);
        let text = screen(&roles, &now);
        let line = text.lines().find(|line| line.contains("identity ")).unwrap();
        let words: Vec<_> = line.split(|c: char| c.is_whitespace() || c == '│' || c == '|').filter(|w| !w.is_empty()).collect();
        assert_eq!(words, ["identity", "1", "1/2", "1", "100", "5", "1.5", "s", "210"], "{text}");
        assert!(text.contains("identity/1: digest of bucket 3"), "{text}");
        assert_eq!((roles[0].json()["framesPerSecond"].as_u64(), roles[0].json()["behindMs"].as_i64()), (Some(100), Some(1_500)));
    }
}
