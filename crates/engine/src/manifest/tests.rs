//! Each way in which a manifest is refused, with its place. `¦` marks where the problem must be reported.

use waypost_types::WorkspaceId;

use super::*;
use crate::apply::{SetManifest, plan_apply};

const SHOP: WorkspaceId = WorkspaceId::new(1);

const JOURNEY: &str = "apiVersion: waypost.dev/v1
kind: Journey
metadata: {name: hello}
spec:
  title: Hello
  describe: Says hello
  owner: care@shop.example
  topic: news
  entries:
    - {id: joined, on_event: {name: Signed Up}}
  exit_on:
    - {id: ordered, event: Order Completed}
  goal: {event: Order Completed}
  guards: [{id: quiet, when: '!in_segment(\"buyers\")'}]
  steps:
    - {id: pause, delay: {for: 1h}}
    - {id: look, wait: {any: [{id: seen, event: Product Viewed, then: greet}], timeout: {for: 1d}, on_timeout: pick}}
    - {id: pick, branch: {cases: [{when: profile.order_count >= 1, then: end}], else: greet}}
    - {id: greet, send: {channel: email, template: hello}}
    - {id: gone, exit: {reason: DONE}}
";

const OTHERS: &str = "apiVersion: waypost.dev/v1
kind: Policy
metadata: {name: shop}
spec: {currency: EUR, timezone: Europe/Berlin, shop: {postal_address: Street 1}}
---
apiVersion: waypost.dev/v1
kind: Topic
metadata: {name: news}
spec: {title: News, defaults: {email: opt_in}}
---
apiVersion: waypost.dev/v1
kind: Channel
metadata: {name: mail}
spec: {type: email, provider: catcher, from: Shop <hello@news.shop.example>, default: true}
---
apiVersion: waypost.dev/v1
kind: Source
metadata: {name: web}
spec: {kind: browser}
---
apiVersion: waypost.dev/v1
kind: Segment
metadata: {name: buyers}
spec: {where: profile.order_count >= 1}
---
apiVersion: waypost.dev/v1
kind: Template
metadata: {name: hello}
spec:
  optional: {profile.first_name: there}
  action: {label: Go, url: 'https://shop.example/'}
  channels: {email: {subject: 'Hello {{ profile.first_name }}', mjml: hello.mjml}}
";

const MAIL: &str = "<mjml><mj-body><mj-section><mj-column>
<mj-text>{{ profile.first_name }} <a href=\"{{ action.url }}\">{{ action.label }}</a></mj-text>
<mj-text>{{ postal_address() }} <a href=\"{{ unsubscribe_url() }}\">stop</a></mj-text>
</mj-column></mj-section></mj-body></mjml>
";

/// Parses and plans; the problems of the one or the other.
fn problems(journey: &str, others: &str, mail: &str) -> Vec<Problem> {
    let files = [("shop/journey.yaml".to_owned(), journey.to_owned()), ("shop/others.yaml".to_owned(), others.to_owned())];
    let attachments = |path: &str| (path == "shop/hello.mjml").then(|| mail.to_owned());
    let bodies: BTreeMap<ContentHash, Bytes> = BTreeMap::new();
    match parse_files(&files, &attachments) {
        Ok(manifests) => plan_apply(&SetManifest::empty(SHOP, "shop"), &bodies, SHOP, &manifests).err().unwrap_or_default(),
        Err(problems) => problems,
    }
}

fn mark(text: &str) -> Option<(u32, u32)> {
    let (line, text) = text.lines().enumerate().find(|(_, l)| l.contains('¦'))?;
    let column = text.chars().take_while(|c| *c != '¦').count();
    Some((u32::try_from(line).ok()? + 1, u32::try_from(column).ok()? + 1))
}

/// Replaces `from` by `to` in the one of the three texts that has it, and looks for `code` at the mark.
fn check(code: &str, from: &str, to: &str) {
    let mut texts = [JOURNEY, OTHERS, MAIL].map(str::to_owned);
    let index = texts.iter().position(|t| t.contains(from)).unwrap_or_else(|| panic!("nowhere: {from}"));
    texts[index] = texts[index].replacen(from, to, 1);
    let (line, column) = mark(&texts[index]).unwrap_or_else(|| panic!("no mark: {to}"));
    let file = ["shop/journey.yaml", "shop/others.yaml", "shop/hello.mjml"][index];
    let [journey, others, mail] = texts.map(|t| t.replace('¦', ""));
    let found = problems(&journey, &others, &mail);
    let hit = found.iter().any(|p| (p.code, p.file.as_str(), p.line, p.column) == (code, file, line, column));
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(hit, "`{to}` should give {code} at {file}:{line}:{column}; found:\n{}", shown.join("\n"));
}

#[test]
fn good_files_are_taken() {
    assert_eq!(problems(JOURNEY, OTHERS, MAIL), []);
}

#[test]
fn what_cannot_be_read_is_refused() {
    check("BAD_YAML", "metadata: {name: hello}\nspec:\n  title: Hello", "metadata: &x ¦{name: hello}\nspec:\n  title: Hello");
    check("BAD_YAML", "{title: News, defaults: {email: opt_in}}", "¦{title: News, defaults: {email: opt_in}]}");
    check("DUPLICATE_ID", "  topic: news\n", "  topic: news\n  ¦topic: news\n");
    check("UNKNOWN_REFERENCE", "waypost.dev/v1\nkind: Journey", "¦waypost.dev/v2\nkind: Journey");
    check("UNKNOWN_REFERENCE", "kind: Journey", "kind: ¦Journy");
    check("NOT_YET_SUPPORTED", "kind: Journey", "kind: ¦FrequencyCap");
    check("VALUE_INVALID", "metadata: {name: hello}\nspec:\n  title", "metadata: {name: ¦Hello}\nspec:\n  title");
}

#[test]
fn unknown_fields_are_refused_with_the_nearest() {
    check("UNKNOWN_FIELD", "title: Hello", "¦tittle: Hello");
    check("UNKNOWN_FIELD", "delay: {for: 1h}", "delay: {for: 1h, ¦form: entry}");
    check("UNKNOWN_FIELD", "channel: email", "channel: email, ¦chanel: email");
    let found = problems(&JOURNEY.replace("title:", "tittle:"), OTHERS, MAIL);
    assert_eq!(found.iter().find_map(|p| p.suggestion.as_deref()), Some("title"));
}

#[test]
fn what_is_not_built_yet_is_refused_in_its_place() {
    let fields = [
        "rollout: 50",
        "vars: {}",
        "hold_out: {percent: 5}",
        "on_merge: keep_both",
        "budget: {}",
        "attribution: {}",
        "kpi: []",
        "report_by: []",
    ];
    for field in fields {
        check("NOT_YET_SUPPORTED", "  topic: news\n", &format!("  topic: news\n  ¦{field}\n"));
    }
    for entry in ["on_segment: {name: x}", "on_schedule: {}", "on_date: {}", "on_catalog: {}", "on_api: {}"] {
        check("NOT_YET_SUPPORTED", "on_event: {name: Signed Up}", &format!("¦{entry}"));
    }
    for more in ["¦for_each: event.products", "¦start: greet", "¦rate: 100/s", "while_live: ¦allow-all", "while_live: ¦update"] {
        check("NOT_YET_SUPPORTED", "on_event: {name: Signed Up}", &format!("on_event: {{name: Signed Up}}, {more}"));
    }
    check("NOT_YET_SUPPORTED", "{name: Signed Up}}", "{name: Signed Up}, reentry: ¦{after: 1d}}");
    check("NOT_YET_SUPPORTED", "{name: Signed Up}}", "{name: Signed Up}, reentry: ¦never}");
    check("NOT_YET_SUPPORTED", "{name: Signed Up}}", "{name: ¦Product Price Changed}}");
    for step in ["split", "set", "segment", "emit", "audience", "webhook", "recommend", "coupon", "enter", "goto", "ask"] {
        check("NOT_YET_SUPPORTED", "delay: {for: 1h}", &format!("¦{step}: {{}}"));
    }
    for more in [
        "¦channels: [email]",
        "¦priority: 3",
        "¦failover: {}",
        "¦variants: []",
        "¦send_at: now",
        "¦quiet: ignore",
        "¦on_capped: drop",
        "¦on_quiet: drop",
        "¦valid_until: x",
        "fresh: [¦offer]",
    ] {
        check("NOT_YET_SUPPORTED", "template: hello}", &format!("template: hello, {more}}}"));
    }
    for delay in ["¦at: profile.x", "for: 1h, ¦spread: 1h", "until: {time: \"09:00\", ¦not_on: holidays}"] {
        check("NOT_YET_SUPPORTED", "delay: {for: 1h}", &format!("delay: {{{delay}}}"));
    }
    for more in ["¦since: entry", "¦mode: best", "¦all: []"] {
        check("NOT_YET_SUPPORTED", "timeout: {for: 1d}", &format!("timeout: {{for: 1d}}, {more}"));
    }
    check("NOT_YET_SUPPORTED", "event: Product Viewed", "¦message: {step: greet, outcome: opened}");
    check("NOT_YET_SUPPORTED", "  optional:", "  ¦locales: {}\n  optional:");
    check("NOT_YET_SUPPORTED", "channels: {email:", "channels: {¦push: {title: x}, email:");
    check("NOT_YET_SUPPORTED", "{where: profile.order_count >= 1}", "{¦static: true}");
    check("NOT_YET_SUPPORTED", "type: email", "type: ¦sms");
    check("NOT_YET_SUPPORTED", "provider: catcher", "provider: ¦ses");
    check("NOT_YET_SUPPORTED", "default: true", "¦rate: 200/s");
    check("NOT_YET_SUPPORTED", "kind: browser", "kind: ¦webhook");
    check("NOT_YET_SUPPORTED", "currency: EUR", "¦holidays: []");
    check("NOT_YET_SUPPORTED", "title: News", "title: News, ¦visible: true");
    check("NOT_YET_SUPPORTED", "{email: opt_in}", "{¦push: opt_in}");
}

#[test]
fn a_provider_over_http_says_where_and_what_it_promises() {
    let http = |more: &str| format!("provider: http, url: 'https://relay.example/v1/send/', {more}");
    let files = |spec: &str| OTHERS.replacen("provider: catcher", spec, 1);
    assert_eq!(problems(JOURNEY, &files(&http("secret: relay, idempotency: {window: 24h, on_repeat: error}, lookup: true")), MAIL), []);
    check("FIELD_MISSING", "{type: email, provider: catcher", "¦{type: email, provider: http");
    check("UNKNOWN_FIELD", "provider: catcher", "provider: catcher, ¦url: 'https://relay.example'");
    check("FIELD_MISSING", "provider: catcher", &http("idempotency: ¦{on_repeat: replay}"));
    check("LIMIT_EXCEEDED", "provider: catcher", &http("idempotency: {window: ¦1m}"));
    check("UNKNOWN_REFERENCE", "provider: catcher", &http("idempotency: {window: 1h, on_repeat: ¦ignore}"));
    check("VALUE_INVALID", "provider: catcher", &http("secret: ¦../relay"));
    for url in [
        "ftp://x.example",
        "https://",
        "https://u:p@x.example",
        "https://x.example/?a=b",
        "https://x.example/#a",
        "x.example",
        "https://a b",
        "https://x.example/a/../b",
    ] {
        check("VALUE_INVALID", "provider: catcher", &format!("provider: http, url: ¦{url}"));
    }
}

#[test]
fn custom_identifiers_are_declared_in_the_policy() {
    let declare = |names: &str| format!("currency: EUR, custom_identifiers: [{names}]");
    let with = |names: &str, may: &str| {
        let files = OTHERS.replacen("currency: EUR", &declare(names), 1);
        problems(JOURNEY, &files.replacen("kind: browser", &format!("kind: browser, may_assert: [{may}]"), 1), MAIL)
    };
    assert_eq!(with("loyalty_card, crm2", "email, 'custom:crm2'"), []);
    assert_eq!(with("loyalty_card", "email"), []);
    for name in ["Crm", "2crm", "_crm", "loyalty-card", "'custom:crm'", "'a b'", "''", &"x".repeat(33)] {
        check("VALUE_INVALID", "currency: EUR", &declare(&format!("ok, ¦{name}")));
    }
    for name in ["user_id", "email", "phone", "device", "anonymous", "custom", "anonymous_id"] {
        check("VALUE_INVALID", "currency: EUR", &declare(&format!("¦{name}")));
    }
    check("DUPLICATE_ID", "currency: EUR", &declare("crm, ¦crm"));
    check("TYPE_MISMATCH", "currency: EUR", &declare("¦7"));
    check("TYPE_MISMATCH", "currency: EUR", "currency: EUR, custom_identifiers: ¦crm");
    let names = |n: usize| (0..n).map(|i| format!("name_{i}")).collect::<Vec<_>>().join(", ");
    assert_eq!(with(&names(20), "email"), []);
    check("LIMIT_EXCEEDED", "currency: EUR", &format!("currency: EUR, custom_identifiers: ¦[{}]", names(21)));

    for may in ["¦'custom:crm'", "email, ¦'custom:'", "¦custom", "¦crm", "¦'custom:CRM'"] {
        check("UNKNOWN_REFERENCE", "kind: browser", &format!("kind: browser, may_assert: [{may}]"));
    }
    let found = with("loyalty_card", "'custom:loyalty_crad'");
    assert_eq!(found.iter().find_map(|p| p.suggestion.as_deref()), Some("custom:loyalty_card"));
}

#[test]
fn unknown_names_are_refused() {
    check("UNKNOWN_REFERENCE", "topic: news", "topic: ¦newz");
    check("UNKNOWN_REFERENCE", "channel: email", "channel: ¦pigeon");
    check("UNKNOWN_REFERENCE", "template: hello}", "template: ¦helo}");
    check("UNKNOWN_REFERENCE", "template: hello}", "template: ¦hello@9}");
    check("UNKNOWN_REFERENCE", "on_timeout: pick", "on_timeout: ¦pikc");
    check("UNKNOWN_REFERENCE", "else: greet", "else: ¦gret");
    check("UNKNOWN_REFERENCE", "event: Order Completed}\n  goal", "segment: ¦byers}\n  goal");
    check("UNKNOWN_REFERENCE", "in_segment(\"buyers\")", "in_segment(¦\"byers\")");
    check("UNKNOWN_REFERENCE", "  topic: news\n", "  topic: news\n  yields_to: [¦other]\n");
    check("UNKNOWN_REFERENCE", "  topic: news\n", "  topic: news\n  timezone: ¦Europe/Berlim\n");
    check("UNKNOWN_REFERENCE", "mjml: hello.mjml", "mjml: ¦other.mjml");
    check("UNKNOWN_REFERENCE", "template: hello}}", "template: hello}, then: {¦acepted: end}}");
    check("UNKNOWN_REFERENCE", "currency: EUR", "currency: ¦XXX");
    check("UNKNOWN_REFERENCE", "optional: {profile", "optional: {¦profil");
}

#[test]
fn ids_are_given_once() {
    check("DUPLICATE_ID", "id: look", "id: ¦pause");
    check("DUPLICATE_ID", "event: Order Completed}\n", "event: Order Completed}\n    - {id: ¦ordered, event: Order Updated}\n");
    check(
        "DUPLICATE_ID",
        "metadata: {name: web}",
        "metadata: {name: web}\nspec: {kind: kafka}\n---\napiVersion: waypost.dev/v1\nkind: Source\nmetadata: {name: ¦web}",
    );
    check(
        "DUPLICATE_ID",
        "kind: Topic\nmetadata: {name: news}\nspec: {title: News, defaults: {email: opt_in}}",
        "kind: Policy\nmetadata: {name: ¦second}\nspec: {}",
    );
}

#[test]
fn types_and_values_are_checked() {
    check("TYPE_MISMATCH", "title: Hello", "title: ¦[Hello]");
    check("TYPE_MISMATCH", "default: true", "default: ¦maybe");
    check("TYPE_MISMATCH", "steps:\n", "priority: ¦high\n  steps:\n");
    check("TYPE_MISMATCH", "when: profile.order_count >= 1", "when: ¦profile.order_count");
    check("VALUE_INVALID", "for: 1h", "for: ¦1 hour");
    check("VALUE_INVALID", "delay: {for: 1h}", "delay: {until: {time: ¦\"24:00\"}}");
    check("VALUE_INVALID", "Shop <hello@news.shop.example>", "¦Shop <hello>");
    check("VALUE_INVALID", "mjml: hello.mjml", "mjml: ¦../hello.mjml");
    check("VALUE_INVALID", "id: gone", "id: ¦end");
    check("FIELD_MISSING", "  title: Hello\n  describe", "  ¦describe");
}

#[test]
fn the_graph_is_checked() {
    check(
        "UNREACHABLE_STEP",
        "id: greet, send: {channel: email, template: hello}",
        "id: greet, next: end, send: {channel: email, template: hello}}\n    - {id: ¦island, delay: {for: 1h}",
    );
    check("CYCLE_WITHOUT_GOTO", "else: greet", "else: ¦look");
    check("CYCLE_WITHOUT_GOTO", "id: greet, send", "id: greet, next: ¦pause, send");
    check(
        "NO_TIMEOUT",
        "wait: {any: [{id: seen, event: Product Viewed, then: greet}], timeout: {for: 1d},",
        "wait: ¦{any: [{id: seen, event: Product Viewed, then: greet}],",
    );
    check(
        "NO_ELSE",
        "branch: {cases: [{when: profile.order_count >= 1, then: end}], else: greet}",
        "branch: ¦{cases: [{when: profile.order_count >= 1, then: end}]}",
    );
}

#[test]
fn a_journey_says_whose_it_is() {
    check(
        "NO_TOPIC",
        "  title: Hello\n  describe: Says hello\n  owner: care@shop.example\n  topic: news\n",
        "  ¦title: Hello\n  describe: Says hello\n  owner: care@shop.example\n",
    );
    check("NO_OWNER", "  title: Hello\n  describe: Says hello\n  owner: care@shop.example\n", "  ¦title: Hello\n  describe: Says hello\n");
}

#[test]
fn fields_stand_where_they_mean_something() {
    check("FIELD_NOT_ALLOWED_HERE", "exit: {reason: DONE}", "exit: {reason: DONE}, ¦next: end");
    check("FIELD_NOT_ALLOWED_HERE", "delay: {for: 1h}", "delay: {for: 1h}, ¦then: {accepted: end}");
    check("FIELD_NOT_ALLOWED_HERE", "delay: {for: 1h}", "delay: {for: 1h}, ¦exit: {reason: X}");
    check("FIELD_NOT_ALLOWED_HERE", "kind: browser", "kind: browser, ¦may_grant: true");
    check(
        "FIELD_NOT_ALLOWED_HERE",
        "event: Order Completed}\n  goal",
        "when: profile.order_count >= 1, ¦where: profile.order_count >= 1}\n  goal",
    );
}

#[test]
fn templates_are_checked_in_their_own_file() {
    check("TEMPLATE_LACKS_CHANNEL", "channels: {email: {subject: 'Hello {{ profile.first_name }}', mjml: hello.mjml}}", "channels: ¦{}");
    check("TEMPLATE_FIELD_UNDECLARED", "<mj-text>{{ profile.first_name }}", "¦<mj-text>{{ profile.last_name }}");
    check("TEMPLATE_FIELD_UNDECLARED", "subject: 'Hello {{ profile.first_name }}'", "subject: '¦Hello {{ profile.last_name }}'");
    check(
        "MISSING_UNSUBSCRIBE",
        "channels: {email: {subject: 'Hello {{ profile.first_name }}', mjml: hello.mjml}}",
        "channels: {email: ¦{subject: 'Hello {{ profile.first_name }}', html: '<p>{{ postal_address() }}</p>'}}",
    );
    check(
        "MISSING_UNSUBSCRIBE",
        "channels: {email: {subject: 'Hello {{ profile.first_name }}', mjml: hello.mjml}}",
        "channels: {email: ¦{subject: 'Hello {{ profile.first_name }}', html: '<a href=\"{{ unsubscribe_url() }}\">x</a>'}}",
    );
    check(
        "ACTION_MISSING",
        "  optional: {profile.first_name: there}\n  action: {label: Go, url: 'https://shop.example/'}\n",
        "  ¦optional: {profile.first_name: there}\n",
    );
    check("TEMPLATE_SYNTAX", "<mj-text>{{ profile.first_name }}", "¦<mj-text>{{ profile.first_name }");
    check("ACTION_MISSING", "action: {label: Go, url: 'https://shop.example/'}", "action: ¦{label: Go}");
}

#[test]
fn limits_are_known_when_applied() {
    check("LIMIT_EXCEEDED", "for: 1h", "for: ¦401d");
    check("LIMIT_EXCEEDED", "for: 1h", "for: ¦0s");
    check("LIMIT_EXCEEDED", "title: Hello", &format!("title: ¦{}", "x".repeat(81)));
    let steps: Vec<String> = (0..100).map(|i| format!("    - {{id: s{i}, delay: {{for: 1h}}}}\n")).collect();
    let steps = steps.concat();
    check("LIMIT_EXCEEDED", "  steps:\n", &format!("  steps:\n    ¦{}", &steps[4..]));
    check("LIMIT_EXCEEDED", "{where: profile.order_count >= 1}", "{where: ¦in_segment(\"buyers\")}");
}

#[test]
fn segments_that_profiles_could_not_tell_apart_are_refused() {
    let segment =
        |name: &str| format!("---\napiVersion: waypost.dev/v1\nkind: Segment\nmetadata: {{name: {name}}}\nspec: {{where: 'true'}}\n");
    let buyers = "spec: {where: profile.order_count >= 1}\n";
    check("DUPLICATE_ID", buyers, &[buyers, &segment("s50348"), &segment("¦s53538")].concat());
}

#[test]
fn conditions_are_refused_where_they_stand_in_the_file() {
    check("UNKNOWN_REFERENCE", "{where: profile.order_count >= 1}", "{where: ¦profile.order_cuont >= 1}");
    check(
        "UNKNOWN_REFERENCE",
        "spec: {where: profile.order_count >= 1}",
        "spec:\n  where: |\n    profile.order_count >= 1 &&\n    ¦profile.order_cuont >= 1",
    );
    check("SYNTAX", "{where: profile.order_count >= 1}", "{where: profile.order_count >=¦}");
    check("TYPE_MISMATCH", "on_event: {name: Signed Up}", "on_event: {name: Signed Up}, key: ¦profile.order_count");
    check("UNKNOWN_REFERENCE", "  topic: news\n", "  topic: news\n  requires: [¦profile.first_nmae]\n");
    check("UNKNOWN_REFERENCE", "on_event: {name: Signed Up}", "on_event: {name: Signed Up}, where: '¦evnt.x == 1'");
}

#[test]
fn no_text_makes_the_reader_panic() {
    let all = format!("{JOURNEY}---\n{OTHERS}");
    let read = |text: &str| {
        let files = [("f.yaml".to_owned(), text.to_owned())];
        if let Ok(manifests) = parse_files(&files, &|_| Some(MAIL.to_owned())) {
            let bodies: BTreeMap<ContentHash, Bytes> = BTreeMap::new();
            let _planned = plan_apply(&SetManifest::empty(SHOP, "shop"), &bodies, SHOP, &manifests);
        }
    };
    for index in (0..all.len()).filter(|i| all.is_char_boundary(*i)) {
        read(&all[..index]);
        for with in ["", "[", "}", "é", "\u{0}", "- "] {
            if index % 3 == 0 {
                read(&format!("{}{with}{}", &all[..index], &all[index + 1..]));
            }
        }
    }
    for body in ["", "[]", "{}", "null", r#"{"apiVersion":"waypost.dev/v1","kind":"Journey","metadata":{"name":"x"},"spec":[]}"#] {
        let _refused = Manifest::from_body(&Bytes::from(body), "stored").map(|m| m.read(None));
    }
}
