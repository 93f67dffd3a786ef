//! What applying, publishing, archiving and deleting make of a set.

use super::*;
use crate::{
    definitions::Standing,
    library::{Shelf, compile},
    manifest::parse_files,
};

const SHOP: WorkspaceId = WorkspaceId::new(1);
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

const FILES: &str = "{apiVersion: waypost.dev/v1, kind: Policy, metadata: {name: shop}, spec: {shop: {postal_address: Street 1}}}
--- {apiVersion: waypost.dev/v1, kind: Topic, metadata: {name: news}, spec: {title: News}}
--- {apiVersion: waypost.dev/v1, kind: Channel, metadata: {name: mail}, spec: {type: email, provider: catcher, from: a@shop.example, default: true}}
--- {apiVersion: waypost.dev/v1, kind: Segment, metadata: {name: buyers}, spec: {where: profile.order_count >= 1}}
---
apiVersion: waypost.dev/v1
kind: Template
metadata: {name: hi}
spec:
  action: {label: Go, url: 'https://shop.example/'}
  channels: {email: {subject: Hello, html: '<p><a href=\"{{ action.url }}\">go</a> {{ postal_address() }} <a href=\"{{ unsubscribe_url() }}\">stop</a></p>'}}
---
apiVersion: waypost.dev/v1
kind: Journey
metadata: {name: hello}
spec:
  title: Hello
  describe: Says hello
  owner: care@shop.example
  topic: news
  max_age: 10d
  exit_on: [{id: bought, segment: buyers}]
  entries: [{id: joined, on_event: {name: Signed Up}}]
  steps: [{id: greet, send: {channel: email, template: hi}}]
";

/// A control plane without IO.
struct Desk {
    set: SetManifest,
    bodies: BTreeMap<ContentHash, Bytes>,
}

impl Desk {
    fn new() -> Self {
        Self { set: SetManifest::empty(SHOP, "shop"), bodies: BTreeMap::new() }
    }

    /// With everything applied and published.
    fn live() -> Self {
        let mut desk = Self::new();
        desk.apply(FILES).unwrap();
        desk.publish(NOW).unwrap();
        desk
    }

    fn take(&mut self, plan: Plan) -> Vec<PlanItem> {
        self.bodies.extend(plan.bodies);
        self.set = plan.next;
        plan.items
    }

    fn apply(&mut self, yaml: &str) -> Result<Vec<PlanItem>, String> {
        let manifests = parse_files(&[("f.yaml".to_owned(), yaml.to_owned())], &|_| None).map_err(shown)?;
        let plan = plan_apply(&self.set, &self.bodies, SHOP, &manifests).map_err(shown)?;
        Ok(self.take(plan))
    }

    fn publish(&mut self, now: Timestamp) -> Result<Vec<PlanItem>, String> {
        let plan = plan_publish(&self.set, &self.bodies, SHOP, "hello", now).map_err(shown)?;
        Ok(self.take(plan))
    }

    fn pause(&mut self) -> Result<Vec<PlanItem>, String> {
        let plan = plan_pause(&self.set, SHOP, "hello").map_err(shown)?;
        Ok(self.take(plan))
    }

    fn resume(&mut self) -> Result<Vec<PlanItem>, String> {
        let plan = plan_resume(&self.set, SHOP, "hello").map_err(shown)?;
        Ok(self.take(plan))
    }

    fn archive(&mut self) -> Result<Vec<PlanItem>, String> {
        let plan = plan_archive(&self.set, SHOP, "hello", NOW).map_err(shown)?;
        Ok(self.take(plan))
    }

    fn kill(&mut self) -> Result<Vec<PlanItem>, String> {
        let plan = plan_kill(&self.set, SHOP, "hello", NOW).map_err(shown)?;
        Ok(self.take(plan))
    }

    /// With a second version in force.
    fn live_twice() -> Self {
        let mut desk = Self::live();
        desk.apply(&edited("title: Hello", "title: Good day")).unwrap();
        desk.publish(NOW).unwrap();
        desk
    }

    /// How the runs of each version that may have some go on, as it is compiled.
    fn standings(&self) -> Vec<(u32, Standing)> {
        let hash = ContentHash::of(&self.set.to_bytes());
        let Shelf::Ready(set) = compile(&self.set, hash, &self.bodies) else { panic!("it compiles") };
        let journeys = &set.workspaces[&SHOP].journeys;
        journeys.get("hello").iter().flat_map(|j| j.versions.values()).map(|v| (v.version, v.standing)).collect()
    }

    fn delete(&mut self, kind: Kind, name: &str) -> Result<Vec<PlanItem>, String> {
        let plan = plan_delete(&self.set, &self.bodies, SHOP, kind, name, NOW).map_err(shown)?;
        Ok(self.take(plan))
    }

    fn prune(&mut self, yaml: &str, now: Timestamp) -> Result<Vec<PlanItem>, String> {
        let manifests = parse_files(&[("f.yaml".to_owned(), yaml.to_owned())], &|_| None).map_err(shown)?;
        let plan = plan_prune(&self.set, &self.bodies, SHOP, &manifests, now).map_err(shown)?;
        Ok(self.take(plan))
    }

    /// `1 ACTIVE, 2 DRAFT`.
    fn states(&self, kind: Kind, name: &str) -> String {
        let all: Vec<String> = self.set.named(SHOP, kind, name).map(|e| format!("{} {}", e.version, e.state.as_str())).collect();
        all.join(", ")
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn shown(problems: Vec<Problem>) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn edited(from: &str, to: &str) -> String {
    assert!(FILES.contains(from), "{from}");
    FILES.replacen(from, to, 1)
}

#[test]
fn journeys_and_templates_become_drafts_and_the_rest_is_in_force() {
    let mut desk = Desk::new();
    let items = desk.apply(FILES).unwrap();
    assert_eq!(items.len(), 6);
    assert!(items.iter().all(|i| i.change == Change::Created && i.version == 1 && i.diff.starts_with("+apiVersion")));
    for (kind, name, state) in [(Kind::Journey, "hello", "1 DRAFT"), (Kind::Template, "hi", "1 DRAFT"), (Kind::Topic, "news", "1 ACTIVE")] {
        assert_eq!(desk.states(kind, name), state);
    }
    let items = desk.publish(NOW).unwrap();
    assert_eq!((items[0].change, items[0].state), (Change::Created, State::Active));
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 ACTIVE");
    assert_eq!(desk.states(Kind::Template, "hi"), "1 ACTIVE");
    assert_eq!(desk.set.number, 2);
}

#[test]
fn unchanged_content_changes_nothing() {
    let mut desk = Desk::live();
    let before = desk.set.clone();
    let items = desk.apply(&format!("# a comment\n{FILES}")).unwrap();
    assert!(items.iter().all(|i| i.change == Change::Unchanged && i.diff.is_empty()), "{items:?}");
    assert_eq!(desk.publish(NOW).unwrap()[0].change, Change::Unchanged);
    assert_eq!(desk.set, before);
}

#[test]
fn versions_count_up_by_content_and_the_diff_shows_it() {
    let mut desk = Desk::live();
    let items = desk.apply(&edited("title: Hello", "title: Good day")).unwrap();
    assert_eq!((items[5].change, items[5].version, items[5].state), (Change::Changed, 2, State::Draft));
    assert!(items[5].diff.contains("-  title: Hello\n+  title: Good day\n"), "{}", items[5].diff);
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 ACTIVE, 2 DRAFT");
    desk.apply(&edited("title: Hello", "title: Good night")).unwrap();
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 ACTIVE, 3 DRAFT");
    desk.publish(NOW).unwrap();
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 PINNED, 3 ACTIVE");
    let items = desk.apply(&edited("title: News", "title: All news")).unwrap();
    assert_eq!((items[1].version, items[1].state), (2, State::Active));
}

#[test]
fn a_draft_that_goes_back_to_what_is_in_force_falls() {
    let mut desk = Desk::live();
    desk.apply(&edited("title: Hello", "title: Good day")).unwrap();
    let items = desk.apply(FILES).unwrap();
    assert_eq!((items[5].change, items[5].state), (Change::Changed, State::Active));
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 ACTIVE");
}

#[test]
fn a_new_template_makes_a_new_version_and_the_old_one_keeps_its_own() {
    let mut desk = Desk::live();
    desk.apply(&edited("subject: Hello", "subject: Good day")).unwrap();
    assert_eq!(desk.states(Kind::Template, "hi"), "1 ACTIVE, 2 DRAFT");
    desk.publish(NOW).unwrap();
    assert_eq!(desk.states(Kind::Template, "hi"), "1 PINNED, 2 ACTIVE");
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 PINNED, 2 ACTIVE");
    let hashes: BTreeSet<&String> = desk.set.of_kind(SHOP, Kind::Journey).flat_map(|e| e.templates.values()).collect();
    assert_eq!(hashes.len(), 2);
}

#[test]
fn a_journey_has_eight_versions_until_runs_are_over() {
    let mut desk = Desk::live();
    for n in 2..=8 {
        desk.apply(&edited("title: Hello", &format!("title: Hello {n}"))).unwrap();
        desk.publish(NOW).unwrap();
    }
    desk.apply(&edited("title: Hello", "title: Hello 9")).unwrap();
    let refused = desk.publish(NOW.plus(Span::from_days(10))).unwrap_err();
    assert!(refused.contains("LIMIT_EXCEEDED"), "{refused}");
    desk.publish(NOW.plus(Span::from_days(11))).unwrap();
    assert!(desk.states(Kind::Journey, "hello").ends_with("7 ARCHIVED, 8 PINNED, 9 ACTIVE"), "{}", desk.states(Kind::Journey, "hello"));
}

#[test]
fn an_archived_journey_takes_no_entries_and_can_come_back() {
    let mut desk = Desk::live();
    let plan = plan_archive(&desk.set, SHOP, "hello", NOW).unwrap();
    assert_eq!(plan.items[0].state, State::Archived);
    desk.take(plan);
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 PINNED");
    assert_eq!(desk.set.state(SHOP, Kind::Journey, "hello"), Some(State::Archived));
    let again = plan_archive(&desk.set, SHOP, "hello", NOW).unwrap();
    assert_eq!((again.items[0].change, again.is_change(&desk.set)), (Change::Unchanged, false));
    assert!(desk.publish(NOW).unwrap_err().contains("apply it first"));
    desk.apply(FILES).unwrap();
    desk.publish(NOW).unwrap();
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 PINNED, 2 ACTIVE");
}

#[test]
fn what_a_live_journey_reads_stays() {
    let mut desk = Desk::live();
    for (kind, name) in
        [(Kind::Topic, "news"), (Kind::Channel, "mail"), (Kind::Segment, "buyers"), (Kind::Template, "hi"), (Kind::Journey, "hello")]
    {
        let refused = desk.delete(kind, name).unwrap_err();
        assert!(refused.contains("IN_USE"), "{kind} {name}: {refused}");
    }
    let refused = desk.apply(&FILES.lines().next().unwrap().replace("Street 1", "~")).unwrap_err();
    assert!(refused.starts_with("f.yaml:1:61: IN_USE metadata.name: Journey/hello@1 reads it"), "{refused}");
    let refused = desk.apply(&FILES.lines().nth(2).unwrap()[4..].replace("default: true", "default: false")).unwrap_err();
    assert!(refused.contains("IN_USE"), "{refused}");
}

#[test]
fn a_custom_identifier_that_a_source_may_assert_stays_declared() {
    let mut desk = Desk::live();
    let policy = |names: &str| FILES.lines().next().unwrap().replace("spec: {", &format!("spec: {{custom_identifiers: [{names}], "));
    let source =
        "{apiVersion: waypost.dev/v1, kind: Source, metadata: {name: crm}, spec: {kind: server, may_assert: [email, 'custom:crm']}}";
    let refused = desk.apply(source).unwrap_err();
    assert!(refused.starts_with("f.yaml:1:") && refused.contains("UNKNOWN_REFERENCE spec.may_assert[1]"), "{refused}");
    desk.apply(&format!("{}\n--- {source}", policy("crm, loyalty_card"))).unwrap();
    let refused = desk.apply(&policy("loyalty_card")).unwrap_err();
    assert!(refused.starts_with("f.yaml:1:61: IN_USE metadata.name: Source/crm@1 reads it"), "{refused}");
    assert!(refused.contains("`custom:crm`"), "{refused}");
    desk.apply(&policy("crm")).unwrap();
    assert!(desk.delete(Kind::Policy, "shop").unwrap_err().contains("IN_USE"));
    desk.delete(Kind::Source, "crm").unwrap();
    desk.apply(&policy("")).unwrap();
}

#[test]
fn a_draft_may_be_deleted() {
    let mut desk = Desk::new();
    desk.apply(FILES).unwrap();
    desk.delete(Kind::Journey, "hello").unwrap();
    desk.delete(Kind::Topic, "news").unwrap();
    assert_eq!(desk.states(Kind::Topic, "news"), "");
    assert!(desk.delete(Kind::Topic, "news").unwrap_err().contains("UNKNOWN_REFERENCE"));
}

#[test]
fn a_workspace_has_one_policy() {
    let mut desk = Desk::live();
    let refused = desk.apply("{apiVersion: waypost.dev/v1, kind: Policy, metadata: {name: other}, spec: {}}").unwrap_err();
    assert!(refused.contains("DUPLICATE_ID") && refused.contains("`shop`"), "{refused}");
}

#[test]
fn sets_come_back_from_their_bytes_and_etags_follow_content() {
    let mut desk = Desk::live();
    assert_eq!(SetManifest::from_bytes(&desk.set.to_bytes()), Some(desk.set.clone()));
    let etag = |d: &Desk, kind, name| d.set.shown(SHOP, kind, name).unwrap().etag.clone();
    let (topic, journey) = (etag(&desk, Kind::Topic, "news"), etag(&desk, Kind::Journey, "hello"));
    desk.apply(&edited("title: News", "title: All news")).unwrap();
    assert_ne!(etag(&desk, Kind::Topic, "news"), topic);
    assert_eq!(etag(&desk, Kind::Journey, "hello"), journey);
}

/// Every document but the journey's, and the templates' if those are to go too.
fn without_journey() -> String {
    FILES.split("---\napiVersion: waypost.dev/v1\nkind: Journey").next().unwrap().to_owned()
}

const OTHER: &str = "---
apiVersion: waypost.dev/v1
kind: Journey
metadata: {name: other}
spec:
  title: Other
  describe: Says nothing yet
  owner: care@shop.example
  topic: news
  entries: [{id: joined, on_event: {name: Signed Up}}]
  steps: [{id: greet, send: {channel: email, template: hi}}]
";

#[test]
fn pruning_takes_what_is_not_given_of_the_kinds_that_are() {
    let mut desk = Desk::live();
    let more = "{apiVersion: waypost.dev/v1, kind: Segment, metadata: {name: idle}, spec: {where: profile.order_count == 0}}
--- {apiVersion: waypost.dev/v1, kind: Topic, metadata: {name: spare}, spec: {title: Spare}}
";
    desk.apply(more).unwrap();
    desk.apply(&OTHER[4..]).unwrap();
    // a kind of which nothing is given is not touched
    let (segments, rest) = (FILES.lines().nth(3).unwrap(), |kind| desk.set.of_kind(SHOP, kind).count());
    let (topics, journeys) = (rest(Kind::Topic), rest(Kind::Journey));
    let items = desk.prune(&segments[4..], NOW).unwrap();
    let told: Vec<_> = items.iter().map(|i| (i.name.as_str(), i.change)).collect();
    assert_eq!(told, [("buyers", Change::Unchanged), ("idle", Change::Deleted)]);
    assert!(items[1].diff.starts_with("-apiVersion"), "{}", items[1].diff);
    assert_eq!((desk.set.of_kind(SHOP, Kind::Topic).count(), desk.set.of_kind(SHOP, Kind::Journey).count()), (topics, journeys));
    // the whole folder: a draft and a topic fall in one change
    let before = desk.set.number;
    let items = desk.prune(FILES, NOW).unwrap();
    let gone: Vec<_> = items.iter().filter(|i| i.change == Change::Deleted).map(|i| i.name.as_str()).collect();
    assert_eq!((gone, desk.set.number), (vec!["other", "spare"], before + 1));
    let again = desk.prune(FILES, NOW).unwrap();
    assert!(again.iter().all(|i| i.change == Change::Unchanged), "{again:?}");
    assert_eq!(desk.set.number, before + 1);
}

#[test]
fn pruning_ends_no_live_journey_and_breaks_no_run() {
    let mut desk = Desk::live();
    let before = desk.set.clone();
    let refused = desk.prune(&format!("{}{OTHER}", without_journey()), NOW).unwrap_err();
    assert!(refused.contains("IN_USE") && refused.contains("Journey/hello") && refused.contains("archive it first"), "{refused}");
    assert_eq!(desk.set, before, "nothing was applied either");
    desk.archive().unwrap();
    // its runs go on: it stays, and with it the segment that they read
    let folder = format!("{}{OTHER}", without_journey()).replace("name: buyers", "name: payers");
    let items = desk.prune(&folder, NOW).unwrap();
    let kept: Vec<_> = items.iter().filter(|i| i.change == Change::Kept).map(|i| (i.name.as_str(), i.because.as_str())).collect();
    assert_eq!(kept, [("hello", "its runs may not be over"), ("buyers", "Journey/hello@1 reads it")]);
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 PINNED");
    // eleven days on they are over: both fall
    let items = desk.prune(&folder, NOW.plus(Span::from_days(11))).unwrap();
    let gone: Vec<_> = items.iter().filter(|i| i.change == Change::Deleted).map(|i| i.name.as_str()).collect();
    assert_eq!(gone, ["hello", "buyers"]);
    assert_eq!(desk.states(Kind::Journey, "hello"), "");
}

#[test]
fn pruning_keeps_what_is_read_by_what_is_given() {
    let mut desk = Desk::live();
    let spare = "{apiVersion: waypost.dev/v1, kind: Segment, metadata: {name: idle}, spec: {where: profile.order_count == 0}}\n";
    let folder = format!("{spare}---{}", FILES.split("name: buyers").nth(1).unwrap().split_once("---").unwrap().1);
    let items = desk.prune(&folder, NOW).unwrap();
    let kept: Vec<_> = items.iter().filter(|i| i.change == Change::Kept).map(|i| i.name.as_str()).collect();
    assert_eq!(kept, ["buyers"], "{items:?}");
    assert!(items.iter().find(|i| i.name == "buyers").unwrap().because.ends_with("reads it"));
}

#[test]
fn an_archived_journey_is_deleted_when_its_runs_are_over() {
    let mut desk = Desk::live();
    desk.archive().unwrap();
    assert!(desk.delete(Kind::Journey, "hello").unwrap_err().contains("its runs are not over"));
    let plan = plan_delete(&desk.set, &desk.bodies, SHOP, Kind::Journey, "hello", NOW.plus(Span::from_days(11))).unwrap();
    assert_eq!(plan.items[0].change, Change::Deleted);
    desk.take(plan);
    desk.delete(Kind::Template, "hi").unwrap();
}

/// `Journey/hello 1 ACTIVE > 2 DRAFT` for each that differs.
fn told(before: &SetManifest, after: &SetManifest) -> Vec<String> {
    let one = |e: Option<DefinitionEntry>| e.map_or_else(|| "-".to_owned(), |e| format!("{} {}", e.version, e.state.as_str()));
    revised(before, after, SHOP).into_iter().map(|r| format!("{}/{} {} > {}", r.kind, r.name, one(r.before), one(r.after))).collect()
}

#[test]
fn a_revision_says_what_a_set_made_of_each_definition() {
    let mut desk = Desk::new();
    let mut last = desk.set.clone();
    let mut since = |desk: &Desk| {
        let said = told(&last, &desk.set);
        last = desk.set.clone();
        said
    };
    desk.apply(FILES).unwrap();
    assert_eq!(since(&desk).len(), 6);
    desk.publish(NOW).unwrap();
    assert_eq!(since(&desk), ["Template/hi 1 DRAFT > 1 ACTIVE", "Journey/hello 1 DRAFT > 1 ACTIVE"]);
    desk.apply(&edited("title: Hello", "title: Good day")).unwrap();
    assert_eq!(since(&desk), ["Journey/hello 1 ACTIVE > 2 DRAFT"]);
    desk.apply(FILES).unwrap();
    assert_eq!(since(&desk), ["Journey/hello 2 DRAFT > 1 ACTIVE"], "the draft fell");
    desk.apply(&edited("subject: Hello", "subject: Good day")).unwrap();
    since(&desk);
    desk.publish(NOW).unwrap();
    assert_eq!(since(&desk), ["Template/hi 1 ACTIVE > 2 ACTIVE", "Journey/hello 1 ACTIVE > 2 ACTIVE"]);
    desk.archive().unwrap();
    assert_eq!(since(&desk), ["Journey/hello 2 ACTIVE > 2 PINNED"]);
    desk.apply(OTHER.trim_start_matches('-')).unwrap();
    since(&desk);
    desk.delete(Kind::Journey, "other").unwrap();
    assert_eq!(since(&desk), ["Journey/other 1 DRAFT > -"]);
    assert_eq!(since(&desk), [""; 0]);
}

impl Desk {
    fn entry(&self, kind: Kind, name: &str, version: u32) -> DefinitionEntry {
        self.set.named(SHOP, kind, name).find(|e| e.version == version).unwrap().clone()
    }

    fn roll_back(&mut self, from: &DefinitionEntry, now: Timestamp) -> Result<Vec<PlanItem>, String> {
        let plan = plan_rollback(&self.set, &self.bodies, SHOP, from, now).map_err(shown)?;
        Ok(self.take(plan))
    }
}

#[test]
fn a_journey_goes_back_as_a_new_version_with_the_templates_it_had() {
    let mut desk = Desk::live();
    let first = desk.entry(Kind::Journey, "hello", 1);
    assert_eq!(desk.roll_back(&first, NOW).unwrap()[0].change, Change::Unchanged);
    desk.apply(&edited("subject: Hello", "subject: Good day").replace("title: Hello\n", "title: Good day\n")).unwrap();
    desk.publish(NOW).unwrap();
    // somebody has begun with the next one
    desk.apply(&edited("title: Hello\n", "title: Good night\n")).unwrap();
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 PINNED, 2 ACTIVE, 3 DRAFT");
    let draft = desk.entry(Kind::Journey, "hello", 3).hash;
    let items = desk.roll_back(&first, NOW).unwrap();
    assert_eq!((items[0].version, items[0].state, items[0].change), (4, State::Active, Change::Changed));
    assert!(items[0].diff.contains("-  title: Good day\n+  title: Hello\n"), "{}", items[0].diff);
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 PINNED, 2 PINNED, 4 ACTIVE, 5 DRAFT");
    let now = desk.entry(Kind::Journey, "hello", 4);
    assert_eq!((now.hash, &now.templates), (first.hash, &first.templates), "the mail is that of then, too");
    assert_eq!(desk.entry(Kind::Journey, "hello", 5).hash, draft);
    desk.publish(NOW).unwrap();
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 PINNED, 2 PINNED, 4 PINNED, 5 ACTIVE");
}

#[test]
fn going_back_is_checked_as_a_publish_is() {
    let mut desk = Desk::live();
    let first = desk.entry(Kind::Journey, "hello", 1);
    desk.apply(&edited("  exit_on: [{id: bought, segment: buyers}]\n", "")).unwrap();
    desk.publish(NOW).unwrap();
    let later = NOW.plus(Span::from_days(30));
    // its runs are over, and the segment it read is gone
    let plan = plan_archive(&desk.set, SHOP, "hello", NOW).unwrap();
    desk.take(plan);
    desk.apply(OTHER.trim_start_matches('-')).unwrap();
    let mut next = desk.set.clone();
    retire(&mut next, &desk.bodies, SHOP, "hello", later);
    desk.set = next;
    desk.delete(Kind::Segment, "buyers").unwrap();
    let refused = desk.roll_back(&first, later).unwrap_err();
    assert!(refused.contains("UNKNOWN_REFERENCE") && refused.contains("buyers"), "{refused}");
    // and of a template that is gone it says so
    desk.delete(Kind::Journey, "other").unwrap();
    desk.delete(Kind::Template, "hi").unwrap();
    let refused = desk.roll_back(&first, later).unwrap_err();
    assert!(refused.contains("template `hi` that was deleted"), "{refused}");
}

#[test]
fn of_other_kinds_the_body_is_applied_again() {
    let mut desk = Desk::live();
    let (topic, template) = (desk.entry(Kind::Topic, "news", 1), desk.entry(Kind::Template, "hi", 1));
    desk.apply(&edited("title: News", "title: All news").replace("subject: Hello", "subject: Good day")).unwrap();
    desk.publish(NOW).unwrap();
    let items = desk.roll_back(&topic, NOW).unwrap();
    assert_eq!((items[0].version, items[0].state), (3, State::Active));
    assert_eq!(desk.entry(Kind::Topic, "news", 3).hash, topic.hash);
    let items = desk.roll_back(&template, NOW).unwrap();
    assert_eq!((items[0].version, items[0].state), (3, State::Draft));
}

#[test]
fn an_outlook_says_what_a_publish_would_do() {
    let mut desk = Desk::live();
    let look = |desk: &Desk| outlook(&desk.set, &desk.bodies, SHOP, "hello", NOW).map_err(shown);
    let nothing = look(&desk).unwrap();
    assert_eq!((nothing.journey.change, nothing.active, nothing.templates, nothing.pinned), (Change::Unchanged, Some(1), vec![], vec![]));
    desk.apply(&edited("subject: Hello", "subject: Good day").replace("title: Hello\n", "title: Good day\n")).unwrap();
    let before = desk.set.clone();
    let seen = look(&desk).unwrap();
    assert!(seen.journey.diff.contains("+  title: Good day"), "{}", seen.journey.diff);
    assert_eq!((seen.journey.version, seen.journey.change, seen.active), (2, Change::Changed, Some(1)));
    assert_eq!((seen.templates.len(), seen.templates[0].version), (1, 2));
    assert!(seen.templates[0].diff.contains("Good day"), "{}", seen.templates[0].diff);
    assert_eq!(seen.pinned, [(1, NOW.plus(Span::from_days(11)))]);
    assert_eq!(desk.set, before);
    desk.archive().unwrap();
    desk.publish(NOW).unwrap();
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 PINNED, 2 ACTIVE");
}

#[test]
fn a_paused_journey_is_paused_in_all_its_versions_until_it_is_resumed() {
    let mut desk = Desk::live_twice();
    let before = desk.set.clone();
    let etag = |desk: &Desk| desk.set.shown(SHOP, Kind::Journey, "hello").unwrap().etag.clone();
    let active = etag(&desk);
    let items = desk.pause().unwrap();
    assert_eq!((items[0].change, items[0].state, items[0].version), (Change::Changed, State::Paused, 2));
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 PINNED, 2 PAUSED");
    assert_eq!(desk.set.state(SHOP, Kind::Journey, "hello"), Some(State::Paused));
    assert_eq!(desk.standings(), [(1, Standing::Paused), (2, Standing::Paused)]);
    assert_ne!(etag(&desk), active);
    assert_eq!(SetManifest::from_bytes(&desk.set.to_bytes()), Some(desk.set.clone()));

    assert_eq!(desk.pause().unwrap()[0].change, Change::Unchanged);
    assert_eq!(desk.set.number, before.number + 1);
    let refused = desk.archive().unwrap_err();
    assert!(refused.contains("STATE_CONFLICT") && refused.contains("resume it first, or kill it"), "{refused}");
    assert!(desk.delete(Kind::Journey, "hello").unwrap_err().contains("IN_USE"));
    assert!(desk.delete(Kind::Template, "hi").unwrap_err().contains("IN_USE"));

    assert_eq!(desk.resume().unwrap()[0].state, State::Active);
    assert_eq!((&desk.set.definitions, desk.set.number), (&before.definitions, before.number + 2), "as if nothing had been");
    assert_eq!(desk.resume().unwrap()[0].change, Change::Unchanged);
    assert_eq!(desk.standings(), [(1, Standing::Running), (2, Standing::Running)]);
}

#[test]
fn what_is_published_of_a_paused_journey_is_paused() {
    let mut desk = Desk::live();
    desk.pause().unwrap();
    assert_eq!(desk.apply(FILES).unwrap()[5].change, Change::Unchanged, "what is paused is in force");
    desk.apply(&edited("title: Hello", "title: Good day")).unwrap();
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 PAUSED, 2 DRAFT");
    assert_eq!(desk.publish(NOW).unwrap()[0].state, State::Paused);
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 PINNED, 2 PAUSED");
    desk.resume().unwrap();
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 PINNED, 2 ACTIVE");
}

#[test]
fn a_killed_journey_lives_anew_for_new_entries_alone() {
    let mut desk = Desk::live_twice();
    desk.pause().unwrap();
    let items = desk.kill().unwrap();
    assert_eq!((items[0].change, items[0].state), (Change::Changed, State::Killed));
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 KILLED, 2 KILLED");
    assert_eq!(desk.set.state(SHOP, Kind::Journey, "hello"), Some(State::Killed));
    assert_eq!(desk.kill().unwrap()[0].change, Change::Unchanged);
    for refused in [desk.pause(), desk.resume()] {
        assert!(refused.unwrap_err().contains("STATE_CONFLICT"));
    }
    desk.apply(FILES).unwrap();
    desk.publish(NOW).unwrap();
    assert_eq!(desk.standings(), [(1, Standing::Killed), (2, Standing::Killed), (3, Standing::Running)]);
    desk.pause().unwrap();
    assert_eq!(desk.standings(), [(1, Standing::Killed), (2, Standing::Killed), (3, Standing::Paused)]);

    // As with any version, nothing of it is kept when its last possible run is over.
    desk.apply(&edited("title: Hello", "title: Good night")).unwrap();
    desk.publish(NOW.plus(Span::from_days(11))).unwrap();
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 ARCHIVED, 2 ARCHIVED, 3 PINNED, 4 PAUSED");
}

#[test]
fn what_is_not_in_force_is_neither_paused_nor_resumed() {
    let mut desk = Desk::new();
    assert!(desk.pause().unwrap_err().contains("UNKNOWN_REFERENCE"));
    assert!(desk.kill().unwrap_err().contains("UNKNOWN_REFERENCE"));
    desk.apply(FILES).unwrap();
    for refused in [desk.pause(), desk.resume(), desk.kill()] {
        assert!(refused.unwrap_err().contains("STATE_CONFLICT"));
    }
    desk.publish(NOW).unwrap();
    desk.archive().unwrap();
    for refused in [desk.pause(), desk.resume()] {
        let refused = refused.unwrap_err();
        assert!(refused.contains("STATE_CONFLICT") && refused.contains("archived"), "{refused}");
    }
    assert_eq!(desk.kill().unwrap()[0].state, State::Killed, "its runs need not finish");
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 KILLED");
    assert_eq!(desk.archive().unwrap()[0].change, Change::Unchanged);
}

#[test]
fn a_paused_journey_that_goes_back_stays_paused_and_is_not_pruned() {
    let mut desk = Desk::live_twice();
    desk.pause().unwrap();
    let first = desk.entry(Kind::Journey, "hello", 1);
    desk.roll_back(&first, NOW).unwrap();
    assert_eq!(desk.states(Kind::Journey, "hello"), "1 PINNED, 2 PINNED, 3 PAUSED");
    let refused = desk.prune(&format!("{}{OTHER}", without_journey()), NOW).unwrap_err();
    assert!(refused.contains("IN_USE"), "{refused}");
    desk.kill().unwrap();
    let items = desk.prune(&format!("{}{OTHER}", without_journey()), NOW).unwrap();
    let hello = items.iter().find(|item| item.name == "hello").unwrap();
    assert_eq!(hello.change, Change::Kept, "its runs may not have come to their end: {hello:?}");
}
