"""Strimzi's topics and users are those of the program."""

import re

import chart

SOURCE = (chart.ROOT / "crates/runtime/src/install/topics.rs").read_text()
DAY = 24 * 3600 * 1000


def inboxes():
    """Role to inbox, by the program."""
    source = (chart.ROOT / "crates/types/src/role.rs").read_text()
    return {role.lower(): topic for role, topic in re.findall(r'Self::(\w+) => Some\("(wp1\.\w+)"\)', source)}


def constants():
    """Names of topics by their constants."""
    found = dict(re.findall(r'pub const (\w+): &str = "([\w.-]+)";', SOURCE))
    (found["progress::TOPIC"],) = re.findall(
        r'pub const TOPIC: &str = "([\w.-]+)";', (chart.ROOT / "crates/runtime/src/progress.rs").read_text()
    )
    return found


def retention(text):
    """Milliseconds of the source's own way to say them."""
    if match := re.fullmatch(r'"(-1)"\.to_owned\(\)', text):
        return int(match[1])
    if match := re.fullmatch(r"days\((\d+)\)", text):
        return int(match[1]) * DAY
    if match := re.fullmatch(r"Span::from_hours\((\d+)\)\.millis\(\)\.to_string\(\)", text):
        return int(match[1]) * DAY // 24
    assert text == "retention", f"topics.rs says a retention in a way that this test cannot read: {text}"
    (days,) = re.findall(r"retention: Span::from_days\((\d+)\)", SOURCE)
    return int(days) * DAY


def own_settings(text):
    """The settings between the brackets of a `topic(…)`."""
    found, rest = {}, text
    words = {"delete": ("cleanup.policy", "delete"), "endless": ("retention.bytes", -1), "large": ("max.message.bytes", 2 << 20)}
    for word, (name, value) in words.items():
        if f"{word}.clone()" in rest:
            found[name] = value
            rest = rest.replace(f"{word}.clone()", "")
    if match := re.search(r'\("cleanup.policy", "(compact(?:,delete)?)".to_owned\(\)\)', rest):
        found["cleanup.policy"] = match[1]
        rest = rest.replace(match[0], "")
    if re.search(r"\bsoon\b", rest):
        found["segment.bytes"] = 64 << 20
        rest = re.sub(r"\bsoon\b", "", rest)
    if match := re.search(r"kept\((.+)\)", rest):
        found["retention.ms"] = retention(match[1])
        rest = rest.replace(match[0], "")
    elif re.search(r"\bretention\b", rest):
        found["retention.ms"] = retention("retention")
        rest = re.sub(r"\bretention\b", "", rest)
    assert not rest.strip(" ,"), f"topics.rs says a setting that this test cannot read: {rest}"
    return found


def of_the_program(prefix, partitions, replication):
    """Every topic as topics.rs makes it."""
    assert 'let soon = ("segment.bytes", (64 << 20).to_string());' in SOURCE
    assert "pub(super) const RECORD_BYTES: u64 = 2 << 20;" in SOURCE and 'let large = ("max.message.bytes", RECORD_BYTES.to_string());' in SOURCE
    (public,) = re.findall(r"public_partitions: (\d+)", SOURCE)
    (listed,) = re.findall(r"pub const PUBLIC: \[&str; \d+\] = \[(.+)\];", SOURCE)
    loops = {"inbox": list(inboxes().values()), "name": re.findall(r'"([\w.-]+)"', listed)}
    counts = {"v": partitions, "settings.public_partitions": int(public)}
    every = {"min.insync.replicas": 2 if replication >= 3 else 1, "unclean.leader.election.enable": False, "message.timestamp.type": "LogAppendTime"}
    topics = {}
    pushed = re.findall(r"all\.push\(topic\(([\w:\".-]+), ([\w.]+), &\[(.*)\]\)\);", SOURCE)
    assert len(pushed) == SOURCE.count("all.push("), "topics.rs makes a topic in a way that this test cannot read"
    for name, count, own in pushed:
        names = loops.get(name) or [constants().get(name, name.strip('"'))]
        for topic in names:
            count_of = counts[count] if count in counts else int(count)
            topics[f"{prefix}{topic}"] = {"partitions": count_of, "replicas": replication, "config": {**every, **own_settings(own)}}
    return topics


def users(case):
    """ACLs of the users by role: {(type, name): operations}."""
    found = {}
    for user in chart.of_kind(chart.render(case), "KafkaUser"):
        rules = {}
        for rule in user["spec"]["authorization"]["acls"]:
            key = rule["resource"]["type"], rule["resource"].get("name", "")
            assert key not in rules and rule["resource"].get("patternType", "literal") == "literal"
            rules[key] = set(rule["operations"])
        found[user["metadata"]["name"].removeprefix("waypost-")] = rules
    return found


def test_topics_are_those_that_init_makes():
    def rendered(*settings):
        specs = [dict(topic["spec"]) for topic in chart.of_kind(chart.render("strimzi", *settings), "KafkaTopic")]
        return {spec.pop("topicName"): spec for spec in specs}

    wanted = of_the_program("Shop_A.", 32, 3)
    assert len(wanted) == 16
    assert rendered() == wanted
    small = ("config.install.replication=1", 'config.install.prefix=""', "config.install.partitions=4")
    assert rendered(*small) == of_the_program("", 4, 1)


def test_topics_outlive_the_release():
    for topic in chart.of_kind(chart.render("strimzi"), "KafkaTopic"):
        assert topic["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert topic["metadata"]["labels"]["strimzi.io/cluster"] == "shop"
        assert re.fullmatch(r"[a-z0-9-]+", topic["metadata"]["name"])


def test_inboxes_are_the_roles():
    (text,) = re.findall(r'define "waypost.inboxes" -}}\n(.+?){{- end', chart.TEMPLATES, re.DOTALL)
    assert dict(line.split(": ") for line in text.strip().splitlines()) == inboxes()
    (keyed,) = re.findall(r'define "waypost.keyed" -}}\n(.+?)\n', chart.TEMPLATES)
    assert keyed.split() == list(inboxes())


def test_users_have_the_least_rights():
    topics = set(of_the_program("Shop_A.", 32, 3))
    described = {"Describe", "DescribeConfigs"}
    for name, rules in users("strimzi").items():
        assert {topic for kind, topic in rules if kind == "topic"} == topics, "the start-up check looks at every topic"
        for (kind, _), operations in rules.items():
            if kind == "topic":
                assert described <= operations <= described | {"Read", "Write"} | ({"Create"} if name == "jobs" else set())
            elif kind == "group":
                assert operations <= {"Describe", "Read"}
            else:
                assert (kind, operations) == ("cluster", {"DescribeConfigs"})
        assert rules["group", "waypost.tail"] == {"Describe"}
    assert all("transactionalId" not in str(rules) for rules in users("strimzi").values())


def may(case, role, operation):
    prefix = "Shop_A." if case == "strimzi" else ""
    return {name.removeprefix(prefix) for (kind, name), operations in users(case)[role].items() if kind == "topic" and operation in operations}


def test_who_reads_and_writes_what():
    """As the code does it: ARCHITECTURE.md "One event's way", `Output::Inbox` of each role, `Append` of control."""
    everybody = {"wp1.control", "wp1.definitions", "wp1.progress"}
    said = {"wp1.progress"}
    wanted = {
        "ingest": ({"waypost.events.v1"}, {"wp1.identity", "wp1.dead"}),
        "identity": ({"wp1.identity"}, {"wp1.identity", "wp1.segment", "wp1.dead"}),
        "segmenter": ({"wp1.segment"}, {"wp1.segment", "wp1.journey", "waypost.segment-changes.v1", "wp1.dead"}),
        "orchestrator": (
            {"wp1.journey"},
            {"wp1.journey", "wp1.segment", "wp1.identity", "wp1.send", "waypost.decisions.v1", "wp1.dead"},
        ),
        "sender": ({"wp1.send"}, {"wp1.send", "wp1.identity", "wp1.segment", "waypost.messages.v1", "wp1.dead"}),
        "control": (
            # also the inboxes and all that they put out: what was appended, or folded, is looked for there
            {"wp1.audit", "wp1.dead", "wp1.operations", "wp1.reports", *inboxes().values()}
            | {"waypost.events.v1", "waypost.segment-changes.v1", "waypost.decisions.v1", "waypost.messages.v1"},
            {"wp1.definitions", "wp1.control", "wp1.audit", "wp1.operations", "wp1.reports", "wp1.identity", "wp1.segment", "wp1.send", "waypost.events.v1"},
        ),
        "jobs": (set(inboxes().values()), {"wp1.control"}),
    }
    for role, (reads, writes) in wanted.items():
        assert may("strimzi", role, "Read") == reads | everybody, role
        assert may("strimzi", role, "Write") == writes | said, role
    assert set(users("strimzi")) == set(wanted)


def test_roles_of_the_code_write_where_they_may():
    """Every inbox that a role's source names as a destination is one that its user may write to."""
    topics = inboxes()
    for role in ("ingest", *topics):
        named = set()
        for path in (chart.ROOT / f"crates/{role}/src").rglob("*.rs"):
            if "tests" in path.parts or path.stem == "tests":
                continue
            code = path.read_text().split("#[cfg(test)]")[0]
            named |= {name.lower() for name in re.findall(r"Role::([A-Z]\w+)", code)} & set(topics)
        assert named, role
        assert {topics[name] for name in named} <= may("strimzi", role, "Write"), role


def test_groups_are_those_of_the_code():
    driver = (chart.ROOT / "crates/runtime/src/driver.rs").read_text()
    assert 'format!("{}waypost.{}.{role}", self.settings.prefix' in driver
    assert '{prefix}waypost.events-door' in (chart.ROOT / "crates/app/src/stack/serve.rs").read_text()
    assert '"waypost.tail"' in (chart.ROOT / "crates/kafka/src/settings.rs").read_text()
    for role, rules in users("strimzi").items():
        joined = {name for (kind, name), operations in rules.items() if kind == "group" and "Read" in operations}
        if role in inboxes():
            assert joined == {f"Shop_A.waypost.1.{role}"}
        else:
            assert joined == ({"Shop_A.waypost.events-door"} if role == "ingest" else set())


def test_each_role_shows_its_own_user():
    for case, file in (("strimzi", "kafka/password_file"), ("strimzi-tls", "kafka/cert_file")):
        for manifest in chart.of_kind(chart.render(case), *chart.WORKLOADS):
            role = chart.component(manifest)
            (volume,) = [volume for volume in chart.pod(manifest)["volumes"] if volume["name"] == "secrets"]
            secrets = {item["path"]: source["secret"]["name"] for source in volume["projected"]["sources"] for item in source["secret"]["items"]}
            assert secrets[file] == f"waypost-{role}"
            assert secrets["kafka/ca_file"] == ("shop-cluster-ca-cert" if case == "strimzi" else "shop-ca")
            env = {variable["name"]: variable.get("value") for variable in chart.pod(manifest)["containers"][0].get("env", [])}
            assert env.get("WAYPOST_KAFKA_USERNAME") == (f"waypost-{role}" if case == "strimzi" else None)
    types = {user["spec"]["authentication"]["type"] for user in chart.of_kind(chart.render("strimzi-tls"), "KafkaUser")}
    assert types == {"tls"}


def test_a_role_may_have_its_own_user_without_strimzi():
    found = {}
    for manifest in chart.of_kind(chart.render("production"), *chart.WORKLOADS):
        env = {variable["name"]: variable.get("value") for variable in chart.pod(manifest)["containers"][0]["env"]}
        whose = manifest["metadata"]["name"] if manifest["kind"] == "CronJob" else chart.component(manifest)
        found[whose] = env["WAYPOST_KAFKA_USERNAME"]
    assert found.pop("segmenter") == "waypost-segmenter"
    assert found.pop("jobs") == found.pop("waypost-backup") == "waypost-admin"
    assert found.pop("waypost-operator") == "waypost-operator"
    assert set(found.values()) == {"waypost"}


def test_keda_asks_the_group_and_the_inbox():
    (scaled,) = [m for m in chart.of_kind(chart.render("strimzi"), "ScaledObject")]
    asked = scaled["spec"]["triggers"][0]["metadata"]
    assert (asked["consumerGroup"], asked["topic"]) == ("Shop_A.waypost.1.orchestrator", "Shop_A.wp1.journey")
    (auth,) = chart.of_kind(chart.render("strimzi"), "TriggerAuthentication")
    assert scaled["spec"]["triggers"][0]["authenticationRef"]["name"] == auth["metadata"]["name"]


def test_readme_tells_the_same_rights():
    told = re.findall(r"^\| (\w+) \| (.+?) \| (.+?) \| (.*)\|$", (chart.CHART / "README.md").read_text(), re.MULTILINE)
    roles = {role: columns for role, *columns in told if role in users("strimzi") and role != "jobs"}
    assert set(roles) == set(users("strimzi")) - {"jobs"}
    everybody = {"wp1.control", "wp1.definitions", "wp1.progress"}
    for role, (reads, writes, group) in roles.items():
        assert set(re.findall(r"`(.+?)`", reads)) | everybody == may("strimzi", role, "Read"), role
        assert set(re.findall(r"`(.+?)`", writes)) | {"wp1.progress"} == may("strimzi", role, "Write"), role
        joined = {name.removeprefix("Shop_A.") for (kind, name), rights in users("strimzi")[role].items() if kind == "group" and "Read" in rights}
        assert set(re.findall(r"`(.+?)`", group)) == joined, role
