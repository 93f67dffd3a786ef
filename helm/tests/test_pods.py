"""What holds of every pod, and how roles come and go."""

import pytest
import yaml

import chart

ALL = [(case, manifest) for case in chart.CASES for manifest in chart.of_kind(chart.render(case), *chart.WORKLOADS)]
NAMES = [f"{case}-{manifest['metadata']['name']}" for case, manifest in ALL]
every_workload = pytest.mark.parametrize("manifest", [manifest for _, manifest in ALL], ids=NAMES)
every_case = pytest.mark.parametrize("case", chart.CASES)


@every_workload
def test_pod_is_restricted(manifest):
    pod = chart.pod(manifest)
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True and context["runAsUser"] > 0 and context["runAsGroup"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for shared in ("hostNetwork", "hostPID", "hostIPC"):
        assert shared not in pod
    allowed = {"configMap", "projected", "secret", "emptyDir", "persistentVolumeClaim"}
    assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"])
    for container in chart.containers(manifest):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "privileged" not in context
        assert all("hostPort" not in port for port in container.get("ports", []))


@every_workload
def test_container_has_limits_and_a_folder_to_write_to(manifest):
    for container in chart.containers(manifest):
        assert container["resources"]["limits"]["memory"], container["name"]
    (own, *_) = chart.pod(manifest)["containers"]
    assert {"cpu", "memory"} <= set(own["resources"]["requests"])
    (tmp,) = [volume for volume in chart.pod(manifest)["volumes"] if volume["name"] == "tmp"]
    assert tmp["emptyDir"]["sizeLimit"]
    writable = [mount["mountPath"] for mount in own["volumeMounts"] if not mount.get("readOnly")]
    backups = any(volume["name"] == "backups" for volume in chart.pod(manifest)["volumes"])
    assert writable == (["/tmp", "/backups"] if backups else ["/tmp"])
    assert not backups or manifest["kind"] == "CronJob", "people's data lies nowhere else"


@every_workload
def test_no_secret_is_a_variable(manifest):
    for container in chart.containers(manifest):
        for variable in container.get("env", []):
            assert "secretKeyRef" not in variable.get("valueFrom", {}), variable["name"]


@every_case
def test_deployment_has_probes_on_the_admin_port(case):
    for role, manifest in chart.deployments(case).items():
        own = chart.pod(manifest)["containers"][0]
        for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
            if (case, role, probe) == ("hpa", "control", "readinessProbe"):
                assert own[probe]["grpc"] == {"port": 7070} and "httpGet" not in own[probe]
            else:
                assert own[probe]["httpGet"] == {"path": path, "port": "admin"}
        assert {"name": "admin", "containerPort": 9090} in own["ports"]


@every_case
def test_deployment_has_a_disruption_budget(case):
    budgets = {chart.component(budget): budget["spec"] for budget in chart.of_kind(chart.render(case), "PodDisruptionBudget")}
    assert set(budgets) == set(chart.deployments(case))
    for role, manifest in chart.deployments(case).items():
        budget = budgets[role]
        assert budget["selector"] == manifest["spec"]["selector"]
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        assert ("minAvailable" in budget) != ("maxUnavailable" in budget)


def test_selectors_never_change():
    expected = yaml.safe_load((chart.TESTS / "selectors.yaml").read_text())
    found = {manifest["metadata"]["name"]: manifest["spec"]["selector"]["matchLabels"] for manifest in chart.deployments("minimal").values()}
    assert found == expected, "a Deployment's selector cannot be changed: an upgrade would fail"


@every_case
def test_selectors_find_the_pods_and_nobody_else(case):
    pods = {}
    for manifest in chart.of_kind(chart.render(case), *chart.WORKLOADS):
        about = manifest["metadata"] if manifest["kind"] == "Pod" else chart.template(manifest)["metadata"]
        pods[manifest["metadata"]["name"]] = about["labels"]

    def selected(labels):
        return {name for name, has in pods.items() if labels.items() <= has.items()}

    for manifest in chart.deployments(case).values():
        assert selected(manifest["spec"]["selector"]["matchLabels"]) == {manifest["metadata"]["name"]}
    served = {manifest["metadata"]["name"] for manifest in chart.deployments(case).values()}
    for service in chart.of_kind(chart.render(case), "Service"):
        name = service["metadata"]["name"]
        assert selected(service["spec"]["selector"]) == (served if name.endswith("-metrics") else {name})
    for monitor in chart.of_kind(chart.render(case), "PodMonitor"):
        assert selected(monitor["spec"]["selector"]["matchLabels"]) == served
    for monitor in chart.of_kind(chart.render(case), "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        found = [s["metadata"]["name"] for s in chart.of_kind(chart.render(case), "Service") if wanted.items() <= s["metadata"]["labels"].items()]
        assert found == ["waypost-metrics"]


@every_case
def test_a_pod_has_longer_than_the_drain(case):
    for role, manifest in chart.deployments(case).items():
        grace = {"production": 45}.get(case, 30)
        sleeps = chart.pod(manifest)["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        extra = 5 if role in ("ingest", "control") else 0
        assert chart.pod(manifest)["terminationGracePeriodSeconds"] == grace + extra + 5
        assert chart.pod(manifest)["terminationGracePeriodSeconds"] >= grace + sleeps


@pytest.mark.parametrize("grace", [5, 120])
def test_grace_follows_the_drain_setting(grace):
    rendered = chart.render("minimal", f"config.process.grace_s={grace}")
    assert chart.pod(chart.one(rendered, "Deployment", "waypost-sender"))["terminationGracePeriodSeconds"] == grace + 5


def test_roles_roll_one_pod_at_a_time():
    for manifest in chart.deployments("minimal").values():
        assert manifest["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        assert 0 < manifest["spec"]["minReadySeconds"] < manifest["spec"]["progressDeadlineSeconds"]


def test_spread_selects_the_roles_own_pods():
    for manifest in chart.deployments("minimal").values():
        for constraint in chart.pod(manifest)["topologySpreadConstraints"]:
            assert constraint["labelSelector"] == manifest["spec"]["selector"]
    assert "topologySpreadConstraints" not in chart.pod(chart.deployments("hpa")["control"])


@every_case
def test_an_autoscaler_has_the_replicas_for_itself(case):
    scaled = chart.of_kind(chart.render(case), "HorizontalPodAutoscaler", "ScaledObject")
    targets = [manifest["spec"]["scaleTargetRef"]["name"] for manifest in scaled]
    assert len(targets) == len(set(targets))
    for manifest in chart.deployments(case).values():
        assert ("replicas" in manifest["spec"]) != (manifest["metadata"]["name"] in targets)
    for manifest in scaled:
        assert all("kind" not in t or t["kind"] == "Deployment" for t in [manifest["spec"]["scaleTargetRef"]])
        behavior = manifest["spec"].get("behavior") or manifest["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 300


def test_roles_without_an_inbox_scale_by_cpu():
    triggers = {chart.component(m): m["spec"]["triggers"][0]["type"] for m in chart.of_kind(chart.render("production"), "ScaledObject")}
    assert triggers == {
        "ingest": "cpu",
        "identity": "prometheus",
        "segmenter": "kafka",
        "orchestrator": "prometheus",
        "sender": "prometheus",
        "control": "cpu",
    }


@every_case
def test_the_init_job_needs_nothing_of_the_release_before_it_is_there(case):
    jobs = chart.of_kind(chart.render(case), "Job")
    if case == "hpa":
        assert not jobs
        return
    (job,) = jobs
    pod = chart.pod(job)
    needed = {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
    if case.startswith("strimzi"):
        assert not chart.is_hook(job), "the users that it needs are part of the release"
        return
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    before = {}
    for manifest in chart.render(case):
        if chart.is_hook(manifest) and manifest is not job and manifest["metadata"]["annotations"]["helm.sh/hook"] != "test":
            assert int(manifest["metadata"]["annotations"]["helm.sh/hook-weight"]) < int(job["metadata"]["annotations"]["helm.sh/hook-weight"])
            before.setdefault(manifest["kind"], set()).add(manifest["metadata"]["name"])
    assert needed <= before["ConfigMap"]
    accounts = before.get("ServiceAccount", set()) | {"default"}
    assert pod["serviceAccountName"] in accounts
    if chart.of_kind(chart.render(case), "NetworkPolicy"):
        assert before["NetworkPolicy"] == {f"{job['metadata']['name'].removesuffix('-init')}-jobs"}


def test_a_job_of_the_release_is_another_one_where_it_has_changed():
    names = {
        chart.of_kind(chart.render("strimzi", *settings), "Job")[0]["metadata"]["name"]
        for settings in ((), ('image.tag="0.2.0"',), ("config.process.grace_s=31",), ("jobs.init.backoffLimit=1",))
    }
    assert len(names) == 4


def test_config_changes_roll_the_pods():
    def sums(*settings):
        deployments = chart.of_kind(chart.render("minimal", *settings), "Deployment")
        return {manifest["spec"]["template"]["metadata"]["annotations"]["checksum/config"] for manifest in deployments}

    assert len(sums()) == 1
    assert sums() != sums("config.store.commit_share=16")
