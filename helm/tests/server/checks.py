"""What a real API server says of every render (run.sh beside this file starts it)."""

import http.client
import json
import os
import pathlib
import ssl
import sys
import time
import urllib.parse

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import chart

every_case = pytest.mark.parametrize("case", chart.CASES)
# Kinds of others, whose own validation is that of helm/tests/schemas: here they are taken as they come.
RELEASE = "waypost"
FOREIGN = sorted(path.stem for path in (chart.TESTS / "schemas").glob("*.json"))


class Server:
    def __init__(self):
        url = urllib.parse.urlsplit(os.environ["KUBE_SERVER"])
        # of loopback, with a certificate that it has just signed itself
        context = ssl.create_default_context(cafile=os.environ["KUBE_CA"])
        context.check_hostname = False
        self.connection = http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=60)
        self.resources = {}

    def call(self, method, path, body=None):
        """The answer's code, its body, and what the server warns of."""
        headers = {"Authorization": f"Bearer {os.environ['KUBE_TOKEN']}", "Content-Type": "application/json"}
        self.connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = self.connection.getresponse()
        text = answer.read().decode()
        said = json.loads(text) if answer.headers.get_content_type() == "application/json" else {"message": text}
        return answer.status, said, answer.headers.get_all("Warning") or []

    def create(self, path, body):
        code, said, _ = self.call("POST", path, body)
        assert code in (201, 409), said

    def path(self, namespace, api, kind):
        """Where objects of a kind are made."""
        base = f"/api/{api}" if "/" not in api else f"/apis/{api}"
        if api not in self.resources:
            code, said, _ = self.call("GET", base)
            assert code == 200, f"{api}: {said}"
            self.resources[api] = {entry["kind"]: entry for entry in said["resources"] if "/" not in entry["name"]}
        resource = self.resources[api][kind]
        within = f"/namespaces/{namespace}" if resource["namespaced"] else ""
        return f"{base}{within}/{resource['name']}"

    def dry_run(self, namespace, manifest):
        """What it says of a manifest that it does not store; one of the release's own namespace goes to this one."""
        metadata = dict(manifest["metadata"])
        if metadata.get("namespace") in (None, RELEASE):
            metadata["namespace"] = namespace
        path = self.path(metadata["namespace"], manifest["apiVersion"], manifest["kind"])
        return self.call("POST", f"{path}?dryRun=All&fieldValidation=Strict", {**manifest, "metadata": metadata})


def definition(api, kind):
    """Of a kind that takes any fields."""
    group, version = api.split("/")
    plural = f"{kind.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            # what a group of Kubernetes' own asks of whoever brings its kinds
            "annotations": {"api-approved.kubernetes.io": "unapproved, a test"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
            ],
        },
    }


@pytest.fixture(scope="module")
def server():
    server = Server()
    manifests = [manifest for case in chart.CASES for manifest in chart.render(case)]
    foreign = {(m["apiVersion"], m["kind"]) for m in manifests if m["kind"] in FOREIGN}
    for api, kind in sorted(foreign):
        server.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition(api, kind))
    for api, kind in foreign:
        wait(lambda: server.call("GET", f"/apis/{api}/{kind.lower()}s")[0] == 200)
    for name in {*chart.CASES, *(m["metadata"].get("namespace", RELEASE) for m in manifests)}:
        labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
        server.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    # a cluster has those that a release's values name
    for name in {chart.pod(m).get("priorityClassName") for m in chart.of_kind(manifests, *chart.WORKLOADS)} - {None}:
        priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": 1000}
        server.create("/apis/scheduling.k8s.io/v1/priorityclasses", priority)
    return server


def wait(come):
    """Until a kind is served, which takes the server a moment."""
    for _ in range(300):
        if come():
            return
        time.sleep(0.1)
    raise AssertionError("the server does not serve a kind that it was given")


def helm(*arguments):
    code, out, err = chart.run(*arguments)
    assert code == 0, err
    return out


@every_case
def test_helm_installs_by_a_dry_run_of_the_server(server, case):
    helm("install", "waypost", chart.CHART, "--namespace", case, "-f", chart.values(case), "--dry-run=server")


@every_case
def test_every_manifest_is_taken_without_a_warning(server, case):
    # a pod by itself needs the release's account, which the next test has
    for manifest in (manifest for manifest in chart.render(case) if manifest["kind"] != "Pod"):
        code, said, warnings = server.dry_run(case, manifest)
        assert (code, warnings) == (201, []), f"{manifest['kind']} {manifest['metadata']['name']}: {said.get('message')} {warnings}"


@every_case
def test_a_release_is_installed_upgraded_and_taken_away(server, case):
    # hooks wait for a pod to end, and none begins here
    common = ["waypost", chart.CHART, "--namespace", case, "-f", chart.values(case), "--no-hooks"]
    helm("install", *common)
    helm("upgrade", *common, "--set", "config.log.filter=debug")
    for manifest in chart.of_kind(chart.render(case), "Deployment"):
        path = f"{server.path(case, 'apps/v1', 'Deployment')}/{manifest['metadata']['name']}"
        code, said, _ = server.call("GET", path)
        assert code == 200 and said["metadata"]["generation"] == 2, said
    pods_are_admitted(server, case)
    helm("uninstall", "waypost", "--namespace", case, "--no-hooks")


def pods_are_admitted(server, case):
    """Pods of every workload, where *restricted* is enforced and the accounts of the release are there."""
    workloads = [(manifest, chart.pod(manifest)) for manifest in chart.of_kind(chart.render(case), *chart.WORKLOADS)]
    assert workloads
    for manifest, spec in workloads:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": spec.get("serviceAccountName", "default")}}
        server.create(f"/api/v1/namespaces/{case}/serviceaccounts", account)
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": manifest["metadata"]["name"]}, "spec": spec}
        code, said, warnings = server.dry_run(case, pod)
        assert (code, warnings) == (201, []), f"{manifest['kind']} {manifest['metadata']['name']}: {said.get('message')} {warnings}"


def test_what_is_not_restricted_is_refused(server):
    """Else the tests above would show nothing."""
    case = chart.CASES[0]
    (manifest, *_) = chart.of_kind(chart.render(case), "Deployment")
    server.create(f"/api/v1/namespaces/{case}/serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})
    spec = {"containers": [{"name": "any", "image": "any"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": spec}
    code, said, _ = server.dry_run(case, pod)
    assert code == 403 and "restricted" in said["message"], said
    odd = {**manifest, "spec": {**manifest["spec"], "replicaz": 3}}
    code, said, _ = server.dry_run(case, odd)
    assert code == 400 and "replicaz" in said["message"], said
