"""Every file of values: linted, rendered, compared, and judged by the schemas of Kubernetes and of the custom resources."""

import json
import re
import shutil

import jsonschema
import kubernetes_validate
import pytest
import yaml

import chart

OWN = {path.stem: json.loads(path.read_text()) for path in (chart.TESTS / "schemas").glob("*.json")}
# The oldest that Chart.yaml allows, and the newest that is known.
VERSIONS = ("1.30", "1.37")


def without_foreign_files(manifest):
    """A manifest without what `files/` holds: alerts and dashboards are compared with their files elsewhere."""
    if manifest["kind"] == "PrometheusRule":
        return {**manifest, "spec": "files/alerts.yaml"}
    return manifest


def is_dashboard(manifest):
    return "-dashboard-" in manifest["metadata"]["name"]


def golden(case):
    manifests = [without_foreign_files(manifest) for manifest in chart.render(case) if not is_dashboard(manifest)]
    return yaml.safe_dump_all(manifests, default_flow_style=None, sort_keys=True, width=160)


@pytest.mark.parametrize("case", chart.CASES)
def test_lint_has_nothing_to_say(case):
    code, out, err = chart.run("lint", "--strict", chart.CHART, "-f", chart.values(case))
    assert code == 0, out + err
    assert not re.search(r"\[(WARNING|ERROR)\]|funcMap fail", out + err), out + err


@pytest.mark.parametrize("case", chart.CASES)
def test_render_is_as_it_was(case):
    path = chart.TESTS / f"golden/{case}.yaml"
    if chart.WRITE:
        path.write_text(golden(case))
    assert golden(case) == path.read_text(), "UPDATE_GOLDEN=1 writes it anew; then look at the difference"


def test_every_golden_render_has_its_values():
    assert sorted(path.stem for path in (chart.TESTS / "golden").glob("*.yaml")) == chart.CASES


@pytest.mark.parametrize("case", chart.CASES)
def test_schemas_accept_every_manifest(case):
    for manifest in chart.render(case):
        where = f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["kind"] in OWN:
            problems = list(jsonschema.Draft7Validator(OWN[manifest["kind"]]).iter_errors(manifest))
            assert not problems, f"{where}: {problems[0].message}"
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.SchemaNotFoundError:
                pytest.fail(f"{where}: no schema; if it is a custom resource, write one in helm/tests/schemas")
            except kubernetes_validate.ValidationError as error:
                pytest.fail(f"{where} in {version}: {error.message}")


def test_schemas_find_what_is_wrong():
    (deployment, *_) = chart.of_kind(chart.render("minimal"), "Deployment")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**deployment, "spec": {**deployment["spec"], "replcas": 1}}, VERSIONS[-1], strict=True)
    for kind, schema in OWN.items():
        jsonschema.Draft7Validator.check_schema(schema)
        (found, *_) = [manifest for case in chart.CASES for manifest in chart.of_kind(chart.render(case), kind)]
        spoilt = {**found, "spec": {**found["spec"], "tpyo": 1}}
        assert list(jsonschema.Draft7Validator(schema).iter_errors(spoilt)), f"{kind} takes any key"


@pytest.mark.parametrize("case", chart.CASES)
def test_nothing_is_there_twice(case):
    named = [(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in chart.render(case)]
    assert len(named) == len(set(named)), "a kind and name twice"
    for manifest in chart.of_kind(chart.render(case), *chart.WORKLOADS):
        ports = []
        for container in chart.containers(manifest):
            env = [variable["name"] for variable in container.get("env", [])]
            assert len(env) == len(set(env)), f"{manifest['metadata']['name']}: a variable twice"
            mounts = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            assert len(mounts) == len(set(mounts)), f"{manifest['metadata']['name']}: a mount twice"
            ports += container.get("ports", [])
        for key in ("name", "containerPort"):
            found = [port[key] for port in ports]
            assert len(found) == len(set(found)), f"{manifest['metadata']['name']}: a port's {key} twice"
        volumes = [volume["name"] for volume in chart.pod(manifest)["volumes"]]
        assert len(volumes) == len(set(volumes)), f"{manifest['metadata']['name']}: a volume twice"
    for service in chart.of_kind(chart.render(case), "Service"):
        names = [port["name"] for port in service["spec"]["ports"]]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("case", chart.CASES)
def test_every_resource_is_labelled_and_in_its_namespace(case):
    for manifest in chart.render(case):
        if manifest["metadata"]["name"] == "waypost-more":
            continue  # an extra object is somebody else's
        labels = manifest["metadata"]["labels"]
        for label in ("name", "instance", "version", "component", "part-of", "managed-by"):
            assert labels[f"app.kubernetes.io/{label}"], manifest["metadata"]["name"]
        assert re.fullmatch(r"waypost-[0-9A-Za-z._-]+", labels["helm.sh/chart"])
        namespace = "kafka" if case == "strimzi-tls" and manifest["kind"].startswith("Kafka") else "waypost"
        assert manifest["metadata"]["namespace"] == namespace


def test_production_has_its_labels_and_annotations_everywhere():
    for manifest in chart.render("production"):
        assert manifest["metadata"]["labels"]["team"] == "growth"
        assert manifest["metadata"]["annotations"]["example.com/owner"] == "growth"


def test_versions_are_those_of_the_workspace():
    about = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())
    (version,) = re.findall(r'^\[workspace\.package\]\nversion = "(.+)"$', (chart.ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert (about["version"], about["appVersion"]) == (version, version)
    assert f"image: {chart.VALUES['image']['repository']}:{version}" in about["annotations"]["artifacthub.io/images"]


@pytest.mark.parametrize(
    ("settings", "image"),
    [
        ((), "waypost:0.1.0"),
        (('image.tag="1.2.3"',), "waypost:1.2.3"),
        (('image.tag="1.2.3"', f'image.digest="sha256:{"a" * 64}"'), f"waypost@sha256:{'a' * 64}"),
        (('global.imageRegistry="r.example/x/"', 'image.repository="w"'), "r.example/x/w:0.1.0"),
    ],
)
def test_image(settings, image):
    images = {c["image"] for m in chart.of_kind(chart.render("minimal", *settings), *chart.WORKLOADS) for c in chart.containers(m)}
    assert images == {image}


@pytest.fixture
def notes(tmp_path):
    """NOTES.txt as a release would show it: without a cluster Helm 3 renders only manifests, so it becomes one."""
    copy = tmp_path / "waypost"
    shutil.copytree(chart.CHART, copy, ignore=shutil.ignore_patterns("dashboards", "ci"))
    shutil.move(copy / "templates/NOTES.txt", copy / "notes.txt")
    (copy / "templates/notes.yaml").write_text('kind: Notes\ntext: {{ tpl (.Files.Get "notes.txt") . | quote }}\n')

    def render(case, *settings):
        sets = [argument for setting in settings for argument in ("--set-json", setting)]
        code, out, err = chart.run("template", "waypost", copy, "-f", chart.values(case), "--show-only", "templates/notes.yaml", *sets)
        assert code == 0, err
        return yaml.safe_load(out)["text"]

    return render


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ((), "schemaRegistry.url is empty"),
        (("roles.sender.replicaCount=17",), "roles.sender may have 17 pods, but there are 16 partitions"),
        (('roles.identity.keda={"enabled": true, "trigger": "kafka", "maxReplicaCount": 20}',), "roles.identity may have 20 pods"),
        (("config.install.replication=1",), "a lost disk loses events"),
        (("roles.segmenter.enabled=false",), "roles.segmenter is disabled"),
    ],
)
def test_notes_warn(notes, settings, says):
    text = notes("minimal", *settings)
    assert says in text and "port-forward service/waypost-ingest 8080:80" in text and "helm test waypost" in text


def test_notes_of_what_is_not_there(notes):
    text = notes("oauth")
    assert "port-forward" not in text and "roles.control is disabled" in text


def test_notes_do_not_warn_of_production(notes):
    assert "Think of:" not in notes("production")
