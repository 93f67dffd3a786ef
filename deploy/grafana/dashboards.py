#!/usr/bin/env python3
"""Grafana's dashboards as code.

    python3 deploy/grafana/dashboards.py          writes helm/waypost/files/dashboards/*.json anew
    python3 deploy/grafana/dashboards.py --check   only says whether they are current

The JSON is what the chart and deploy/compose.yaml mount, so it is committed; deploy/tests proves it current. In the expressions
below `<c>` stands for the chosen clusters and `<r>` for the chosen clusters and roles.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "helm/waypost/files/dashboards"

CLUSTER = 'namespace=~"$cluster"'
ROLE = f'{CLUSTER},role=~"$role"'
# Between two scrapes at least, and never shorter than a panel's resolution.
RATE = "[$__rate_interval]"
WHOLE = "[$__range]"

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, YELLOW, RED = "green", "yellow", "red"


def expression(text):
    """An expression with its selectors filled in."""
    return " ".join(text.split()).replace("<c>", CLUSTER).replace("<r>", ROLE)


# ---- panels --------------------------------------------------------------------------------------------


def targets(queries):
    """Queries: pairs of legend and expression."""
    return [
        {"datasource": DATASOURCE, "refId": chr(ord("A") + number), "expr": expression(text), "legendFormat": legend, "range": True}
        for number, (legend, text) in enumerate(queries)
    ]


def steps(levels):
    """Colours from a value on: pairs of colour and value, the first without one."""
    return {"mode": "absolute", "steps": [{"color": colour, "value": value} for colour, value in levels]}


def series(title, description, queries, unit="short", width=12, stacked=False, levels=None, largest=None):
    """Curves over time."""
    custom = {
        "drawStyle": "line",
        "fillOpacity": 30 if stacked else 8,
        "lineWidth": 1,
        "showPoints": "never",
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if levels else "off"},
    }
    defaults = {"unit": unit, "min": 0, "custom": custom, "thresholds": steps(levels or [(GREEN, None)])}
    if largest is not None:
        defaults["max"] = largest
    return {
        "type": "timeseries",
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": targets(queries),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"], "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "size": (width, 8),
    }


def stat(title, description, query, levels, unit="short", width=4, decimals=None):
    """One number, coloured by its value."""
    defaults = {"unit": unit, "thresholds": steps(levels), "color": {"mode": "thresholds"}}
    if decimals is not None:
        defaults["decimals"] = decimals
    return {
        "type": "stat",
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": [{**targets([("", query)])[0], "range": False, "instant": True}],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background",
            "graphMode": "none",
            "textMode": "value",
        },
        "size": (width, 4),
    }


def table(title, description, query, columns, width=12, unit="short"):
    """Rows of an instant query; columns: the labels to show, in order, with their headings."""
    order = {name: number for number, name in enumerate([*columns, "Value"])}
    return {
        "type": "table",
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": [{**targets([("", query)])[0], "range": False, "instant": True, "format": "table"}],
        "fieldConfig": {"defaults": {"unit": unit, "thresholds": steps([(GREEN, None)])}, "overrides": []},
        "options": {"showHeader": True, "cellHeight": "sm"},
        "transformations": [
            {"id": "filterFieldsByName", "options": {"include": {"names": [*columns, "Value"]}}},
            {"id": "organize", "options": {"indexByName": order, "renameByName": columns}},
        ],
        "size": (width, 8),
    }


def heatmap(title, description, query, unit="s", width=12):
    """How many observations fell into each bucket of a histogram."""
    return {
        "type": "heatmap",
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": [{**targets([("{{le}}", query)])[0], "format": "heatmap"}],
        "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {
            "calculate": False,
            "yAxis": {"unit": unit},
            "color": {"mode": "scheme", "scheme": "Blues", "steps": 32},
            "cellGap": 1,
            "tooltip": {"mode": "single", "yHistogram": False},
        },
        "size": (width, 8),
    }


def note(title, text, width=24):
    """Words for whoever looks at the panels."""
    return {"type": "text", "title": title, "options": {"mode": "markdown", "content": text}, "size": (width, 4)}


def quantiles(name, by="", matchers="<r>"):
    """Two percentiles of a histogram."""
    labels = ", ".join(["le", by] if by else ["le"])
    legend = f" {{{{{by}}}}}" if by else ""
    return [
        (f"p{percent}{legend}", f"histogram_quantile({percent / 100}, sum by ({labels}) (rate({name}_bucket{{{matchers}}}{RATE})))")
        for percent in (50, 99)
    ]


# ---- dashboards ----------------------------------------------------------------------------------------


def chosen(name, label, query):
    """A variable with the values that a label has; all of them by default."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        # installations without the label are part of `All`
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


VARIABLES = [
    {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "current": {}},
    chosen("cluster", "Cluster", "label_values(waypost_build_info, namespace)"),
    chosen("role", "Role", f"label_values(waypost_partitions_led{{{CLUSTER}}}, role)"),
]


def dashboard(name, title, description, rows, variables=()):
    """Rows: pairs of a heading and its panels, which flow from left to right."""
    panels, top = [], 0
    for heading, members in rows:
        panels.append({"type": "row", "title": heading, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": top, "w": 24, "h": 1}})
        top, left, tallest = top + 1, 0, 0
        for member in members:
            width, height = member["size"]
            if left + width > 24:
                top, left, tallest = top + tallest, 0, 0
            place = {"gridPos": {"x": left, "y": top, "w": width, "h": height}}
            panels.append({**{key: value for key, value in member.items() if key != "size"}, **place})
            left, tallest = left + width, max(tallest, height)
        top += tallest
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    return {
        "uid": f"waypost-{name}",
        "title": f"Waypost / {title}",
        "description": description,
        "tags": ["waypost"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 2,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": [
            {"type": "dashboards", "title": "Waypost", "tags": ["waypost"], "asDropdown": True, "keepTime": True, "includeVars": True},
            *[link(other) for other in ("overview", "internals") if other != name],
        ],
        "templating": {"list": [*VARIABLES, *variables]},
        "annotations": {"list": []},
        "panels": panels,
    }


def link(name):
    """A link to another dashboard, at the same time and with the same choices."""
    return {"type": "link", "title": name.capitalize(), "url": f"/d/waypost-{name}", "icon": "dashboard", "keepTime": True, "includeVars": True}


def failed(of, span, by=()):
    """Calls that failed or of which nobody knows, permanent refusals left aside; `of` is a selector, `by` the labels that stay."""
    labels = f" by ({', '.join(by)})" if by else ""
    refused = f'sum{labels} (rate(waypost_sends_failed_total{{{of},class!~"permanent_.+"}}{span}))'
    silent = f"sum{labels} (rate(waypost_sends_unknown_total{{{of}}}{span}))"
    return f"({silent} + ({refused} or 0 * {silent}))"


def share_failed(of, span, by=()):
    """Of all calls but those that were refused for good: `waypost_sends_total` counts what was taken."""
    labels = f" by ({', '.join(by)})" if by else ""
    return f"{failed(of, span, by)} / ({failed(of, span, by)} + sum{labels} (rate(waypost_sends_total{{{of}}}{span})) > 0)"


# Decisions pass three folds; the newest record of each waits as long as its oldest does.
DELAY = 'sum by (namespace) (max by (namespace, role) (waypost_consumer_lag_seconds{<c>,role=~"identity|segmenter|orchestrator"}))'

OVERVIEW = dashboard(
    "overview",
    "Overview",
    "Whether anything is wrong, whether the objectives hold, and what goes through.",
    [
        (
            "Is anything wrong?",
            [
                stat("Processes", "Processes that answer.", "count(waypost_build_info{<c>})", [(RED, None), (GREEN, 1)], width=3),
                stat(
                    "Alerts",
                    "Alerts of Waypost that fire. Each names its runbook.",
                    'count(ALERTS{<c>,alertname=~"Waypost.+",alertstate="firing"}) or vector(0)',
                    [(GREEN, None), (RED, 1)],
                    width=3,
                ),
                stat(
                    "Halted partitions",
                    "A halted partition folds nothing until somebody has looked at it; all others go on.",
                    "sum(waypost_partition_halted{<r>}) or vector(0)",
                    [(GREEN, None), (RED, 1)],
                    width=3,
                ),
                stat(
                    "Without leader",
                    "Partitions of a role that no process leads, as against the role that has the most.",
                    """sum(max by (namespace) (sum by (namespace, role) (waypost_partitions_led{<c>}))
                       - on (namespace) group_right () (sum by (namespace, role) (waypost_partitions_led{<r>})
                       or 0 * sum by (namespace, role) (max_over_time(waypost_partitions_led{<r>}[6h])))) or vector(0)""",
                    [(GREEN, None), (YELLOW, 1), (RED, 4)],
                    width=3,
                ),
                stat(
                    "Mismatches",
                    "Parts of the store or of a channel that were not what they had to be, in the last day. There should never be one.",
                    """sum(increase(waypost_digest_mismatch_total{<r>}[1d])) + sum(increase(waypost_channel_mismatch_total{<r>}[1d]))
                       or vector(0)""",
                    [(GREEN, None), (RED, 0.5)],
                    width=3,
                    decimals=0,
                ),
                stat(
                    "Dead letters",
                    "Inputs set aside in the last day; `waypostctl deadletter list` shows them.",
                    "sum(increase(waypost_dead_letters_total{<r>}[1d])) or vector(0)",
                    [(GREEN, None), (YELLOW, 1)],
                    width=3,
                    decimals=0,
                ),
                stat(
                    "Unknown sends",
                    "Calls of the last day of which nobody knows whether the message went out.",
                    "sum(increase(waypost_sends_unknown_total{<c>}[1d])) or vector(0)",
                    [(GREEN, None), (YELLOW, 1)],
                    width=3,
                    decimals=0,
                ),
                stat(
                    "Rewind headroom",
                    "How far the partition with the least room could be rewound before records that it needs are gone; no value: no inbox has "
                    "been trimmed yet.",
                    "min(waypost_rewind_headroom_seconds{<r>})",
                    [(RED, None), (YELLOW, 86400), (GREEN, 259200)],
                    unit="s",
                    width=3,
                ),
            ],
        ),
        (
            "Objectives, over the time chosen above",
            [
                stat(
                    "Ingest availability, 99.9 %",
                    "Requests to the HTTP door that were not answered with 5xx.",
                    f"""1 - (sum(increase(waypost_http_requests_total{{<c>,code=~"5.."}}{WHOLE})) or vector(0))
                        / (sum(increase(waypost_http_requests_total{{<c>}}{WHOLE})) > 0)""",
                    [(RED, None), (GREEN, 0.999)],
                    unit="percentunit",
                    width=6,
                    decimals=3,
                ),
                stat(
                    "Event to decision, p99 < 5 s",
                    "99 % of the time no more than this lay between an event's append and its decision: how old the oldest record "
                    "was that waited at identity, segmenter and orchestrator, added up. An upper bound; one event is followed by no metric.",
                    f"max(quantile_over_time(0.99, ({DELAY}){WHOLE[:-1]}:1m]))",
                    [(GREEN, None), (RED, 5)],
                    unit="s",
                    width=6,
                ),
                stat(
                    "Timers within 30 s, 99 %",
                    "Timers that fired no later than 30 s behind their due.",
                    f"""sum(increase(waypost_timer_lateness_seconds_bucket{{<r>,le=~"30|30.0"}}{WHOLE}))
                        / (sum(increase(waypost_timer_lateness_seconds_count{{<r>}}{WHOLE})) > 0)""",
                    [(RED, None), (GREEN, 0.99)],
                    unit="percentunit",
                    width=6,
                    decimals=3,
                ),
                stat(
                    "Send success, 99.5 %",
                    "Calls that a provider has taken, those left aside that it refused for good because of the recipient or the content. "
                    "Silence counts as failed, and each retry by itself.",
                    f"1 - {share_failed('<c>', WHOLE)}",
                    [(RED, None), (GREEN, 0.995)],
                    unit="percentunit",
                    width=6,
                    decimals=3,
                ),
                series(
                    "Error budget, times as fast as it may be spent",
                    "At 1 the month's budget lasts a month. Alerts: 14.4 over an hour, 6 over six hours, 1 over three days.",
                    [
                        ("ingest", "max(waypost:ingest_errors:ratio_rate1h{<c>}) / 0.001"),
                        ("decisions", "max(waypost:decisions_late:ratio_rate1h{<c>}) / 0.01"),
                        ("timers", "max(waypost:timers_late:ratio_rate1h{<c>}) / 0.01"),
                        ("sends", "max(waypost:sends_failed:ratio_rate1h{<c>}) / 0.005"),
                    ],
                    levels=[(GREEN, None), (YELLOW, 1), (RED, 14.4)],
                ),
                table(
                    "Alerts that fire",
                    "Each has a page under docs/runbooks.",
                    'ALERTS{<c>,alertname=~"Waypost.+",alertstate="firing"}',
                    {"alertname": "Alert", "severity": "Severity", "role": "Role", "partition": "Partition", "provider": "Provider"},
                ),
            ],
        ),
        (
            "What goes through",
            [
                series(
                    "Events received",
                    "At the HTTP door by their type, at the Kafka door as `event`.",
                    [("{{source_kind}} {{type}}", f"sum by (source_kind, type) (rate(waypost_events_received_total{{<c>}}{RATE}))")],
                    unit="ops",
                    width=8,
                    stacked=True,
                ),
                series(
                    "Journeys",
                    "Runs that began and ended.",
                    [
                        ("entries", f"sum(rate(waypost_journey_entries_total{{<c>}}{RATE}))"),
                        ("exits", f"sum(rate(waypost_journey_exits_total{{<c>}}{RATE}))"),
                    ],
                    unit="ops",
                    width=8,
                ),
                series(
                    "Sends",
                    "Messages that providers have taken, by channel, and what was stopped before a call.",
                    [
                        ("{{channel}}", f"sum by (channel) (rate(waypost_sends_total{{<c>}}{RATE}))"),
                        ("{{channel}} stopped", f"sum by (channel) (rate(waypost_sends_stopped_total{{<c>}}{RATE}))"),
                    ],
                    unit="ops",
                    width=8,
                ),
                series(
                    "How far behind",
                    "Age of the oldest record that a role has not folded yet: what people feel.",
                    [("{{role}}", "max by (role) (waypost_consumer_lag_seconds{<r>})")],
                    unit="s",
                ),
                series("Timers late by", "Behind their due, when they fired.", quantiles("waypost_timer_lateness_seconds"), unit="s"),
            ],
        ),
        (
            "About the objectives",
            [
                note(
                    "",
                    "Two more objectives have no metric, because what breaks them is no event that a process could count: *unexplained "
                    "duplicate sends 0* and *sends to a suppressed recipient 0*. `make chaos` and the simulator look for both; every send "
                    "of which nobody knows stands in `waypost_sends_unknown_total`, and every one that was stopped in "
                    "`waypost_sends_stopped_total` with its reason.",
                )
            ],
        ),
    ],
)

PIPELINE = dashboard(
    "pipeline",
    "Pipeline",
    "The doors, the four folds, and what they set aside.",
    [
        (
            "Doors",
            [
                series(
                    "Requests by answer",
                    "The HTTP door.",
                    [("{{code}}", f"sum by (code) (rate(waypost_http_requests_total{{<c>}}{RATE}))")],
                    unit="reqps",
                    width=8,
                    stacked=True,
                ),
                series(
                    "Time to the answer",
                    "From a request's receipt to its answer, which is given when Kafka has acknowledged the append.",
                    quantiles("waypost_http_request_duration_seconds", matchers="<c>"),
                    unit="s",
                    width=8,
                ),
                series(
                    "Not let in",
                    "Calls and events that were refused, by reason.",
                    [("{{reason}}", f"sum by (reason) (rate(waypost_events_rejected_total{{<c>}}{RATE}))")],
                    unit="ops",
                    width=8,
                    stacked=True,
                ),
            ],
        ),
        (
            "Folds",
            [
                series(
                    "Records folded",
                    "Of all kinds: events, answers, ticks.",
                    [("{{role}}", f"sum by (role) (rate(waypost_events_processed_total{{<r>}}{RATE}))")],
                    unit="ops",
                ),
                series(
                    "Time to fold a record",
                    "A batch's time by its records.",
                    quantiles("waypost_event_processing_duration_seconds", "role"),
                    unit="s",
                ),
                series(
                    "How far behind, in time",
                    "Age of the oldest record that is not folded yet.",
                    [("{{role}}", "max by (role) (waypost_consumer_lag_seconds{<r>})")],
                    unit="s",
                    levels=[(GREEN, None), (RED, 60)],
                ),
                series(
                    "How far behind, in frames",
                    "By Kafka's own account of the consumer groups where an exporter gives it, else by that of the processes. A frame "
                    "holds many records.",
                    [
                        (
                            "{{role}}",
                            r"""sum by (role) (label_replace(kafka_consumergroup_lag{consumergroup=~".*waypost[.][0-9]+[.]($role)"},
                                "role", "$1", "consumergroup", ".*[.](.+)"))
                                or on (role) sum by (role) (waypost_consumer_lag_frames{<r>})""",
                        )
                    ],
                ),
                series(
                    "The partitions that are furthest behind",
                    "In frames.",
                    [("{{role}}/{{partition}}", "topk(10, max by (role, partition) (waypost_consumer_lag_frames{<r>}))")],
                ),
                series(
                    "Partitions led",
                    "Each role has the same number of partitions; a dip is a hand-over.",
                    [("{{role}}", "sum by (role) (waypost_partitions_led{<r>})")],
                ),
            ],
        ),
        (
            "Set aside, and in doubt",
            [
                series(
                    "Dead letters",
                    "`waypostctl deadletter list` shows them, `redrive` puts them back.",
                    [("{{role}} {{reason}}", f"sum by (role, reason) (increase(waypost_dead_letters_total{{<r>}}{RATE}))")],
                    width=8,
                ),
                series(
                    "Oldest gap in a channel",
                    "A gap heals within seconds, or a log has lost records: `waypost repair --list`.",
                    [("{{role}}", "max by (role) (waypost_channel_gap_seconds{<r>})")],
                    unit="s",
                    width=8,
                ),
                table(
                    "Halted",
                    "What each waits for stands in its process' log and at /partitions of its admin port.",
                    "waypost_partition_halted{<r>} == 1",
                    {"role": "Role", "partition": "Partition", "instance": "Process"},
                    width=8,
                ),
            ],
        ),
    ],
)

JOURNEY = '<c>,workspace=~"$workspace",journey=~"$journey"'

JOURNEYS = dashboard(
    "journeys",
    "Journeys",
    "Who enters, who leaves and why, and whether timers keep their time.",
    [
        (
            "Runs",
            [
                series(
                    "Entries",
                    "Runs that began, by journey and version.",
                    [("{{journey}} v{{version}}", f"sum by (journey, version) (rate(waypost_journey_entries_total{{{JOURNEY}}}{RATE}))")],
                    unit="ops",
                ),
                series(
                    "Exits by reason",
                    "Runs that ended.",
                    [("{{journey}} {{reason}}", f"sum by (journey, reason) (rate(waypost_journey_exits_total{{{JOURNEY}}}{RATE}))")],
                    unit="ops",
                    stacked=True,
                ),
                table(
                    "Entries over the time chosen above",
                    "",
                    f"sum by (workspace, journey, version) (increase(waypost_journey_entries_total{{{JOURNEY}}}{WHOLE}))",
                    {"workspace": "Workspace", "journey": "Journey", "version": "Version"},
                ),
                table(
                    "Exits over the time chosen above",
                    "",
                    f"sum by (workspace, journey, reason) (increase(waypost_journey_exits_total{{{JOURNEY}}}{WHOLE}))",
                    {"workspace": "Workspace", "journey": "Journey", "reason": "Reason"},
                ),
            ],
        ),
        (
            "Timers",
            [
                series(
                    "Timers pending",
                    "People with something to wait for.",
                    [("{{role}}", "sum by (role) (waypost_timers_pending{<r>})")],
                    width=8,
                ),
                series(
                    "Timers late by",
                    "Behind their due, when they fired. Timers that wait for something not to happen also wait for what is still upstream.",
                    quantiles("waypost_timer_lateness_seconds", "role"),
                    unit="s",
                    width=8,
                    levels=[(GREEN, None), (RED, 30)],
                ),
                heatmap(
                    "Lateness of timers",
                    "",
                    f"sum by (le) (increase(waypost_timer_lateness_seconds_bucket{{<r>}}{RATE}))",
                    width=8,
                ),
            ],
        ),
        (
            "Figures",
            [
                series(
                    "Counting behind by",
                    "How far what `waypostctl stats` tells lies behind, by the control process that is furthest behind.",
                    [("control", "max(waypost_reports_lag_seconds{<c>})")],
                    unit="s",
                    width=24,
                ),
            ],
        ),
    ],
    variables=[
        chosen("workspace", "Workspace", f"label_values(waypost_journey_entries_total{{{CLUSTER}}}, workspace)"),
        chosen("journey", "Journey", f'label_values(waypost_journey_entries_total{{{CLUSTER},workspace=~"$workspace"}}, journey)'),
    ],
)

PROVIDER = '<c>,channel=~"$channel",provider=~"$provider"'

SENDING = dashboard(
    "sending",
    "Sending",
    "What goes to providers, what comes of it, and what is stopped before.",
    [
        (
            "Calls",
            [
                series(
                    "Taken",
                    "Messages that each provider has taken; a provider is named by its Channel definition.",
                    [("{{channel}} {{provider}}", f"sum by (channel, provider) (rate(waypost_sends_total{{{PROVIDER}}}{RATE}))")],
                    unit="ops",
                    width=8,
                    stacked=True,
                ),
                series(
                    "Failed, by class",
                    "permanent_recipient and permanent_content are final; the others are tried again while the message is valid, so that a "
                    "message may stand here several times.",
                    [
                        (
                            "{{provider}} {{class}}",
                            f"sum by (provider, class) (rate(waypost_sends_failed_total{{{PROVIDER}}}{RATE}))",
                        )
                    ],
                    unit="ops",
                    width=8,
                    stacked=True,
                ),
                series(
                    "Share that failed",
                    "Of the calls to a provider, permanent refusals left aside; silence counts as failed.",
                    [
                        (
                            "{{provider}}",
                            share_failed(PROVIDER, RATE, ["provider"]),
                        )
                    ],
                    unit="percentunit",
                    width=8,
                    levels=[(GREEN, None), (RED, 0.1)],
                    largest=1,
                ),
                series(
                    "Duration of calls",
                    "From the first byte to the provider's answer.",
                    quantiles("waypost_send_duration_seconds", "provider", PROVIDER),
                    unit="s",
                ),
                heatmap(
                    "Duration of calls",
                    "",
                    f"sum by (le) (increase(waypost_send_duration_seconds_bucket{{{PROVIDER}}}{RATE}))",
                ),
            ],
        ),
        (
            "Trouble",
            [
                series(
                    "Unknown",
                    "The provider fell silent behind the first byte. Marketing stays unknown, so that nobody gets it twice; other mail "
                    "is tried again.",
                    [
                        (
                            "{{channel}} {{provider}}",
                            f"sum by (channel, provider) (increase(waypost_sends_unknown_total{{{PROVIDER}}}{RATE}))",
                        )
                    ],
                    width=8,
                ),
                series(
                    "Circuits",
                    "1: calls are held back after failures in a row, or because of bad credentials. By process.",
                    [("{{provider}} {{instance}}", 'max by (provider, instance) (waypost_provider_circuit_state{<c>,provider=~"$provider"})')],
                    width=8,
                    largest=1,
                ),
                series(
                    "Stopped before a call",
                    "By the gates, with their reasons.",
                    [("{{reason}}", f'sum by (reason) (rate(waypost_sends_stopped_total{{<c>,channel=~"$channel"}}{RATE}))')],
                    unit="ops",
                    width=8,
                    stacked=True,
                ),
            ],
        ),
    ],
    variables=[
        chosen("channel", "Channel", f"label_values(waypost_sends_total{{{CLUSTER}}}, channel)"),
        chosen("provider", "Provider", f'label_values(waypost_sends_total{{{CLUSTER},channel=~"$channel"}}, provider)'),
    ],
)


def ours(name):
    """A metric that every program has, of Waypost's processes only."""
    return f"({name}{{<c>}} and on (job, instance) waypost_build_info{{<c>}})"


INTERNALS = dashboard(
    "internals",
    "Internals",
    "For whoever looks for a cause: commits, the store, Kafka, channels, processes, the control API.",
    [
        (
            "Commits",
            [
                series(
                    "Commits by result",
                    "Refused: another process or another state was there. Unknown: the store's answer got lost.",
                    [("{{role}} {{result}}", f"sum by (role, result) (rate(waypost_commits_total{{<r>}}{RATE}))")],
                    unit="ops",
                    width=8,
                ),
                series("Duration of commits", "", quantiles("waypost_commit_duration_seconds", "role"), unit="s", width=8),
                series(
                    "Claims that folded something again",
                    "After a crash, a store that was rewound, a take-over.",
                    [("{{role}}", f"sum by (role) (increase(waypost_rewound_total{{<r>}}{RATE}))")],
                    width=8,
                ),
                series(
                    "Folded and not committed",
                    "Records that a crash now would fold again.",
                    [("{{role}}", "sum by (role) (waypost_uncommitted_records{<r>})")],
                    width=8,
                ),
                series(
                    "Published and not acknowledged",
                    "Outputs that Kafka has not acknowledged; at 16 MiB a partition takes nothing more.",
                    [("{{role}}", "sum by (role) (waypost_unacknowledged_bytes{<r>})")],
                    unit="bytes",
                    width=8,
                ),
                series(
                    "Rewind headroom",
                    "How far a partition could be rewound before records that it needs are gone: the least of each role.",
                    [("{{role}}", "min by (role) (waypost_rewind_headroom_seconds{<r>})")],
                    unit="s",
                    width=8,
                    levels=[(RED, None), (YELLOW, 86400), (GREEN, 259200)],
                ),
            ],
        ),
        (
            "Store, Kafka, channels",
            [
                series("Store answers", "1: yes. By process with a keyed role.", [("{{instance}}", "waypost_store_up{<c>}")], width=6, largest=1),
                series("Brokers", "That the cluster has, as each process hears; 0: none answers.", [("{{instance}}", "waypost_kafka_brokers_up{<c>}")], width=6),
                series(
                    "Oldest gap in a channel",
                    "",
                    [("{{role}}", "max by (role) (waypost_channel_gap_seconds{<r>})")],
                    unit="s",
                    width=6,
                ),
                series(
                    "Mismatches",
                    "Digests: a part of the store is not what it was. Channels: a source told another history than before.",
                    [
                        ("digest {{role}}", "sum by (role) (waypost_digest_mismatch_total{<r>})"),
                        ("channel {{role}}", "sum by (role) (waypost_channel_mismatch_total{<r>})"),
                    ],
                    width=6,
                ),
            ],
        ),
        (
            "Processes",
            [
                series("Memory", "Resident.", [("{{instance}}", ours("process_resident_memory_bytes"))], unit="bytes", width=8),
                series(
                    "Processor",
                    "Cores in use.",
                    [("{{instance}}", f"rate(process_cpu_seconds_total{{<c>}}{RATE}) and on (job, instance) waypost_build_info{{<c>}}")],
                    width=8,
                ),
                series("File descriptors", "", [("{{instance}}", ours("process_open_fds"))], width=8),
                series(
                    "Starts",
                    "How often a process began anew.",
                    [("{{instance}}", "resets(process_cpu_seconds_total{<c>}[1h]) and on (job, instance) waypost_build_info{<c>}")],
                    width=8,
                ),
                series(
                    "Metrics left out",
                    "Values for which a process had no room, by family: something has more names than a dashboard could show.",
                    [("{{family}}", f"sum by (family) (increase(waypost_metrics_dropped_total{{<c>}}{RATE}))")],
                    width=8,
                ),
                series(
                    "Partitions led",
                    "By process.",
                    [("{{instance}} {{role}}", "sum by (instance, role) (waypost_partitions_led{<r>})")],
                    width=8,
                ),
                table(
                    "Versions",
                    "All processes should say the same but during a roll-out.",
                    "waypost_build_info{<c>}",
                    {"instance": "Process", "version": "Version", "engine": "Engine", "namespace": "Cluster"},
                    width=8,
                ),
            ],
        ),
        (
            "Control API",
            [
                series(
                    "Calls by answer",
                    "",
                    [("{{method}} {{code}}", f"sum by (method, code) (rate(waypost_control_requests_total{{<c>}}{RATE}))")],
                    unit="reqps",
                ),
                series(
                    "Duration of calls",
                    "",
                    quantiles("waypost_control_request_duration_seconds", "method", "<c>"),
                    unit="s",
                ),
            ],
        ),
    ],
)

ALL = [OVERVIEW, PIPELINE, JOURNEYS, SENDING, INTERNALS]


def files():
    """The name of each dashboard's file, with what it has to hold."""
    return {board["uid"].removeprefix("waypost-") + ".json": json.dumps(board, indent=2, ensure_ascii=False) + "\n" for board in ALL}


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    stale = []
    for name, text in files().items():
        path = FOLDER / name
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if not sys.argv[1:]:
                FOLDER.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    if sys.argv[1:] and stale:
        sys.exit(f"not current: {', '.join(stale)}; run python3 deploy/grafana/dashboards.py")


if __name__ == "__main__":
    main()
