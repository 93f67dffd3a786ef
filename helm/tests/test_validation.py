"""Values that may not stand together are refused, each with what to change."""

import re

import pytest

import chart

SCRAM = 'kafka.sasl={"mechanism": "scram-sha-512", "username": "u"}'
REFUSED = [
    ("minimal", ['image.tag="latest"'], "image.tag is `latest`"),
    ("minimal", ['kafka.bootstrapServers=""'], "kafka.bootstrapServers is missing"),
    ("minimal", [SCRAM], "roles.sender needs kafka.existingSecret"),
    ("minimal", ['kafka.sasl.mechanism="plain"', 'kafka.existingSecret="k"'], "jobs needs kafka.existingSecret and kafka.sasl.username"),
    ("minimal", ["kafka.tls.enabled=true", 'kafka.tls.certKey="c"', 'kafka.tls.keyKey="k"'], "kafka.tls.certKey and kafka.sasl.oauth.clientSecretKey"),
    ("minimal", ["kafka.tls.enabled=true", 'kafka.tls.certKey="c"', 'kafka.existingSecret="k"'], "kafka.tls.certKey and kafka.tls.keyKey go together"),
    ("minimal", ["kafka.tls.enabled=true", 'kafka.tls.caKey="ca"'], "kafka.tls.caKey is a key of"),
    ("minimal", ['kafka.tls.caKey="ca"', 'kafka.existingSecret="k"'], "for kafka.tls.enabled, which is false"),
    ("oidc", ['kafka.sasl.oauth.serviceAccountTokenAudience=""'], "set either kafka.sasl.oauth.tokenUrl or"),
    ("oauth", ['kafka.sasl.oauth.serviceAccountTokenAudience="kafka"'], "set either kafka.sasl.oauth.tokenUrl or"),
    ("oauth", ['kafka.sasl.oauth.clientId=""'], "needs kafka.sasl.oauth.clientId"),
    ("oauth", ['kafka.sasl.mechanism=""'], "kafka.sasl.oauth is for kafka.sasl.mechanism `oauthbearer`"),
    ("strimzi", ['strimzi.cluster=""'], "strimzi.enabled needs strimzi.cluster"),
    ("strimzi", ['kafka.existingSecret="k"'], "strimzi.users makes the credentials: leave kafka.existingSecret"),
    ("strimzi", ['roles.sender.kafka.username="u"'], "strimzi.users makes the credentials: leave roles.sender.kafka empty"),
    ("strimzi-tls", ["kafka.tls.enabled=false", 'kafka.tls.caKey=""'], "strimzi.authentication is `tls`: set kafka.tls.enabled"),
    ("cluster", ["redis.database=3"], "redis.database must be 0 with redis.mode `cluster`"),
    ("cluster", ['redis.master="m"'], "redis.master and redis.mode `sentinel` go together"),
    ("minimal", ["redis.endpoints=[]"], "redis.endpoints is missing"),
    ("minimal", ['redis.endpoints=["a:1", "b:1"]'], "redis.mode `standalone` has one endpoint"),
    ("minimal", ['redis.mode="sentinel"'], "redis.master and redis.mode `sentinel` go together"),
    ("minimal", ['redis.master="m"'], "redis.master and redis.mode `sentinel` go together"),
    ("minimal", ['redis.username="u"'], "redis.username needs redis.existingSecret"),
    ("minimal", ['jobs.operator.redis.existingSecret="o"'], "jobs.operator.redis needs redis.existingSecret and redis.passwordKey"),
    ("production", ['redis.passwordKey=""'], "jobs.operator.redis needs redis.existingSecret and redis.passwordKey"),
    ("production", ['jobs.operator.kafka.existingSecret=""'], "jobs.operator.kafka.username needs jobs.operator.kafka.existingSecret"),
    ("minimal", ['redis.tls.caKey="ca"', 'redis.existingSecret="r"'], "for redis.tls.enabled, which is false"),
    ("minimal", ["redis.tls.enabled=true", 'redis.tls.caKey="ca"'], "redis.tls.caKey is a key of"),
    ("minimal", ["redis.tls.enabled=true", 'redis.tls.certKey="c"', 'redis.tls.keyKey="k"'], "redis.tls.certKey is a key of redis.existingSecret"),
    ("minimal", ["redis.tls.enabled=true", 'redis.tls.certKey="c"', 'redis.existingSecret="r"'], "redis.tls.certKey and redis.tls.keyKey go together"),
    ("minimal", ['schemaRegistry.username="u"'], "schemaRegistry has credentials but no url"),
    ("sentinel", ['schemaRegistry.username="u"'], "knows us by one of them"),
    ("sentinel", ['schemaRegistry.existingSecret=""'], "need schemaRegistry.existingSecret"),
    ("minimal", ['schemaRegistry.url="https://s"', 'schemaRegistry.caKey="ca"'], "schemaRegistry.caKey is a key of"),
    ("minimal", ['config.ingest.public_url=""'], "config.ingest.public_url is missing"),
    ("minimal", ['control.access.existingSecret=""'], "say who may do what in control.access.existingSecret"),
    ("minimal", ['control.tls.existingSecret=""'], "set control.tls.existingSecret, or config.control.plaintext"),
    ("oidc", ['config.control.oidc_audience=""'], "config.control.oidc_issuer and config.control.oidc_audience go together"),
    ("sentinel", ['control.tls.clientCaKey="ca"'], "control.tls.clientCaKey is a key of"),
    ("minimal", ["ingress.enabled=true"], "ingress.enabled needs ingress.hosts"),
    ("production", ["roles.ingest.enabled=false"], "ingress.enabled needs ingress.hosts and the role ingest"),
    ("minimal", ["gateway.httpRoute.enabled=true"], "gateway.httpRoute needs parentRefs"),
    ("minimal", ["gateway.grpcRoute.enabled=true"], "gateway.grpcRoute needs parentRefs"),
    ("minimal", ['config.mail.smtp_username="u"'], "config.mail.smtp_username needs smtp.existingSecret"),
    ("production", ["podMonitor.enabled=true"], "would count everything twice"),
    ("production", ["roles.sender.autoscaling.enabled=true"], "roles.sender has autoscaling and keda"),
    ("hpa", ["roles.sender.autoscaling.minReplicas=9"], "roles.sender.autoscaling: minReplicas is above maxReplicas"),
    (
        "hpa",
        ["roles.control.autoscaling.targetCPUUtilizationPercentage=0", "roles.control.autoscaling.targetMemoryUtilizationPercentage=0"],
        "roles.control.autoscaling has nothing to go by",
    ),
    ("production", ["roles.sender.keda.minReplicaCount=17"], "roles.sender.keda: minReplicaCount is above maxReplicaCount"),
    ("production", ['roles.sender.keda.prometheus.serverAddress=""'], "set keda.prometheus.serverAddress"),
    ("oidc", ['roles.sender.keda={"enabled": true, "trigger": "kafka"}'], "cannot be made for oauthbearer"),
    (
        "minimal",
        ["roles.sender.podDisruptionBudget.minAvailable=1", "roles.sender.podDisruptionBudget.maxUnavailable=2"],
        "minAvailable and maxUnavailable exclude each other",
    ),
    ("minimal", ['roles.sender.extraEnv=[{"name": "POD_IP", "value": "::1"}]'], "roles.sender.extraEnv: POD_IP is there already"),
    ("minimal", ['roleDefaults.extraEnv=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]'], "roles.ingest.extraEnv: A is there already"),
]


@pytest.mark.parametrize(("case", "settings", "says"), REFUSED, ids=[says[:50] for _, _, says in REFUSED])
def test_refused(case, settings, says):
    assert says in chart.refusal(case, *settings)


def test_every_refusal_is_tried():
    source = (chart.CHART / "templates/validation.yaml").read_text()
    texts = re.findall(r'append \$wrong (?:\(printf )?"((?:[^"\\]|\\.)+)"', source)
    assert len(texts) == source.count("append $wrong")
    said = "\n".join(chart.refusal(case, *settings) for case, settings, _ in REFUSED)
    for text in texts:
        assert re.search(re.escape(text).replace("%s", ".+?"), said), f"nothing here is refused with: {text}"


def test_only_what_is_wrong_is_refused():
    for case in chart.CASES:
        assert chart.render(case)
