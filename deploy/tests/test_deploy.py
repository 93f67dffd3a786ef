"""What can be said of the image, compose, the dashboards, alerts and runbooks without a container engine."""

import fnmatch
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
ALERTS = ROOT / "helm/waypost/files/alerts.yaml"
DASHBOARDS = ROOT / "helm/waypost/files/dashboards"
RUNBOOKS = ROOT / "docs/runbooks"
METRICS = ROOT / "docs/metrics.md"
BINARIES = {name: ROOT / "target/debug" / name for name in ("waypost", "waypostctl")}
ROLES = {"ingest", "identity", "segmenter", "orchestrator", "sender", "control"}


def load(path):
    return yaml.safe_load(path.read_text())


def toml(path):
    return tomllib.loads(path.read_text())


def needs(binary):
    return pytest.mark.skipif(not BINARIES[binary].exists(), reason=f"target/debug/{binary} is not built")


def run(binary, *arguments, environment=None):
    """Runs a binary of ours with no variables but those given."""
    command = [BINARIES[binary], *arguments]
    return subprocess.run(command, env=environment or {}, capture_output=True, text=True, timeout=30, check=False)


compose = load(COMPOSE)
services = compose["services"]
settings = toml(DEPLOY / "config/waypost.toml")
defaults = toml(ROOT / "crates/app/src/default.toml")
version = toml(ROOT / "Cargo.toml")["workspace"]["package"]["version"]
ours = {name: service for name, service in services.items() if service["image"].startswith("waypost:")}
serving = {name: service for name, service in ours.items() if service.get("command", [""])[0] == "serve"}


def port(listen):
    return int(listen.rsplit(":", 1)[1])


def each(mapping):
    return pytest.mark.parametrize("name", sorted(mapping))


# ---- the image -----------------------------------------------------------------------------------------


@functools.cache
def dockerfile():
    """Instructions of the Dockerfile: pairs of keyword and the rest of the line."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def of(keyword):
    return [rest for word, rest in dockerfile() if word == keyword]


def pinned(image):
    name, _, tag = image.partition("@")[0].rpartition(":")
    return bool(name) and "/" not in tag and tag not in ("", "latest")


def test_base_images_are_pinned_and_the_toolchain_is_the_repositorys():
    build, runtime = of("FROM")
    assert pinned(build.split()[0]) and pinned(runtime)
    channel = toml(ROOT / "rust-toolchain.toml")["toolchain"]["channel"]
    assert build.split()[0].startswith(f"rust:{channel}-bookworm")
    # the same Debian, or the C library could be older than what was linked
    assert "debian12" in runtime


def test_the_image_runs_as_nobody_and_without_a_shell():
    user = of("USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "Kubernetes can only tell numbers to be no root"
    assert json.loads(of("ENTRYPOINT")[-1]) == ["/usr/local/bin/waypost"]
    check = of("HEALTHCHECK")[-1].split(" CMD ", 1)[1]
    assert json.loads(check) == ["/usr/local/bin/waypost", "health"]
    assert any(rest.endswith("/out/waypostctl /usr/local/bin/") for rest in of("COPY"))
    assert f"VERSION={version}" in of("ARG")


def left_out(path):
    """Whether .dockerignore keeps a path out of the context; the last pattern that fits decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().rstrip("/")
        if pattern and not pattern.startswith("#"):
            names = [path, *(str(parent) for parent in Path(path).parents)]
            if any(fnmatch.fnmatch(name, pattern.lstrip("!")) for name in names if name != "."):
                out = not pattern.startswith("!")
    return out


def sources():
    for rest in of("COPY"):
        if not rest.startswith("--from="):
            yield from rest.split()[:-1]


def test_what_the_image_copies_is_there_and_in_the_context():
    copied = set(sources())
    for source in copied:
        assert (ROOT / source).exists() and not left_out(source), source
    for source in (".git", ".stack", "target", "deploy/config", "docs"):
        assert left_out(source), f"{source} would travel to the builder at every build"


def test_the_image_copies_what_the_build_needs():
    copied = set(sources())
    members = toml(ROOT / "Cargo.toml")["workspace"]["members"]
    assert {Path(member).parts[0] for member in members} <= copied
    # texts that the sources embed from outside of their crates
    for source in (ROOT / "crates").glob("*/src/**/*.rs"):
        if source.name.startswith("tests") or source.parts[len(ROOT.parts) + 1] in ("fuzz", "sim", "bench"):
            continue
        code = source.read_text().split("#[cfg(test)]")[0]
        for climb in re.findall(r'include_(?:str|bytes)!\((?:concat!\()?"((?:\.\./)+[a-z]*)', code):
            target = Path(os.path.normpath(source.parent / climb)).relative_to(ROOT)
            assert target.parts[0] in copied, f"{source} embeds {target}"


def test_the_image_is_built_with_an_openssl_of_its_own():
    (build,) = [rest for rest in of("RUN") if "cargo build" in rest]
    assert "--locked" in build and "--release" in build
    (feature,) = re.findall(r"--features waypost/([\w-]+)", build)
    assert feature in toml(ROOT / "crates/app/Cargo.toml")["features"]
    # or the runtime image would need the C library that the builder linked
    assert feature == "vendored-openssl" and 'name = "openssl-src"' in (ROOT / "Cargo.lock").read_text()


@needs("waypost")
def test_the_binary_knows_the_command_that_asks_for_its_health():
    told = run("waypost", "health", "--help")
    assert told.returncode == 0 and "--ready" in told.stdout


# ---- compose -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [COMPOSE, DEPLOY / "local/compose.yaml"], ids=lambda path: str(path.relative_to(ROOT)))
def test_compose_files_are_what_their_schema_says(path):
    schema = json.loads(Path(os.environ["COMPOSE_SCHEMA"]).read_text())
    # younger than the schema
    schema["properties"].setdefault("name", {"type": "string"})
    jsonschema.Draft7Validator(schema).validate(load(path))


def test_the_schema_refuses_what_it_does_not_know():
    schema = json.loads(Path(os.environ["COMPOSE_SCHEMA"]).read_text())
    service = {**services["redis"], "imagee": "x"}
    assert not jsonschema.Draft7Validator(schema).is_valid({"services": {"redis": service}})


def test_the_stack_of_the_tests_has_its_compose_file():
    assert '-f "$HERE/compose.yaml"' in (DEPLOY / "local/stack.sh").read_text()


@each(services)
def test_images_are_pinned(name):
    assert pinned(default_of(services[name]["image"])), services[name]["image"]


def default_of(text):
    """A value with its variables replaced by their defaults."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_every_variable_has_a_default():
    text = re.sub(r"^\s*#.*$", "", COMPOSE.read_text(), flags=re.M)
    assert "$" not in default_of(text).replace("$$", "")
    assert default_of(ours["init"]["image"]) == f"waypost:{version}"


@each(services)
def test_containers_have_no_rights_that_they_do_not_need(name):
    service = services[name]
    assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service and "cap_add" not in service
    assert service.get("user") != "root" and not str(service.get("user", "")).startswith("0")
    # the two that write their own configuration at start
    assert service.get("read_only") or name in ("kafka", "registry")


@each(ours)
def test_our_containers_run_as_the_image_does(name):
    service = ours[name]
    assert service["user"] == of("USER")[-1] and service["read_only"] is True
    assert (COMPOSE.parent / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]) == DEPLOY / "Dockerfile"


@each(services)
def test_mounts_exist(name):
    for mount in services[name].get("volumes", []):
        source, target, *mode = mount.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (COMPOSE.parent / source).exists(), source
            assert mode == ["ro"], f"{mount}: nothing of the repository may be written to"
        else:
            assert source in compose["volumes"], source
            assert not mode
    for secret in services[name].get("secrets", []):
        assert secret in compose["secrets"]


def test_secrets_are_files_that_hold_what_they_should():
    file = default_of(compose["secrets"]["link-key"]["file"])
    assert re.fullmatch(r"[0-9a-f]{64}\n", (COMPOSE.parent / file).read_text())
    assert settings["secrets"]["link_key_file"] == "/run/secrets/link-key"


def test_nothing_is_declared_in_vain():
    used = {mount.split(":")[0] for service in services.values() for mount in service.get("volumes", [])}
    assert set(compose["volumes"]) <= used
    assert set(compose["networks"]) == {network for service in services.values() for network in service["networks"]}


def published():
    return [(name, *entry.split(":")) for name, service in services.items() for entry in service.get("ports", [])]


def test_only_loopback_is_listened_on_and_each_port_once():
    ports = published()
    assert {address for _, address, _, _ in ports} == {"127.0.0.1"}
    outside = [host for _, _, host, _ in ports]
    assert len(outside) == len(set(outside))
    inside = {name: int(port) for name, _, _, port in ports}
    assert inside["ingest"] == port(settings["ingest"]["listen"])
    assert inside["control"] == port(settings["control"]["listen"])
    assert ("kafka", "127.0.0.1", "19092", "19092") in ports
    assert "HOST://127.0.0.1:19092" in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]


def share_a_network(one, other):
    return set(services[one]["networks"]) & set(services[other]["networks"])


@each(services)
def test_dependencies_exist_and_can_be_waited_for(name):
    for other, how in services[name].get("depends_on", {}).items():
        check = services[other].get("healthcheck", {})
        if how["condition"] == "service_healthy":
            assert check.get("test"), f"{other} cannot become healthy"
        if how["condition"] == "service_completed_successfully":
            assert services[other]["restart"] == "no", f"{other} never completes"
        assert share_a_network(name, other), f"{name} cannot reach {other}"


def test_each_role_runs_once():
    assert sorted(service["command"][2] for service in serving.values()) == sorted(ROLES)
    assert all(service["command"] == ["serve", "--role", name] for name, service in serving.items())
    assert services["init"]["command"] == ["init"]


# ---- the settings of compose ---------------------------------------------------------------------------


def test_settings_are_those_of_the_default_file():
    for section, values in settings.items():
        for key, value in values.items():
            assert key in defaults[section], f"{section}.{key} is no setting"
            assert type(value) is type(defaults[section][key]), f"{section}.{key}"


@each(ours)
def test_variables_are_settings(name):
    known = {f"WAYPOST_{section}_{key}".upper() for section, values in defaults.items() for key in values}
    own = {"init": set(), "ctl": {"WAYPOST_SERVER", "WAYPOST_TOKEN"}}.get(name, set())
    for variable in ours[name]["environment"]:
        assert variable in known | own | {"WAYPOST_CONFIG"}, variable


def inside(service):
    """The files that a container of ours sees, with the files of this repository they are."""
    seen = {mount.split(":")[1]: COMPOSE.parent / mount.split(":")[0] for mount in service["volumes"]}
    seen.update({f"/run/secrets/{name}": COMPOSE.parent / default_of(compose["secrets"][name]["file"]) for name in service["secrets"]})
    return seen


@each(serving)
def test_processes_find_their_files_and_tell_each_other_where_they_are(name):
    service, seen = serving[name], inside(serving[name])
    assert seen[service["environment"]["WAYPOST_CONFIG"]] == DEPLOY / "config/waypost.toml"
    assert settings["control"]["access_file"] in seen and settings["secrets"]["link_key_file"] in seen
    assert service["environment"]["WAYPOST_OWNER_ADVERTISE"] == f"{name}:{port(settings['owner']['listen'])}"
    assert service["healthcheck"]["test"] == ["CMD", *json.loads(of("HEALTHCHECK")[-1].split(" CMD ", 1)[1]), "--ready"]
    assert int(service["stop_grace_period"].removesuffix("s")) >= defaults["process"]["grace_s"] + 5


def test_the_hosts_of_the_settings_are_services_in_reach():
    mail = f"{settings['mail']['smtp_host']}:{settings['mail']['smtp_port']}"
    reached = [
        ("identity", "kafka", settings["kafka"]["brokers"], "INNER://kafka:9092"),
        ("identity", "redis", settings["redis"]["url"], "6379"),
        ("identity", "registry", settings["registry"]["url"], "8080"),
        ("sender", "mailpit", mail, "1025"),
        ("ingest", "collector", settings["telemetry"]["otlp_endpoint"], "4317"),
    ]
    for caller, host, address, expected in reached:
        assert re.search(rf"(^|//){host}:", address) and expected.rsplit(":")[-1] in address
        assert share_a_network(caller, host)
    assert "INNER://kafka:9092" in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert services["registry"]["environment"]["APICURIO_KAFKASQL_BOOTSTRAP_SERVERS"] == settings["kafka"]["brokers"]


def test_redis_is_set_as_the_doctor_wants_it():
    command = services["redis"]["command"]
    pairs = dict(zip(command[1::2], command[2::2], strict=True))
    assert pairs["--maxmemory-policy"] == "noeviction" and pairs["--appendonly"] == "yes" and pairs["--maxmemory"] != "0"


def test_the_development_token_is_the_one_that_is_written_down():
    token = services["ctl"]["environment"]["WAYPOST_TOKEN"]
    assert "development" in token and f"`{token}`" in COMPOSE.read_text()
    (entry,) = toml(DEPLOY / "config/access.toml")["token"]
    assert entry["hash"] == hashlib.sha256(token.encode()).hexdigest()
    assert services["ctl"]["environment"]["WAYPOST_SERVER"] == f"http://control:{port(settings['control']['listen'])}"


@needs("waypost")
@each(serving)
def test_the_binary_takes_exactly_these_settings(name):
    seen = inside(serving[name])
    environment = {
        **serving[name]["environment"],
        "WAYPOST_CONFIG": str(DEPLOY / "config/waypost.toml"),
        "WAYPOST_CONTROL_ACCESS_FILE": str(seen[settings["control"]["access_file"]]),
        "WAYPOST_SECRETS_LINK_KEY_FILE": str(seen[settings["secrets"]["link_key_file"]]),
    }
    checked = run("waypost", "config", "check", environment=environment)
    assert checked.returncode == 0, checked.stderr
    assert run("waypost", "config", "check", environment={**environment, "WAYPOST_MAIL_SMTP_TLS": "maybe"}).returncode != 0


@needs("waypost")
def test_the_binary_takes_exactly_these_commands():
    for service in (*serving.values(), services["init"]):
        checked = run("waypost", *service["command"], "--help")
        assert checked.returncode == 0, checked.stderr
    assert run("waypost", "serve", "--role", "nobody", "--help").returncode != 0, "or this says nothing of roles"


@needs("waypostctl")
def test_waypostctl_takes_the_token_from_its_variable():
    assert "WAYPOST_TOKEN" in run("waypostctl", "--help").stdout


# ---- telemetry around it -------------------------------------------------------------------------------


def test_prometheus_asks_every_process_and_reads_the_alerts():
    prometheus = load(DEPLOY / "prometheus/prometheus.yml")
    jobs = {job["job_name"]: job for job in prometheus["scrape_configs"]}
    admin = port(settings["admin"]["listen"])
    assert set(jobs["waypost"]["static_configs"][0]["targets"]) == {f"{name}:{admin}" for name in serving}
    for job in jobs.values():
        for target in (target for config in job["static_configs"] for target in config["targets"]):
            host = target.split(":")[0]
            assert host == "localhost" or share_a_network("prometheus", host)
    mounts = {mount.split(":")[1]: mount.split(":")[0] for mount in services["prometheus"]["volumes"] if mount.startswith(".")}
    assert (COMPOSE.parent / mounts["/etc/prometheus/rules/alerts.yaml"]).resolve() == ALERTS
    assert prometheus["rule_files"] == ["rules/*.yaml"]
    assert "--config.file=/etc/prometheus/prometheus.yml" in services["prometheus"]["command"]


def test_the_collectors_pipelines_consist_of_what_it_has():
    collector = load(DEPLOY / "otel/collector.yaml")
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(collector[kind])
    used = {(kind, name) for pipeline in collector["service"]["pipelines"].values() for kind in pipeline for name in pipeline[kind]}
    assert {(kind, name) for kind in ("receivers", "processors", "exporters") for name in collector[kind]} == used
    exported = port(collector["exporters"]["prometheus"]["endpoint"])
    jobs = {job["job_name"]: job for job in load(DEPLOY / "prometheus/prometheus.yml")["scrape_configs"]}
    assert jobs["collector"]["static_configs"][0]["targets"] == [f"collector:{exported}"]
    inner = {int(entry[3]) for entry in published() if entry[0] == "collector"}
    assert inner == {port(protocol["endpoint"]) for protocol in collector["receivers"]["otlp"]["protocols"].values()}
    assert collector["receivers"]["kafkametrics"]["brokers"] == [settings["kafka"]["brokers"]]


def test_grafana_finds_its_data_source_and_the_dashboards():
    (source,) = load(DEPLOY / "grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert source["type"] == "prometheus" and source["url"] == "http://prometheus:9090"
    assert share_a_network("grafana", "prometheus")
    (provider,) = load(DEPLOY / "grafana/provisioning/dashboards/waypost.yaml")["providers"]
    mounts = {mount.split(":")[1]: mount.split(":")[0] for mount in services["grafana"]["volumes"]}
    assert (COMPOSE.parent / mounts[provider["options"]["path"]]).resolve() == DASHBOARDS
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (DASHBOARDS / Path(home).name).exists() and Path(home).parent == Path(provider["options"]["path"])


# ---- metrics -------------------------------------------------------------------------------------------

# What other programs tell: Prometheus itself, an exporter for Kafka, kube-state-metrics.
FOREIGN = {"up", "ALERTS", "kafka_consumergroup_lag", "kube_pod_container_resource_limits"}
# Labels that a scrape adds, and that of a histogram's buckets.
TARGET = {"namespace", "job", "instance", "pod", "le"}
WORDS = {"and", "or", "unless", "by", "on", "ignoring", "without", "group_left", "group_right", "bool", "offset"}
rules = [rule for group in load(ALERTS)["groups"] for rule in group["rules"]]
recorded = {rule["record"] for rule in rules if "record" in rule}
alerts = [rule for rule in rules if "alert" in rule]
names = sorted({rule["alert"] for rule in alerts})


@functools.cache
def told():
    """The metrics of docs/metrics.md with their labels; a test of the processes holds that page against /metrics."""
    rows = re.findall(r"^\| `((?:waypost|process)_\w+)` \| \w+ \|([^|]*)\|", METRICS.read_text(), flags=re.M)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def metrics_of(expression):
    """Names of the metrics in an expression: identifiers that are neither label, function nor word of the language."""
    text = re.sub(r'"(?:\\.|[^"\\])*"', "", expression)
    text = re.sub(r"\{[^}]*\}", " ", text)
    text = re.sub(r"\[[^\]]*\]", " ", text)
    text = re.sub(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)", " ", text)
    found = re.findall(r"(?<![\w.:])([a-zA-Z_:][\w:]*)(?!\w)(\s*\()?", text)
    return {name for name, call in found if not call and name not in WORDS}


def base(metric):
    """A histogram's own name."""
    return metric if metric in told() else re.sub(r"_(?:bucket|count|sum)$", "", metric)


def unknown(expression):
    """Metrics that nobody has, and labels that none of ours has."""
    known = told().keys() | FOREIGN | recorded
    wrong = {metric for metric in metrics_of(expression) if base(metric) not in known}
    bare = re.sub(r'"(?:\\.|[^"\\])*"', '""', expression)
    for metric, matchers in re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", bare):
        if base(metric) in told():
            labels = set(re.findall(r"(\w+)\s*[!=]", matchers))
            wrong |= {f"{metric}{{{label}}}" for label in labels - told()[base(metric)] - TARGET}
    if not metrics_of(expression) & (FOREIGN - {"up"} | recorded):
        kept = {label.strip() for labels in re.findall(r"\b(?:by|on|ignoring)\s*\(([^)]*)\)", bare) for label in labels.split(",")}
        wrong |= kept - set().union(*(told().get(base(metric), set()) for metric in metrics_of(expression))) - TARGET
    return wrong


def test_names_are_found_in_expressions():
    text = 'sum by (a, b) (rate(x_bucket{le="y"}[5m])) / on (c) group_left () z:r > bool 0.5 and w offset 6h unless up == 0'
    assert metrics_of(text) == {"x_bucket", "z:r", "w", "up"}
    assert unknown("rate(waypost_no_such_total[5m])") == {"waypost_no_such_total"}
    assert unknown('sum by (rolle) (waypost_partitions_led{topic="x",role="y"})') == {"waypost_partitions_led{topic}", "rolle"}
    assert len(told()) > 20


# ---- dashboards ----------------------------------------------------------------------------------------


def generator():
    spec = importlib.util.spec_from_file_location("dashboards", DEPLOY / "grafana/dashboards.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


boards = {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def test_dashboards_are_current():
    files = generator().files()
    assert {path.name for path in DASHBOARDS.glob("*.json")} == set(files)
    for name, text in files.items():
        assert (DASHBOARDS / name).read_text() == text, f"{name}: run python3 deploy/grafana/dashboards.py"


def test_there_are_the_five_dashboards_each_with_its_own_uid():
    assert set(boards) == {"overview", "pipeline", "journeys", "sending", "internals"}
    assert {board["uid"] for board in boards.values()} == {f"waypost-{name}" for name in boards}


@each(boards)
def test_dashboards_are_as_the_conventions_say(name):
    board = boards[name]
    assert board["schemaVersion"] == 39 and board["graphTooltip"] == 2 and "waypost" in board["tags"]
    variables = board["templating"]["list"]
    assert [variable["name"] for variable in variables[:3]] == ["datasource", "cluster", "role"]
    for variable in variables[1:]:
        assert variable["datasource"]["uid"] == "${datasource}"
        assert unknown(re.match(r"label_values\((\w+)", variable["definition"])[1]) == set()
    assert all(link["keepTime"] and link["includeVars"] for link in board["links"])
    linked = {link.get("url") for link in board["links"]}
    assert {f"/d/waypost-{other}" for other in ("overview", "internals") if other != name} <= linked


@each(boards)
def test_each_panel_shows_metrics_that_exist(name):
    panels = [panel for panel in boards[name]["panels"] if panel["type"] not in ("row", "text")]
    assert len(panels) >= 7
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}" and panel["targets"]
        for target in panel["targets"]:
            assert unknown(target["expr"]) == set(), panel["title"]
            assert metrics_of(target["expr"]), panel["title"]


@each(boards)
def test_panels_do_not_overlap(name):
    taken = set()
    for panel in boards[name]["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in boards[name]["panels"]]
    assert len(ids) == len(set(ids))


def test_every_metric_of_ours_is_shown_or_rings_somewhere():
    shown = "".join(path.read_text() for path in DASHBOARDS.glob("*.json")) + ALERTS.read_text()
    assert {name for name in told() if name not in shown} == set()


# ---- alerts and runbooks -------------------------------------------------------------------------------


def page_of(alert):
    return re.sub(r"(?<!^)(?=[A-Z])", "-", alert).lower() + ".md"


def test_each_alert_has_its_page_and_each_page_its_alert():
    assert {page_of(name) for name in names} == {path.name for path in RUNBOOKS.glob("*.md")} - {"README.md"}
    index = (RUNBOOKS / "README.md").read_text()
    for name in names:
        severities = sorted({alert["labels"]["severity"] for alert in alerts if alert["alert"] == name})
        assert f"| [{name}]({page_of(name)}) | {', '.join(severities)} |" in index


@pytest.mark.parametrize("alert", alerts, ids=lambda alert: "-".join([alert["alert"], alert["labels"].get("window", alert["labels"]["severity"])]))
def test_alerts_say_what_is_felt_and_where_to_read_on(alert):
    assert unknown(alert["expr"]) == set()
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert len(alert["annotations"]["description"]) > 60
    assert alert["annotations"]["runbook_url"] == f"https://github.com/waypost/waypost/blob/main/docs/runbooks/{page_of(alert['alert'])}"


@pytest.mark.parametrize("rule", [rule for rule in rules if "record" in rule], ids=lambda rule: rule["record"])
def test_recorded_ratios_rest_on_metrics_that_exist(rule):
    assert unknown(rule["expr"]) == set()


def test_each_alert_is_seen_to_fire_and_to_stay_silent():
    fired, quiet = set(), set()
    for case in load(DEPLOY / "prometheus/alerts.test.yaml")["tests"]:
        for look in case.get("promql_expr_test", []):
            alert = re.search(r'alertname="(\w+)"', look["expr"])[1]
            samples = look["exp_samples"]
            if samples:
                fired.add(alert)
            if not samples or any("calm" in entry["series"] for entry in case["input_series"]):
                quiet.add(alert)
                assert not any("calm" in sample["labels"] for sample in samples)
    assert fired == quiet == set(names)


promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)")


@promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "rules", str(ALERTS)],
        ["check", "config", str(DEPLOY / "prometheus/prometheus.yml")],
        ["test", "rules", str(DEPLOY / "prometheus/alerts.test.yaml")],
    ],
    ids=lambda arguments: "-".join(arguments[:2]),
)
def test_promtool_finds_nothing(arguments):
    checked = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


pages = {path.stem: path.read_text() for path in sorted(RUNBOOKS.glob("waypost-*.md"))}


@each(pages)
def test_pages_are_short_and_have_the_same_parts(name):
    text = pages[name]
    assert re.findall(r"^## (.+)$", text, flags=re.M) == ["What it means", "How to see it", "What to do", "What not to do"]
    assert 25 <= len(text.splitlines()) <= 45
    (alert,) = [alert for alert in names if page_of(alert) == f"{name}.md"]
    assert text.startswith(f"# {alert}\n\nSeverity: ")


@pytest.mark.parametrize("name", [*sorted(pages), "README"])
def test_links_of_pages_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)]+)\)", (RUNBOOKS / f"{name}.md").read_text()):
        assert target.startswith("https://") or (RUNBOOKS / target).resolve().exists(), target


def commands():
    """Commands of ours that the pages name, with the flags they give: (page, binary, subcommands, flags)."""
    found = set()
    for name, text in {**pages, "README": (RUNBOOKS / "README.md").read_text()}.items():
        blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.S)
        text = re.sub(r"```.*?```", "", text, flags=re.S)
        lines = re.sub(r"\\\n", " ", "\n".join(blocks)).splitlines() + re.findall(r"`([^`]+)`", text)
        for line in lines:
            call = re.search(r"\b(waypost|waypostctl) ([a-z][^#|]*)", " ".join(line.split("#")[0].split()))
            if call:
                words = call[2].split()
                subcommands = []
                while words and re.fullmatch(r"[a-z-]+", words[0]) and not words[0].startswith("-"):
                    subcommands.append(words.pop(0))
                flags = tuple(word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word))
                found.add((name, call[1], tuple(subcommands), flags))
    return sorted(found)


@needs("waypost")
@needs("waypostctl")
@pytest.mark.parametrize("command", commands(), ids=lambda command: " ".join([command[0], command[1], *command[2], *command[3]]))
def test_pages_name_commands_that_exist(command):
    _, binary, subcommands, flags = command
    told = run(binary, *subcommands, "--help")
    assert told.returncode == 0, told.stderr
    for flag in flags:
        assert re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", told.stdout), f"{binary} {' '.join(subcommands)} has no {flag}"
    if subcommands:
        assert run(binary, subcommands[0] + "-no-such", "--help").returncode != 0
