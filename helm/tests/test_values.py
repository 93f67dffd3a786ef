"""values.yaml, its documentation, its schema and the templates speak of the same things."""

import json
import re

import pytest

import chart
import documented

SCHEMA = json.loads((chart.CHART / "values.schema.json").read_text())
ROLES = re.findall(r'Self::\w+ => "(\w+)"', (chart.ROOT / "crates/types/src/role.rs").read_text())


def test_every_value_is_documented():
    known = {path for path, _ in documented.rows()}
    blocks = [("roles", role) for role in ("identity", "segmenter", "orchestrator", "sender")]
    ours = [("roles", role, name) for role in ("ingest", "control") for name in ("preStopSleepSeconds", "resources")]
    missing = documented.undocumented(chart.VALUES, known | set(blocks) | set(ours))
    assert not missing, [".".join(path) for path in missing]


def test_readme_has_the_table():
    path = chart.CHART / "README.md"
    if chart.WRITE:
        path.write_text(documented.readme(path.read_text()))
    assert path.read_text() == documented.readme(path.read_text()), "UPDATE_GOLDEN=1 writes it anew"


def test_an_undocumented_value_would_be_found():
    assert documented.undocumented({"a": {"b": 1, "c": {}}, "d": {"e": 2}}, {("d",), ("a", "b")}) == [("a", "c")]
    assert documented.rows("a:\n  # -- says\n  b: 1\n  c: 2\n# -- more\nd: {}\n") == [(("a", "b"), "says"), (("d",), "more")]


def is_used(path):
    """Whether some template names it: whole, or its beginning and then the rest of it."""
    for cut in range(len(path), 0, -1):
        begin, rest = list(path[:cut]), path[cut:]
        roots = [r"Values\." + r"\.".join(begin), r"\$v\." + r"\.".join(begin)]
        if begin[0] == "roleDefaults":
            roots = [r"\$role\." + r"\.".join(begin[1:])] if begin[1:] else [r"fromYaml\)"]
        if begin[0] == "roles" and begin[2:]:
            roots = [r"\$role\." + r"\.".join(begin[2:])]
        if not any(re.search(root + r"\b", chart.TEMPLATES) for root in roots):
            continue
        if not rest or re.search(r"[ (\w]\." + r"\.".join(rest) + r"\b", chart.TEMPLATES):
            return True
    return False


def test_every_value_is_used():
    unused = [".".join(path) for path, _ in documented.rows() if path[0] != "config" and not is_used(path)]
    assert not unused, unused
    assert not is_used(("kafka", "tls", "nobody")) and not is_used(("nobody",)) and not is_used(("roleDefaults", "keda", "nobody"))


def test_every_role_has_a_block_and_every_block_is_a_role():
    assert len(ROLES) == 6
    assert list(chart.VALUES["roles"]) == ROLES
    assert list(SCHEMA["properties"]["roles"]["properties"]) == ROLES
    assert list(chart.deployments("minimal")) == sorted(ROLES, key=list(chart.deployments("minimal")).index)
    assert set(chart.deployments("minimal")) == set(ROLES)
    for role, manifest in chart.deployments("minimal").items():
        assert chart.pod(manifest)["containers"][0]["args"] == ["serve", "--config", "/etc/waypost/waypost.toml", "--role", role]


def objects(schema, path=""):
    """Every object that the schema describes key by key, with its path."""
    if "$ref" in schema:
        return
    if schema.get("type") == "object" and "properties" in schema:
        yield path, schema
        for name, below in schema["properties"].items():
            yield from objects(below, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from objects(schema["items"], f"{path}[]")


def test_schema_allows_no_unknown_key():
    described = list(objects(SCHEMA)) + [entry for name, below in SCHEMA["definitions"].items() for entry in objects(below, f"definitions.{name}")]
    assert len(described) > 50
    open_ones = [path for path, schema in described if schema.get("additionalProperties") is not False]
    assert open_ones == [".global"], "only what charts share may have more"


def resolve(schema):
    while "$ref" in schema:
        at = SCHEMA
        for name in schema["$ref"].removeprefix("#/").split("/"):
            at = at[name]
        schema = at
    return schema


def test_schema_knows_exactly_the_values():
    def compare(values, schema, path):
        schema = resolve(schema)
        if not isinstance(values, dict) or "properties" not in schema:
            return
        known = {(".".join(row[0])) for row in documented.rows()}
        if path in known or path.startswith("roles."):
            assert set(values) <= set(schema["properties"]), path
        else:
            assert set(values) == set(schema["properties"]), path
        for name, below in values.items():
            compare(below, schema["properties"][name], f"{path}.{name}".lstrip("."))

    compare(chart.VALUES, SCHEMA, "")


@pytest.mark.parametrize(
    "typo",
    [
        "kafak={}",
        "kafka.bootstrapServer=\"k:9092\"",
        "kafka.tls.enable=true",
        "kafka.sasl.mechanism=\"scram-sha-1\"",
        "redis.endpoint=[]",
        "redis.endpoints=[\"redis\"]",
        "redis.mode=\"standalon\"",
        "config.kafka={\"brokers\": \"k:9092\"}",
        "config.install.partitions=6",
        "config.install.partitions=512",
        "config.process.grace=30",
        "config.process.grace_s=1",
        "config.log.format=\"xml\"",
        "image.digest=\"sha256:1\"",
        "roleDefaults.replicas=2",
        "roles.sendr={}",
        "roles.sender.replicaCount=\"two\"",
        "roles.sender.service={}",
        "roles.control.service.typo=1",
        "roles.ingest.probes.readyness={}",
        "roles.ingest.resources.limit={}",
        "roles.ingest.extraEnv=[{\"key\": \"A\"}]",
        "roles.ingest.keda.minReplicaCount=0",
        "roles.ingest.podDisruptionBudget.unhealthyPodEvictionPolicy=\"Never\"",
        "networkPolicy.egress.kafka=[{\"ipblock\": {}}]",
        "serviceMonitor.interval=\"often\"",
        "ingress.hosts=[{\"hostname\": \"a\"}]",
        "strimzi.authentication=\"plain\"",
    ],
)
def test_schema_refuses(typo):
    assert "values don't meet the specifications of the schema" in chart.refusal("minimal", typo)
