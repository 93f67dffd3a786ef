"""waypost.toml: settings of the program and no others, and every file that one names is where it says."""

import os
import subprocess
import tomllib

import pytest

import chart

DEFAULTS = tomllib.loads((chart.ROOT / "crates/app/src/default.toml").read_text())
BINARY = chart.ROOT / "target/debug/waypost"
# What the chart decides itself, beside files.
OURS = {
    "kafka": {"brokers", "security", "sasl", "username", "token_url", "client_id", "scope"},
    "redis": {"url", "username", "sentinels", "master", "cluster"},
    "registry": {"url", "username"},
    "ingest": {"listen"},
    "control": {"listen"},
    "owner": {"listen", "advertise", "tls_name"},
    "admin": {"listen"},
    "mail": {"catcher_dir"},
    "secrets": {"dir"},
}
# Where the chart's default is not the program's, because a cluster is not a desk.
DIFFERENT = {("install", "replication"): 3, ("ingest", "public_url"): "", ("control", "reflection"): False, ("log", "format"): "json"}
every_case = pytest.mark.parametrize("case", chart.CASES)


def settings(case, *more):
    """The settings of a release, as they are mounted."""
    maps = [m for m in chart.of_kind(chart.render(case, *more), "ConfigMap") if "waypost.toml" in m["data"]]
    texts = {manifest["data"]["waypost.toml"] for manifest in maps}
    assert len(texts) == 1, "the jobs have other settings than the roles"
    return tomllib.loads(texts.pop())


@every_case
def test_every_setting_is_one_of_the_programs(case):
    for section, names in settings(case).items():
        for name, value in names.items():
            assert name in DEFAULTS[section], f"{section}.{name} is no setting"
            kinds = (int, float) if isinstance(DEFAULTS[section][name], float) else type(DEFAULTS[section][name])
            assert isinstance(value, kinds), f"{section}.{name} is {value!r}"


def test_every_setting_of_the_program_can_be_set():
    config = chart.VALUES["config"]
    for section, names in DEFAULTS.items():
        ours = OURS.get(section, set()) | {name for name in names if name.endswith("_file")}
        assert set(config.get(section, {})) == set(names) - ours, section


def test_defaults_are_the_programs():
    found = {}
    for section, names in chart.VALUES["config"].items():
        for name, value in names.items():
            if value != DEFAULTS[section][name]:
                found[section, name] = value
    assert found == DIFFERENT


@every_case
def test_every_value_of_config_arrives(case):
    found = settings(case)
    for section, names in chart.VALUES["config"].items():
        assert set(names) <= set(found[section]), section


def mounted(workload):
    """Files that a workload's containers find, as paths."""
    own = chart.pod(workload)["containers"][0]
    at = {mount["name"]: mount["mountPath"] for mount in own["volumeMounts"]}
    files = set()
    for volume in chart.pod(workload)["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            paths = [item["path"] for item in source["secret"]["items"]] if "secret" in source else [source["serviceAccountToken"]["path"]]
            files |= {f"{at[volume['name']]}/{path}" for path in paths}
    return files


def files_of(case):
    """Settings that name a file, by section."""
    named = {}
    for section, names in settings(case).items():
        for name, value in names.items():
            if name.endswith("_file"):
                named.setdefault(section, {})[name] = value
    return named


@every_case
def test_files_lie_where_the_settings_say(case):
    named = files_of(case)
    everywhere = {path for section in ("kafka", "redis", "registry") for path in named.get(section, {}).values()}
    roles = {path for section in ("owner", "secrets") for path in named.get(section, {}).values()}
    only = {"control": set(named.get("control", {}).values()), "sender": set(named.get("mail", {}).values())}
    for role, manifest in chart.deployments(case).items():
        assert mounted(manifest) == everywhere | roles | only.get(role, set()), role
    for job in chart.of_kind(chart.render(case), "CronJob", "Job", "Pod"):
        assert mounted(job) == everywhere, "a job needs no more than Kafka, Redis and the registry"


@every_case
def test_only_the_sender_has_the_channels_secrets(case):
    for role, manifest in chart.deployments(case).items():
        mounts = [mount["mountPath"] for mount in chart.pod(manifest)["containers"][0]["volumeMounts"]]
        assert ("/etc/waypost-channels" in mounts) == (role == "sender" and case == "production")
    assert settings(case).get("secrets", {}).get("dir", "") == ("/etc/waypost-channels" if case == "production" else "")


def test_production_uses_every_kind_of_file():
    assert {section: set(names) for section, names in files_of("production").items()} == {
        "kafka": {"ca_file", "cert_file", "key_file", "password_file"},
        "redis": {"ca_file", "cert_file", "key_file", "password_file"},
        "registry": {"ca_file", "password_file"},
        "control": {"tls_cert_file", "tls_key_file", "client_ca_file", "access_file"},
        "owner": {"tls_cert_file", "tls_key_file", "ca_file"},
        "secrets": {"link_key_file"},
        "mail": {"smtp_password_file"},
    }
    others = {name for case in ("oidc", "oauth", "sentinel") for section in files_of(case).values() for name in section}
    assert {"token_file", "client_secret_file"} <= others


def test_addresses():
    found = settings("minimal")
    assert found["redis"]["url"] == "redis://redis:6379/0"
    assert [found[section]["listen"] for section in ("ingest", "control", "owner", "admin")] == [
        "0.0.0.0:8080",
        "0.0.0.0:7070",
        "0.0.0.0:7071",
        "0.0.0.0:9090",
    ]
    assert settings("oidc")["redis"]["url"] == "rediss://[fd00::6]:6379/0"
    sentinel = settings("sentinel")["redis"]
    assert sentinel["sentinels"] == "sentinel-0:26379,sentinel-1:26379,sentinel-2:26379"
    assert (sentinel["master"], sentinel["url"]) == ("waypost", "redis://sentinel-0:26379/3")
    cluster = settings("cluster")["redis"]
    assert cluster["cluster"] == "redis-0.redis:6380,redis-1.redis:6380,redis-2.redis:6380"
    assert cluster["url"] == "rediss://redis-0.redis:6380/0" and not {"sentinels", "master"} & set(cluster)
    assert "listen" not in settings("oauth")["control"], "nobody serves the API here"
    assert found["mail"]["catcher_dir"].startswith("/tmp/")
    for manifest in chart.deployments("minimal").values():
        env = {variable["name"]: variable for variable in chart.pod(manifest)["containers"][0]["env"]}
        assert env["POD_IP"]["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"
        assert env["WAYPOST_OWNER_ADVERTISE"]["value"] == "$(POD_IP):7071"
        assert list(env).index("POD_IP") < list(env).index("WAYPOST_OWNER_ADVERTISE"), "only what stands before can be named"


def test_kafka_security():
    found = {case: (settings(case)["kafka"]["security"], settings(case)["kafka"].get("sasl", "")) for case in chart.CASES}
    assert found == {
        "cluster": ("plaintext", ""),
        "hpa": ("plaintext", ""),
        "minimal": ("plaintext", ""),
        "oauth": ("sasl_ssl", "oauthbearer"),
        "oidc": ("sasl_ssl", "oauthbearer"),
        "production": ("sasl_ssl", "scram-sha-512"),
        "sentinel": ("sasl_plaintext", "plain"),
        "strimzi": ("sasl_ssl", "scram-sha-512"),
        "strimzi-tls": ("ssl", ""),
    }


def test_text_is_escaped():
    odd = 'a "b" \\\\ <&> ü'
    assert settings("minimal", f'config.log.filter="{odd.replace(chr(34), chr(92) + chr(34))}"')["log"]["filter"] == 'a "b" \\ <&> ü'
    assert settings("minimal", "config.ingest.key_rate=12345678")["ingest"]["key_rate"] == 12345678
    for sample in (0, 0.000025, 0.5, 1):
        assert settings("minimal", f"config.telemetry.sample={sample:f}")["telemetry"]["sample"] == sample


@every_case
def test_the_program_accepts_the_settings(case, tmp_path):
    if not BINARY.exists():
        pytest.skip("target/debug/waypost has not been built: `make check` is not enough, `cargo build -p waypost` is")
    if BINARY.stat().st_mtime < (chart.ROOT / "crates/app/src/default.toml").stat().st_mtime:
        pytest.skip("target/debug/waypost is older than its settings")
    (path, *_) = [tmp_path / "waypost.toml"]
    maps = [m for m in chart.of_kind(chart.render(case), "ConfigMap") if "waypost.toml" in m["data"]]
    path.write_text(maps[0]["data"]["waypost.toml"])
    for manifest in chart.of_kind(chart.render(case), *chart.WORKLOADS):
        own = chart.pod(manifest)["containers"][0]
        env = {v["name"]: v["value"] for v in own.get("env", []) if "value" in v}
        done = subprocess.run(
            [BINARY, "--config", path, "config", "check"], env={**env, "PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{manifest['metadata']['name']}: {done.stdout}{done.stderr}"
