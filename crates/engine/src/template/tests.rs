//! Rendering and refusals by tables.

use std::{collections::BTreeMap, sync::Arc};

use waypost_types::{ContentHash, Currency, Timestamp, Value};

use super::*;
use crate::{
    condition::{Facts, Root, Truth},
    definitions::EmailBody,
};

struct Person;

impl Facts for Person {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_767_222_000_000)
    }
    fn path(&self, root: Root, path: &str) -> Option<Value> {
        match (root, path) {
            (Root::Profile, "first_name") => Some(Value::text("Ann <b>\"&'")),
            (Root::Profile, "ltv") => Some(Value::Money(125_000)),
            (Root::Profile, "language") => Some(Value::text("de")),
            (Root::Profile, "empty") => Some(Value::text(" ")),
            (Root::Profile, "long") => Some(Value::List(vec![Value::Int(1); 201])),
            (Root::Profile, "large") => Some(Value::text("x".repeat(40_000))),
            (Root::Run, "key") => Some(Value::text("k 1&2")),
            _ => None,
        }
    }
    fn segment(&self, _: &str) -> (Truth, Option<Timestamp>) {
        (Truth::Unknown, None)
    }
    fn cart(&self, _: &str) -> Option<Value> {
        None
    }
    fn order(&self, _: &str) -> Option<Value> {
        None
    }
    fn covered_since(&self) -> Option<Timestamp> {
        None
    }
    fn currency(&self) -> Currency {
        Currency::EUR
    }
}

fn template(subject: &str, source: &str, mjml: bool) -> Template {
    Template {
        name: "t".to_owned(),
        hash: ContentHash::of(b"t"),
        version: 1,
        requires: vec!["run.key".to_owned(), "entry.lines".to_owned(), "profile.ltv".to_owned()],
        optional: BTreeMap::from([("profile.first_name".to_owned(), "there".to_owned())]),
        data: Vec::new(),
        action: Some(("Back".to_owned(), "{{ cart_url(run.key) }}".to_owned())),
        email: Some(EmailBody { subject: subject.to_owned(), preheader: None, source: source.to_owned(), mjml }),
    }
}

fn entry() -> (String, Value) {
    let line = |name: &str, price| {
        Value::object([
            ("name".to_owned(), Value::text(name)),
            ("product_id".to_owned(), Value::text("p/1")),
            ("price".to_owned(), Value::Money(price)),
            ("rate".to_owned(), Value::Decimal(12_500_000)),
        ])
    };
    let at = Value::Time(Timestamp::from_millis(1_767_222_000_000));
    (
        "entry".to_owned(),
        Value::object([("lines".to_owned(), Value::List(vec![line("Mug", 1_250), line("Pot", 900)])), ("at".to_owned(), at)]),
    )
}

fn links() -> Links {
    Links { unsubscribe_url: "https://shop.example/u/abc".to_owned(), ..Links::default() }
}

fn policy() -> Policy {
    Policy {
        restore_url: Some("https://shop.example/cart".to_owned()),
        product_url: Some("https://shop.example/p/".to_owned()),
        ..Policy::default()
    }
}

fn render(template: &Template) -> Result<Email, RenderError> {
    let variables = variables(template, &Person, &[entry()]).expect("all there");
    render_email(template, &variables, &links(), &policy())
}

fn html(source: &str) -> Result<String, RenderError> {
    render(&template("s", source, false)).map(|email| email.html)
}

#[test]
fn values_are_escaped_in_html_and_plain_in_the_subject() {
    let email =
        render(&template("Hi {{ profile.first_name }}", "<p title=\"{{ profile.first_name }}\">{{ profile.first_name }}</p>", false));
    let email = email.expect("renders");
    assert_eq!(email.subject, "Hi Ann <b>\"&'");
    assert_eq!(email.html, "<p title=\"Ann &lt;b&gt;&quot;&amp;&#39;\">Ann &lt;b&gt;&quot;&amp;&#39;</p>");
    assert_eq!(email.text, "Ann <b>\"&'\n");
}

#[test]
fn mjml_becomes_html_with_the_same_bytes_each_time() {
    let source = "<mjml><mj-head><mj-attributes><mj-text font-size=\"14px\" color=\"#111\"/></mj-attributes></mj-head><mj-body>\n\
        {% for line in entry.lines %}<mj-section><mj-column><mj-text>{{ line.name }} {{ line.price | money }} {{ profile.first_name }}</mj-text></mj-column></mj-section>{% endfor %}\n\
        <mj-section><mj-column><mj-button href=\"{{ action.url }}\">{{ action.label }}</mj-button><mj-text><a href=\"{{ unsubscribe_url() }}\">Stop</a></mj-text></mj-column></mj-section></mj-body></mjml>";
    let mut template = template("Your cart", source, true);
    template.email.as_mut().expect("set").preheader = Some("{{ profile.ltv | money }} so far".to_owned());
    assert_eq!(check(&template), []);
    let email = render(&template).expect("renders");
    assert_eq!(render(&template), Ok(email.clone()));
    assert!(email.html.contains("Mug 12,50\u{a0}€ Ann &lt;b&gt;&quot;&amp;&#39;"), "{}", email.html);
    assert!(email.html.contains("href=\"https://shop.example/cart?cart=k%201%262\""), "{}", email.html);
    assert!(email.html.contains("1.250,00\u{a0}€ so far</div>"), "{}", email.html);
    assert!(email.text.contains("Pot 9,00 €"), "{}", email.text);
    assert!(email.text.contains("Back (https://shop.example/cart?cart=k%201%262)"), "{}", email.text);
    assert!(email.text.contains("Stop (https://shop.example/u/abc)"), "{}", email.text);
    assert!(uses_unsubscribe(&template) && !uses_postal_address(&template));
}

#[test]
fn filters_and_functions_by_table() {
    for (source, shown) in [
        ("{{ 'aBc' | upper }}{{ 'aBc' | lower }}{{ 'a bc' | title }}{{ ' a ' | trim }}", "ABCabcA Bca"),
        ("{{ 'abcdef' | truncate(4) }}", "abc…"),
        ("{{ entry.lines | length }} {{ (entry.lines | first).name }} {{ (entry.lines | last).name }}", "2 Mug Pot"),
        ("{{ ['a', 'b'] | join(', ') }}", "a, b"),
        ("{{ entry.lines[0].missing | default('none') }}", "none"),
        ("{{ entry.lines[0].rate | percent }} {{ 1234567 | number }}", "12,5% 1.234.567"),
        ("{{ entry.lines[0].price }}", "12.50 EUR"),
        ("{% if entry.lines[0].price > entry.lines[1].price %}more{% endif %}", "more"),
        ("{{ product_url(entry.lines[0]) }}", "https://shop.example/p/p%2F1"),
        ("{% if entry.lines[0].url is defined %}a{% else %}b{% endif %}", "b"),
    ] {
        assert_eq!(html(source).as_deref(), Ok(shown), "{source}");
    }
}

#[test]
fn what_is_not_there_stops_with_its_path() {
    for (source, code, path) in [
        ("{% for line in entry.lines %}{{ line.url }}{% endfor %}", "RENDER_MISSING_FIELD", "line.url"),
        ("{{ entry.lines[0].url | upper }}", "RENDER_MISSING_FIELD", "entry.lines[0].url | upper"),
        ("\n{{ postal_address() }}", "RENDER_MISSING_FIELD", "policy.postal_address"),
        ("{{ entry.lines }}", "CONTENT_REFUSED", "html:1"),
        ("\n{{ 'x' | money }}", "CONTENT_REFUSED", "html:2"),
        ("<a href=\"{{ 'javascript:x' }}\">x</a>", "CONTENT_REFUSED", "href"),
    ] {
        let error = html(source).expect_err(source);
        assert_eq!((error.code, error.path.as_str()), (code, path), "{source}");
    }
}

#[test]
fn work_and_output_are_bounded() {
    let loops = "{% for a in entry.lines %}".repeat(22);
    let ends = "{% endfor %}".repeat(22);
    let long = "x".repeat(1_000);
    let joins = "['a','b','c','d','e','f','g','h','i','j']|join(".repeat(8) + "'x'" + &")".repeat(8);
    for source in [
        format!("{loops}{{{{ run.key }}}}{ends}"),
        format!("{}{long}{}", "{% for a in entry.lines %}".repeat(12), "{% endfor %}".repeat(12)),
        format!("{{{{ {joins} }}}}"),
    ] {
        assert_eq!(html(&source).map_err(|e| e.code), Err("RENDER_LIMIT"));
    }
}

#[test]
fn a_subject_is_one_line() {
    for subject in ["a{{ '\\n' }}Bcc: x@shop.example", "a\r\nBcc: x", "a{{ '\\u0000' }}", "a{{ '\\u2028' }}b", "{{ ' ' | trim }}"] {
        let error = render(&template(subject, "x", false)).expect_err(subject);
        assert_eq!((error.code, error.path.as_str()), ("CONTENT_REFUSED", "subject"), "{subject}");
    }
}

#[test]
fn variables_are_what_the_template_names() {
    let mut template = template("s", "x", false);
    let found = variables(&template, &Person, &[entry()]).expect("all there");
    assert_eq!(found.at("run.key"), Some(&Value::text("k 1&2")));
    assert_eq!(found.at("profile.ltv"), Some(&Value::Amount { minor: 125_000, currency: "EUR".to_owned() }));
    assert_eq!(found.at("profile.language"), None);
    assert_eq!(found.get("_locale"), Some(&Value::text("de")));
    template.optional.insert("profile.nickname".to_owned(), "you".to_owned());
    let found = variables(&template, &Person, &[entry()]).expect("all there");
    assert_eq!(found.at("profile.nickname"), Some(&Value::text("you")));
}

#[test]
fn a_missing_or_oversized_variable_stops_the_send() {
    for (path, code) in [
        ("profile.nobody", "FIELD_MISSING"),
        ("profile.empty", "FIELD_MISSING"),
        ("nowhere.at_all", "FIELD_MISSING"),
        ("profile.long", "RENDER_LIMIT"),
        ("profile.large", "RENDER_LIMIT"),
    ] {
        let mut template = template("s", "x", false);
        template.requires = vec![path.to_owned()];
        let error = variables(&template, &Person, &[]).expect_err(path);
        assert_eq!(error.code(), code, "{path}");
    }
}

#[test]
fn each_mistake_is_found_with_its_line() {
    for (source, code, line) in [
        ("\n{{ profile.nickname }}", "TEMPLATE_FIELD_UNDECLARED", 2),
        ("{{ data.total }}", "TEMPLATE_FIELD_UNDECLARED", 1),
        ("{{ nickname }}", "TEMPLATE_FIELD_UNDECLARED", 1),
        ("{% for line in entry.lines %}\n\n{{ event.x }}{% endfor %}", "TEMPLATE_FIELD_UNDECLARED", 3),
        ("a\n{{ run.key", "TEMPLATE_SYNTAX", 2),
        ("\n{% if run.key %}", "TEMPLATE_SYNTAX", 2),
        ("{{ run.key | safe }}", "TEMPLATE_CONTENT_REFUSED", 1),
        ("{{ run.key | replace('a', 'b') }}", "TEMPLATE_CONTENT_REFUSED", 1),
        ("\n\n{{ 'x' * 1000 }}", "TEMPLATE_CONTENT_REFUSED", 3),
        ("{% autoescape false %}{{ run.key }}{% endautoescape %}", "TEMPLATE_CONTENT_REFUSED", 1),
        ("{% set a = run.key %}", "NOT_YET_SUPPORTED", 1),
        ("{%- include 'x' %}", "NOT_YET_SUPPORTED", 1),
        ("{{ coupon('x') }}", "NOT_YET_SUPPORTED", 1),
        ("{{ vars.code }}", "NOT_YET_SUPPORTED", 1),
        ("{% if run.key is odd %}{% endif %}", "TEMPLATE_CONTENT_REFUSED", 1),
        ("<script>x</script>", "TEMPLATE_CONTENT_REFUSED", 1),
        ("<style>p{color:{{ run.key }}}</style>", "TEMPLATE_CONTENT_REFUSED", 1),
        ("<a href={{ run.key }}>", "TEMPLATE_CONTENT_REFUSED", 1),
        ("<p {{ run.key }}>", "TEMPLATE_CONTENT_REFUSED", 1),
        ("<p onclick=\"a('{{ run.key }}')\">", "TEMPLATE_CONTENT_REFUSED", 1),
    ] {
        let findings = check(&template("s", source, false));
        assert!(findings.iter().any(|f| f.code == code && f.line == line), "{source}: {findings:?}");
    }
    let findings = check(&template("s", "<mjml><mj-body>\n<mj-section>\n</mj-body></mjml>", true));
    assert!(findings.iter().any(|f| f.code == "TEMPLATE_SYNTAX" && f.message.starts_with("mjml: ")), "{findings:?}");
    let findings = check(&template("s", &"x".repeat(MAX_SOURCE + 1), false));
    assert!(findings.iter().any(|f| f.code == "TEMPLATE_TOO_LARGE"), "{findings:?}");
}

#[test]
fn a_good_template_has_no_findings() {
    let source = "<p>{% for line in entry.lines %}{{ loop.index }} {{ line.name }}{% endfor %}</p><a href=\"{{ action.url }}\">{{ action.label }}</a>\
                  {% if profile.ltv and not false %}<img alt='{{ run.key }}' src=\"{{ product_url(entry.lines[0]) }}\">{% endif %}";
    assert_eq!(check(&template("Hi {{ profile.first_name | title }}", source, false)), []);
    let _shared: Arc<Template> = Arc::new(template("s", source, false));
}

#[test]
fn the_shops_own_reminder_renders() {
    let source = include_str!("../../../../journeys/cart-recovery/remind.mjml");
    let mut template = template("{{ profile.first_name }}, your cart is waiting", source, true);
    template.requires = vec!["run.key".to_owned()];
    assert_eq!(check(&template).iter().map(|f| f.code).collect::<Vec<_>>(), ["TEMPLATE_FIELD_UNDECLARED"; 2], "data is not declared here");
    let (_, entry) = entry();
    let data = Value::object([
        ("lines".to_owned(), entry.get("lines").cloned().expect("set")),
        ("total".to_owned(), Value::Amount { minor: 2_150, currency: "EUR".to_owned() }),
    ]);
    let Value::Object(mut entries) = variables(&template, &Person, &[]).expect("all there") else { panic!("an object") };
    entries.push(("data".to_owned(), data));
    let policy = Policy { postal_address: Some("Shop, 1 Road <Town>".to_owned()), ..policy() };
    let missing = render_email(&template, &Value::object(entries.clone()), &links(), &policy).expect_err("no quantity");
    assert_eq!((missing.code, missing.path.as_str()), ("RENDER_MISSING_FIELD", "line.quantity"));
    template.email.as_mut().expect("set").source = source.replace("line.quantity", "line.quantity | default(1)");
    let email = render_email(&template, &Value::object(entries), &links(), &policy).expect("renders");
    assert!(email.text.contains("1 × Mug") && email.text.contains("Together 21,50 €."), "{}", email.text);
    assert!(email.text.contains("Shop, 1 Road <Town>") && email.html.contains("Shop, 1 Road &lt;Town&gt;"), "{}", email.text);
}
