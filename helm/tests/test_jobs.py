"""The CronJobs: backups, and the one that an operator's commands are made of."""

import re

import chart


def cronjob(case, name, *settings):
    return chart.one(chart.render(case, *settings), "CronJob", f"waypost-{name}")


def container(manifest):
    (found,) = chart.pod(manifest)["containers"]
    return found


def secrets(manifest):
    (volume,) = [volume for volume in chart.pod(manifest)["volumes"] if volume["name"] == "secrets"]
    return {item["path"]: source["secret"]["name"] for source in volume["projected"]["sources"] for item in source["secret"]["items"]}


def test_neither_is_there_unless_asked_for():
    assert not chart.of_kind(chart.render("minimal"), "CronJob", "PersistentVolumeClaim")


def test_backups_go_to_the_claim_and_never_two_at_once():
    job = cronjob("production", "backup")
    assert job["spec"]["concurrencyPolicy"] == "Forbid" and not job["spec"].get("suspend")
    assert container(job)["args"] == ["backup", "--under", "/backups", "--keep-days", "7", "--config", "/etc/waypost/waypost.toml"]
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in chart.pod(job)["volumes"] if volume["name"] == "backups"]
    assert claims == ["waypost-backups"]
    assert not chart.of_kind(chart.render("production"), "PersistentVolumeClaim"), "it has one"


def test_a_claim_of_the_chart_outlives_the_release():
    (claim,) = chart.of_kind(chart.render("strimzi"), "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert (claim["spec"]["storageClassName"], claim["spec"]["resources"]["requests"]["storage"]) == ("encrypted", "5Gi")
    used = [volume["persistentVolumeClaim"]["claimName"] for volume in chart.pod(cronjob("strimzi", "backup"))["volumes"] if volume["name"] == "backups"]
    assert used == [claim["metadata"]["name"]]


def test_no_backup_is_older_than_an_erase_may_take():
    error = chart.refusal("minimal", "jobs.backup.enabled=true", "jobs.backup.keepDays=22")
    assert "keepDays" in error


def test_arguments_are_those_of_the_program():
    source = (chart.ROOT / "crates/app/src/cli.rs").read_text()
    (backup,) = re.findall(r"pub\(crate\) struct Backup \{(.+?)\n\}", source, re.DOTALL)
    fields = set(re.findall(r"pub\(crate\) (\w+):", backup))
    given = {argument.removeprefix("--").replace("-", "_") for argument in container(cronjob("production", "backup"))["args"] if argument.startswith("--")}
    assert given - {"config"} <= fields


def test_the_operator_runs_when_somebody_wants_it_with_credentials_of_its_own():
    job = cronjob("production", "operator")
    assert job["spec"]["suspend"] is True and job["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert secrets(job)["kafka/password_file"] == "waypost-kafka-operator"
    assert secrets(job)["redis/password_file"] == "waypost-redis-operator"
    env = {variable["name"]: variable["value"] for variable in container(job)["env"]}
    assert (env["WAYPOST_KAFKA_USERNAME"], env["WAYPOST_REDIS_USERNAME"]) == ("waypost-operator", "waypost-operator")
    backup = cronjob("production", "backup")
    assert secrets(backup)["kafka/password_file"] == "waypost-kafka-admin", "it has none of its own"
    assert secrets(backup)["redis/password_file"] == "waypost-redis"
    assert "WAYPOST_REDIS_USERNAME" not in {variable["name"] for variable in container(backup)["env"]}
    mounts = {mount["mountPath"] for mount in container(job)["volumeMounts"]}
    assert "/backups" in mounts, "a restore reads what a backup wrote"


def test_a_backup_may_have_credentials_that_only_read():
    own = 'jobs.backup.kafka={"existingSecret": "readers", "username": "reader"}'
    for case in ("production", "strimzi"):
        job = cronjob(case, "backup", own)
        assert secrets(job)["kafka/password_file"] == "readers"
        assert {"name": "WAYPOST_KAFKA_USERNAME", "value": "reader"} in container(job)["env"]
    assert secrets(cronjob("production", "operator", own))["kafka/password_file"] == "waypost-kafka-operator"
    assert secrets(cronjob("strimzi", "backup"))["kafka/password_file"] == "waypost-jobs"


def test_the_operator_has_a_claim_that_is_there_also_without_backups():
    settings = ("jobs.operator.enabled=true", 'jobs.backup.existingClaim="old"')
    job = cronjob("minimal", "operator", *settings)
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in chart.pod(job)["volumes"] if volume["name"] == "backups"]
    assert claims == ["old"]
    assert "/backups" in {mount["mountPath"] for mount in container(job)["volumeMounts"]}
    assert not chart.of_kind(chart.render("minimal", *settings), "PersistentVolumeClaim")
    assert all(volume["name"] != "backups" for volume in chart.pod(cronjob("minimal", "operator", *settings[:1]))["volumes"])


def test_beside_strimzis_users_the_operator_may_have_one_of_its_own():
    settings = ("jobs.operator.enabled=true", 'jobs.operator.kafka={"existingSecret": "theirs", "username": "theirs"}')
    assert secrets(cronjob("strimzi", "operator", *settings))["kafka/password_file"] == "theirs"
    assert secrets(cronjob("strimzi", "operator", *settings[:1]))["kafka/password_file"] == "waypost-jobs"
