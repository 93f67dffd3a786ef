"""The chart as the tests see it: its files, and its renders as lists of manifests."""

import functools
import os
import pathlib
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/waypost"
TESTS = ROOT / "helm/tests"
HELM = os.environ.get("HELM", str(ROOT / ".stack/helm/helm"))
WRITE = os.environ.get("UPDATE_GOLDEN") == "1"
CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
TEMPLATES = "\n".join(path.read_text() for path in sorted((CHART / "templates").rglob("*")) if path.is_file())
WORKLOADS = ("Deployment", "CronJob", "Job", "Pod")


def run(*arguments):
    """Helm's exit code, output and errors."""
    done = subprocess.run([HELM, *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def values(case):
    return CHART / f"ci/{case}-values.yaml"


@functools.cache
def text(case, *settings):
    """A render as it is; `settings` are further `--set-json NAME=JSON`."""
    sets = [argument for setting in settings for argument in ("--set-json", setting)]
    code, out, err = run("template", "waypost", CHART, "--namespace", "waypost", "-f", values(case), *sets)
    assert code == 0, err
    return out


@functools.cache
def render(case, *settings):
    """A render's manifests. They are shared: do not change them."""
    return [manifest for manifest in yaml.safe_load_all(text(case, *settings)) if manifest]


def of_kind(manifests, *kinds):
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def one(manifests, kind, name):
    (found,) = [manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == name]
    return found


@functools.cache
def refusal(case, *settings):
    """What a render is refused with."""
    sets = [argument for setting in settings for argument in ("--set-json", setting)]
    code, _, err = run("template", "waypost", CHART, "-f", values(case), *sets)
    assert code != 0, f"{settings} is accepted"
    return err


def pod(manifest):
    """The pod of a workload."""
    return manifest["spec"] if manifest["kind"] == "Pod" else template(manifest)["spec"]


def template(manifest):
    """The template of a workload's pods."""
    spec = manifest["spec"]
    return (spec["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else spec)["template"]


def containers(manifest):
    return pod(manifest)["containers"] + pod(manifest).get("initContainers", [])


def is_hook(manifest):
    return "helm.sh/hook" in manifest["metadata"].get("annotations", {})


def component(manifest):
    return manifest["metadata"]["labels"]["app.kubernetes.io/component"]


def deployments(case):
    """Deployments by role."""
    return {component(manifest): manifest for manifest in of_kind(render(case), "Deployment")}
