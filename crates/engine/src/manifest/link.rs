//! Definitions beside each other: references resolved, content checked, a workspace compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waypost_types::{ContentHash, WorkspaceId};

use super::{
    Document, Manifest,
    problem::{Problem, codes, nearest},
    reader::Scopes,
};
use crate::{
    condition::{Program, Scope},
    definitions::{
        Channel, Class, Delay, Fresh, Journey, JourneyVersions, Journeys, Match, Policy, Segment, Send, Standing, StepKind, Template,
        Workspace,
    },
    membership,
    template::{check, uses_postal_address, uses_unsubscribe},
};

/// Segments read segments at most so deep.
const SEGMENT_DEPTH_MAX: usize = 4;

/// A definition that takes part.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) manifest: Manifest,
    pub(crate) version: u32,
    /// Entries use it; of journeys only.
    pub(crate) active: bool,
    /// Whether its runs go on; of journeys only.
    pub(crate) standing: Standing,
    /// Whether its content is new, so that it is checked as at its author's desk.
    pub(crate) fresh: bool,
    /// Of journeys: template, as written, to the body it means.
    pub(crate) templates: BTreeMap<String, ContentHash>,
}

/// A workspace, with what is wrong in which part.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) workspace: Workspace,
    pub(crate) problems: Vec<(usize, Problem)>,
}

/// Compiles `parts` as one workspace. `journeys` names the journeys that exist besides.
pub(crate) fn assemble(id: WorkspaceId, name: &str, parts: &[Part], journeys: &BTreeSet<String>) -> Assembled {
    let mut problems = Vec::new();
    let policy = policy(parts);
    let scopes = scopes(parts, &policy);
    let mut w = Workspace {
        id,
        name: name.to_owned(),
        policy,
        topics: BTreeMap::new(),
        channels: BTreeMap::new(),
        segments: BTreeMap::new(),
        segment_order: Vec::new(),
        templates: BTreeMap::new(),
        journeys: Journeys::default(),
        sources: BTreeMap::new(),
    };
    let mut found: Vec<(usize, Journey)> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let (document, wrong) = part.manifest.read(Some(&scopes));
        problems.extend(wrong.into_iter().map(|p| (index, p)));
        let name = part.manifest.name.clone();
        match document {
            Some(Document::Topic(topic)) => drop(w.topics.insert(name, topic)),
            Some(Document::Channel(channel)) => {
                let secret = channel.secret.map(|secret| secret_file(id, &w.name, secret));
                w.channels.insert(name, Channel { secret, ..channel });
            }
            Some(Document::Source(source)) => drop(w.sources.insert(name, source)),
            Some(Document::Segment(segment)) => drop(w.segments.insert(name, Segment { version: part.version, ..segment })),
            Some(Document::Template(template)) => {
                let template = Template { version: part.version, ..*template };
                if part.fresh {
                    problems.extend(content(&part.manifest, &template).into_iter().map(|p| (index, p)));
                }
                w.templates.insert(part.manifest.hash, Arc::new(template));
            }
            Some(Document::Journey(journey)) => {
                found.push((index, Journey { version: part.version, hash: part.manifest.hash, standing: part.standing, ..*journey }));
            }
            Some(Document::Policy(_)) | None => {}
        }
    }
    default_channels(parts, &w, &mut problems);
    order_segments(parts, &mut w, &mut problems);
    tell_segments_apart(parts, &w, &mut problems);
    let mut known: BTreeSet<String> = journeys.clone();
    known.extend(found.iter().map(|(_, j)| j.name.clone()));
    let mut journeys_by_name: BTreeMap<String, JourneyVersions> = BTreeMap::new();
    for (index, mut journey) in found {
        let mut linker = Linker { part: &parts[index], parts, workspace: &w, journeys: &known, problems: Vec::new() };
        linker.journey(&mut journey);
        problems.extend(linker.problems.into_iter().map(|(i, p)| (i.unwrap_or(index), p)));
        let versions = journeys_by_name.entry(journey.name.clone()).or_default();
        if parts[index].active {
            versions.active = Some(journey.version);
        }
        versions.versions.insert(journey.version, Arc::new(journey));
    }
    w.journeys = Journeys::from(journeys_by_name);
    Assembled { workspace: w, problems }
}

/// Under which name the secret of a workspace's channel lies. The folder is the installation's, and whoever may write definitions
/// of one workspace must not send with the credentials of another. The first one's have the bare names: they are from before
/// there were others.
fn secret_file(id: WorkspaceId, workspace: &str, secret: String) -> String {
    // Names have no dots, so no two of these are the same.
    if id == WorkspaceId::new(1) { secret } else { format!("{workspace}.{secret}") }
}

/// The workspace's policy, or the default one. Its problems are reported where all parts are read.
fn policy(parts: &[Part]) -> Policy {
    parts
        .iter()
        .filter(|p| p.manifest.kind == super::Kind::Policy)
        .filter_map(|p| p.manifest.read(None).0)
        .find_map(|d| if let Document::Policy(policy) = d { Some(policy) } else { None })
        .unwrap_or_default()
}

fn scopes(parts: &[Part], policy: &Policy) -> Scopes {
    let segments: BTreeSet<String> =
        parts.iter().filter(|p| p.manifest.kind == super::Kind::Segment).map(|p| p.manifest.name.clone()).collect();
    Scopes {
        journey: Scope::journey(policy.currency, segments.clone()),
        segment: Scope::segment(policy.currency, segments.clone()),
        template: Scope::template(policy.currency, segments),
        custom: policy.custom_identifiers.clone(),
    }
}

/// One default a type.
fn default_channels(parts: &[Part], w: &Workspace, problems: &mut Vec<(usize, Problem)>) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for channel in w.channels.values().filter(|c| c.default) {
        let Some(first) = seen.insert(&channel.kind, &channel.name) else { continue };
        for (index, part) in parts.iter().enumerate() {
            if part.manifest.kind == super::Kind::Channel && part.manifest.name == channel.name {
                let message = format!("`{first}` is the default for {} already", channel.kind);
                problems.push((index, part.manifest.problem(codes::DUPLICATE_ID, "spec.default", message)));
            }
        }
    }
}

/// Puts each segment behind those it reads.
fn order_segments(parts: &[Part], w: &mut Workspace, problems: &mut Vec<(usize, Problem)>) {
    let mut depths: BTreeMap<String, usize> = BTreeMap::new();
    // Each round settles those whose reads are settled; what a circle holds is never settled.
    for depth in 1..=w.segments.len() {
        let ready: Vec<String> = w
            .segments
            .values()
            .filter(|s| !depths.contains_key(&s.name) && s.condition.reads().segments.iter().all(|n| depths.contains_key(n)))
            .map(|s| s.name.clone())
            .collect();
        if ready.is_empty() {
            break;
        }
        w.segment_order.extend(ready.iter().cloned());
        depths.extend(ready.into_iter().map(|name| (name, depth)));
    }
    for (index, part) in parts.iter().enumerate() {
        let name = &part.manifest.name;
        if part.manifest.kind != super::Kind::Segment || !w.segments.contains_key(name) {
            continue;
        }
        let message = match depths.get(name) {
            None => "segments that read each other in a circle".to_owned(),
            Some(depth) if *depth > SEGMENT_DEPTH_MAX => format!("segments read segments at most {SEGMENT_DEPTH_MAX} deep"),
            Some(_) => continue,
        };
        problems.push((index, part.manifest.problem(codes::LIMIT_EXCEEDED, "spec.where", message)));
    }
}

/// Profiles keep fingerprints of segments: no two may have the same.
fn tell_segments_apart(parts: &[Part], w: &Workspace, problems: &mut Vec<(usize, Problem)>) {
    let mut seen: BTreeMap<u32, &str> = BTreeMap::new();
    for (index, part) in parts.iter().enumerate() {
        let name = &part.manifest.name;
        if part.manifest.kind != super::Kind::Segment || !w.segments.contains_key(name) {
            continue;
        }
        if let Some(other) = seen.insert(membership::fingerprint(name), name).filter(|other| other != name) {
            let message = format!("by chance this name has the same fingerprint as `{other}`: give one of them another");
            problems.push((index, part.manifest.problem(codes::DUPLICATE_ID, "metadata.name", message)));
        }
    }
}

/// What is wrong inside a template, in the file that its author edits.
fn content(manifest: &Manifest, template: &Template) -> Vec<Problem> {
    let mut problems = Vec::new();
    for finding in check(template) {
        let part = finding.message.split([' ', ':']).next().unwrap_or_default();
        let path = match part {
            "subject" | "preheader" | "mjml" | "html" => format!("spec.channels.email.{part}"),
            "action.label" | "action.url" => format!("spec.{part}"),
            _ => "spec".to_owned(),
        };
        let mut problem = manifest.problem(finding.code, &path, finding.message.clone());
        if matches!(part, "mjml" | "html")
            && let Some(file) = &manifest.attachment
        {
            (problem.file, problem.line, problem.column) = (file.clone(), finding.line, 1);
        } else if finding.line > 0 {
            let at = manifest.at_inner(&path, finding.line, 1);
            (problem.line, problem.column) = (at.line, at.column);
        }
        problems.push(problem);
    }
    problems
}

/// Resolves what one journey names.
struct Linker<'a> {
    part: &'a Part,
    parts: &'a [Part],
    workspace: &'a Workspace,
    journeys: &'a BTreeSet<String>,
    /// With the part they lie in; none: the journey's own.
    problems: Vec<(Option<usize>, Problem)>,
}

// === impl Linker ===

impl Linker<'_> {
    fn journey(&mut self, journey: &mut Journey) {
        if let Some(topic) = &journey.topic {
            self.topic(topic, "spec.topic");
        }
        for (i, other) in journey.yields_to.iter().enumerate() {
            if !self.journeys.contains(other) {
                let near = nearest(other, self.journeys.iter().map(String::as_str));
                self.unknown(&format!("spec.yields_to[{i}]"), format!("there is no journey `{other}`"), near);
            }
        }
        for (i, rule) in journey.exit_on.iter().enumerate() {
            self.rule(&rule.on, &format!("spec.exit_on[{i}]"));
        }
        let mut paths = BTreeSet::new();
        for program in programs(journey) {
            paths.extend(program.reads().event.iter().chain(&program.reads().entry).cloned());
        }
        for (i, step) in journey.steps.iter_mut().enumerate() {
            match &mut step.kind {
                StepKind::Send(send) => self.send(send, journey.topic.as_ref(), &format!("spec.steps[{i}].send"), &mut paths),
                StepKind::Wait(wait) => {
                    for (j, arm) in wait.arms.iter().enumerate() {
                        self.rule(&arm.on, &format!("spec.steps[{i}].wait.any[{j}]"));
                    }
                }
                StepKind::Delay(Delay::For { .. } | Delay::Until { .. }) | StepKind::Branch { .. } | StepKind::Exit { .. } => {}
            }
        }
        paths.extend(journey.requires.iter().filter_map(|p| property(p)));
        journey.event_paths = paths.into_iter().collect();
        journey.entry_paths = self.entry_paths(journey);
        let looks_at_states = journey.matches().any(|on| !matches!(on, Match::Event { .. }));
        journey.looks_at_states = looks_at_states;
    }

    /// Paths of `event` and `entry` that a version, its gates or its templates read.
    fn entry_paths(&self, journey: &Journey) -> BTreeSet<String> {
        let mut paths: BTreeSet<String> = journey.event_paths.iter().cloned().collect();
        for step in &journey.steps {
            let StepKind::Send(send) = &step.kind else { continue };
            // Gate 7 reads these.
            paths.extend(["cart_id", "order_id"].map(str::to_owned));
            let Some(template) = self.workspace.templates.get(&send.template) else { continue };
            let named = template.requires.iter().chain(template.optional.keys());
            paths.extend(named.filter_map(|p| p.strip_prefix("entry.")).map(str::to_owned));
            for (_, program) in &template.data {
                paths.extend(program.reads().entry.iter().cloned());
            }
        }
        paths
    }

    fn unknown(&mut self, path: &str, message: String, suggestion: Option<String>) {
        let problem = self.part.manifest.problem(codes::UNKNOWN_REFERENCE, path, message);
        self.problems.push((None, Problem { suggestion, ..problem }));
    }

    fn topic(&mut self, topic: &str, path: &str) {
        if !self.workspace.topics.contains_key(topic) {
            let near = nearest(topic, self.workspace.topics.keys().map(String::as_str));
            self.unknown(path, format!("there is no topic `{topic}`"), near);
        }
    }

    fn rule(&mut self, rule: &Match, path: &str) {
        if let Match::Segment { name, .. } = rule
            && !self.workspace.segments.contains_key(name)
        {
            let near = nearest(name, self.workspace.segments.keys().map(String::as_str));
            self.unknown(&format!("{path}.segment"), format!("there is no segment `{name}`"), near);
        }
    }

    fn send(&mut self, send: &mut Send, topic: Option<&String>, path: &str, paths: &mut BTreeSet<String>) {
        // The journey's own topic has been looked up already.
        if let Some(own) = send.topic.as_ref().filter(|t| Some(*t) != topic) {
            self.topic(own, &format!("{path}.topic"));
        }
        if let Some(channel) = self.channel(&send.channel) {
            (send.channel, send.channel_kind) = (channel.name.clone(), channel.kind.clone());
        } else {
            let near = nearest(&send.channel, self.workspace.channels.keys().map(String::as_str));
            self.unknown(&format!("{path}.channel"), format!("there is no channel `{}`", send.channel), near);
        }
        for fresh in &send.fresh {
            let id = match fresh {
                Fresh::Cart => "cart_id",
                Fresh::Order => "order_id",
            };
            paths.insert(id.to_owned());
        }
        let hash = self.part.templates.get(&send.template_name).copied();
        let Some((hash, template)) = hash.and_then(|h| Some((h, self.workspace.templates.get(&h)?))) else {
            let names: BTreeSet<&str> = self.workspace.templates.values().map(|t| t.name.as_str()).collect();
            let near = nearest(&send.template_name, names);
            self.unknown(&format!("{path}.template"), format!("there is no template `{}`", send.template_name), near);
            return;
        };
        send.template = hash;
        paths.extend(template.requires.iter().chain(template.optional.keys()).filter_map(|p| property(p)));
        for (_, program) in &template.data {
            paths.extend(program.reads().event.iter().chain(&program.reads().entry).cloned());
        }
        self.template(send, &template.clone(), path);
    }

    /// A channel by name, or the default of a type.
    fn channel(&self, name: &str) -> Option<&Channel> {
        let channels = &self.workspace.channels;
        channels.values().find(|c| c.default && c.kind == name).or_else(|| channels.get(name))
    }

    /// What a send asks of its template.
    fn template(&mut self, send: &Send, template: &Template, path: &str) {
        let lacks = |s: &Self, code, message: String| {
            let problem = s.part.manifest.problem(code, &format!("{path}.template"), message);
            (None, problem)
        };
        if template.email.is_none() {
            let problem = lacks(self, codes::TEMPLATE_LACKS_CHANNEL, format!("`{}` has no body for {}", template.name, send.channel_kind));
            self.problems.push(problem);
            return;
        }
        if send.class != Class::Marketing {
            return;
        }
        let at_send = format!("{path}.template");
        if template.action.is_none() {
            let problem = self.in_template(template, codes::ACTION_MISSING, ["spec", &at_send], "a marketing template has an `action`");
            self.problems.push(problem);
        }
        let body = "spec.channels.email";
        if !uses_unsubscribe(template) {
            let message = "marketing mail carries a link to unsubscribe_url()";
            let problem = self.in_template(template, codes::MISSING_UNSUBSCRIBE, [body, &at_send], message);
            self.problems.push(problem);
        }
        if !uses_postal_address(template) || self.workspace.policy.postal_address.is_none() {
            let message = "marketing mail carries postal_address(), which Policy gives as shop.postal_address";
            let problem = self.in_template(template, codes::MISSING_UNSUBSCRIBE, [body, &at_send], message);
            self.problems.push(problem);
        }
    }

    /// A problem in a template's own file where that is at hand; else at the send that names it, because a
    /// stored template is not at fault where only the journey is new.
    fn in_template(&self, template: &Template, code: &'static str, places: [&str; 2], message: &str) -> (Option<usize>, Problem) {
        let message = format!("`{}`: {message}", template.name);
        let [own, send] = places;
        let found = self.parts.iter().enumerate().find(|(_, p)| p.fresh && p.manifest.hash == template.hash);
        match found {
            Some((index, part)) => (Some(index), part.manifest.problem(code, own, message)),
            None => (None, self.part.manifest.problem(code, send, message)),
        }
    }
}

/// The property path of `entry.x` or `event.x`.
fn property(path: &str) -> Option<String> {
    path.strip_prefix("entry.").or_else(|| path.strip_prefix("event.")).map(str::to_owned)
}

/// Every condition of a journey.
fn programs(journey: &Journey) -> Vec<Arc<Program>> {
    let mut all: Vec<Arc<Program>> = Vec::new();
    let rule = |on: &Match, all: &mut Vec<Arc<Program>>| match on {
        Match::Event { filter, .. } => all.extend(filter.clone()),
        Match::When(program) => all.push(program.clone()),
        Match::Segment { .. } => {}
    };
    for entry in &journey.entries {
        all.extend(entry.filter.clone());
        all.extend(entry.key.clone());
    }
    all.extend(journey.guards.iter().map(|g| g.when.clone()));
    for exit in &journey.exit_on {
        rule(&exit.on, &mut all);
    }
    if let Some(goal) = &journey.goal {
        rule(&goal.on, &mut all);
        all.extend(goal.value.clone());
    }
    for step in &journey.steps {
        match &step.kind {
            StepKind::Branch { cases, .. } => all.extend(cases.iter().map(|(when, _)| when.clone())),
            StepKind::Wait(wait) => {
                for arm in &wait.arms {
                    rule(&arm.on, &mut all);
                }
            }
            StepKind::Delay(_) | StepKind::Send(_) | StepKind::Exit { .. } => {}
        }
    }
    all
}
