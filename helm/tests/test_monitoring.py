"""Alerts and dashboards arrive as they are in the files."""

import json
import shutil

import pytest
import yaml

import chart

ALERTS = chart.CHART / "files/alerts.yaml"
DASHBOARDS = sorted((chart.CHART / "files/dashboards").glob("*.json"))


def test_rules_are_those_of_the_file():
    (rule,) = chart.of_kind(chart.render("production"), "PrometheusRule")
    assert rule["spec"]["groups"] == yaml.safe_load(ALERTS.read_text())["groups"]
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_dashboards_are_those_of_the_files():
    maps = [m for m in chart.of_kind(chart.render("production"), "ConfigMap") if "-dashboard-" in m["metadata"]["name"]]
    assert DASHBOARDS and len(maps) == len(DASHBOARDS)
    for manifest, path in zip(sorted(maps, key=lambda m: m["metadata"]["name"]), DASHBOARDS, strict=True):
        assert manifest["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert manifest["metadata"]["annotations"]["grafana_folder"] == "Waypost"
        ((name, text),) = manifest["data"].items()
        assert name == path.name
        assert json.loads(text) == json.loads(path.read_text())
        assert len(text) < 900_000, "a ConfigMap holds a megabyte"


def test_there_are_none_unless_asked_for():
    assert not chart.of_kind(chart.render("minimal"), "PrometheusRule", "ServiceMonitor", "PodMonitor")
    assert not [m for m in chart.of_kind(chart.render("minimal"), "ConfigMap") if "-dashboard-" in m["metadata"]["name"]]


@pytest.mark.parametrize(("alerts", "outcome"), [("", "none"), ("groups: []\n", "none"), ("groups: [a: {\n", "files/alerts.yaml")])
def test_files_that_are_absent_or_broken(tmp_path, alerts, outcome):
    copy = tmp_path / "waypost"
    shutil.copytree(chart.CHART, copy, ignore=shutil.ignore_patterns("files", "ci"))
    (copy / "files").mkdir()
    if alerts:
        (copy / "files/alerts.yaml").write_text(alerts)
    code, out, err = chart.run("template", "waypost", copy, "-f", chart.values("production"))
    if outcome == "none":
        assert code == 0, err
        assert "kind: PrometheusRule" not in out and "-dashboard-" not in out
    else:
        assert code != 0 and outcome in err
