"""Who may talk to whom."""

import pytest

import chart

WITH = ["production", "strimzi", "sentinel", "cluster", "oidc", "oauth"]


def policies(case):
    return {chart.component(policy): policy["spec"] for policy in chart.of_kind(chart.render(case), "NetworkPolicy")}


def ports(rules):
    return [tuple(sorted({port["port"] for port in rule["ports"]})) for rule in rules]


def test_there_is_none_unless_asked_for():
    assert not policies("minimal")


@pytest.mark.parametrize("case", WITH)
def test_every_pod_has_a_policy_for_both_directions(case):
    assert set(policies(case)) == set(chart.deployments(case)) | {"jobs"}
    for role, policy in policies(case).items():
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == role
        for rule in policy.get("ingress", []) + policy["egress"]:
            assert rule["ports"], "a rule for every port"


@pytest.mark.parametrize("case", WITH)
def test_what_comes_in(case):
    for role, policy in policies(case).items():
        own = {"ingest": 8080, "control": 7070, "jobs": None}.get(role, 7071)
        if own is None:
            assert "ingress" not in policy
            continue
        assert ports(policy["ingress"]) == [(9090,), (own,)]
        if own == 7071:
            (peer,) = policy["ingress"][1]["from"]
            assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "control"


def test_what_goes_out():
    common = [(53,), (9094,), (6380,), (443,)]
    for role, policy in policies("production").items():
        more = {"control": [(7071,), (4317,)], "sender": [(4317,), (443, 587)]}.get(role, [(4317,)])
        assert ports(policy["egress"]) == common + more, role
    assert {port["protocol"] for port in policies("production")["sender"]["egress"][0]["ports"]} == {"UDP", "TCP"}


def test_only_the_sender_reaches_providers_and_nothing_private():
    for role, policy in policies("production").items():
        public = [rule for rule in policy["egress"] if any("ipBlock" in peer and peer["ipBlock"]["cidr"] == "0.0.0.0/0" for peer in rule.get("to", []))]
        assert len(public) == (1 if role == "sender" else 0)
    (block, _) = policies("production")["sender"]["egress"][-1]["to"]
    for private in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "127.0.0.0/8"):
        assert private in block["ipBlock"]["except"]


def test_sentinels_lead_to_a_master_on_another_port():
    assert (6379, 26379) in ports(policies("sentinel")["identity"]["egress"])
    assert (8081,) in ports(policies("sentinel")["identity"]["egress"])
    assert (6380,) in ports(policies("cluster")["identity"]["egress"])


def test_issuers_are_reached_by_who_asks_them():
    asks = {case: {role for role, policy in policies(case).items() if (443,) in ports(policy["egress"])} for case in ("oidc", "oauth", "strimzi")}
    assert asks == {"oidc": {"control", "sender"}, "oauth": {"sender", "jobs"}, "strimzi": {"sender"}}
    assert ports(policies("oauth")["sender"]["egress"]).count((443,)) == 2


def test_control_reaches_every_keyed_role_and_no_other():
    (rule,) = [rule for rule in policies("oidc")["control"]["egress"] if ports([rule]) == [(7071,)]]
    (peer,) = rule["to"]
    (expression,) = peer["podSelector"]["matchExpressions"]
    assert expression["values"] == ["identity", "segmenter", "orchestrator", "sender"]


def test_services_and_routes_lead_to_the_doors():
    services = {m["metadata"]["name"]: m["spec"] for m in chart.of_kind(chart.render("production"), "Service")}
    assert set(services) == {"waypost-ingest", "waypost-control", "waypost-metrics"}
    assert services["waypost-metrics"]["clusterIP"] == "None"
    assert services["waypost-control"]["ports"] == [{"name": "grpc", "port": 7070, "targetPort": "grpc", "appProtocol": "https"}]
    assert chart.one(chart.render("sentinel"), "Service", "wp-control")["spec"]["ports"][0]["appProtocol"] == "kubernetes.io/h2c"
    (route,) = chart.of_kind(chart.render("production"), "GRPCRoute")
    assert route["spec"]["rules"] == [{"backendRefs": [{"name": "waypost-control", "port": 7070}]}]
    (route,) = chart.of_kind(chart.render("sentinel"), "HTTPRoute")
    assert route["spec"]["rules"] == [{"backendRefs": [{"name": "wp-ingest", "port": 80}]}]
    (ingress,) = chart.of_kind(chart.render("production"), "Ingress")
    paths = ingress["spec"]["rules"][0]["http"]["paths"]
    assert [path["path"] for path in paths] == ["/v1", "/u"]
    assert {path["backend"]["service"]["name"] for path in paths} == {"waypost-ingest"}
