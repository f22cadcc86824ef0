"""Alert rules and dashboard: Prometheus's own tool reads them, every alert fires when it should and only then, and they
name metrics that the program has."""

import dataclasses
import json
import pathlib
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from archiver import model
from archiver.metrics import Metrics, failure_reasons
from tests.harness import documents
from tests.harness.deployment import DEPLOY
from tests.harness.programs import needs

RULES = DEPLOY / "prometheus/rules.yaml"
DASHBOARD = DEPLOY / "grafana/kling-archiver.json"
CURRENT = 'job="kling-archiver",instance="one:8080"'


def rules() -> list[dict[str, Any]]:
    groups = documents.read(RULES)["groups"]
    return [rule for group in groups for rule in group["rules"]]


@dataclasses.dataclass(frozen=True)
class Firing:
    """Series (in promtool's notation, a value a minute), and the labels of the alert that they bring."""

    alert: str
    series: Mapping[str, str]
    labels: Mapping[str, str]
    at: str = "20m"
    value: str = ""
    """As the summary shows it."""


def of_code(alert: str, code: str, *, account: str = "default", at: str = "20m") -> Firing:
    """As two processes show it."""
    series = {
        f'kling_problems{{{CURRENT},account="{account}",code="{code}"}}': "1x500",
        f'kling_problems{{job="kling-archiver",instance="two:8080",account="{account}",code="{code}"}}': "2x500",
    }
    return Firing(alert, series, {"account": account} if account else {}, at)


FIRING = (
    Firing(
        "KlingProcessDown",
        {f"up{{{CURRENT}}}": "1 1 1 0x20"},
        {"job": "kling-archiver", "instance": "one:8080"},
        at="10m",
    ),
    Firing("KlingNothingScraped", {'up{job="other"}': "1x60"}, {"job": "kling-archiver"}),
    Firing(
        "KlingRestarts",
        {f"process_start_time_seconds{{{CURRENT}}}": "100 200 300 400x30"},
        {"job": "kling-archiver", "instance": "one:8080"},
        value="3",
    ),
    Firing(
        "KlingVersionsDiffer",
        {
            f'kling_build_info{{{CURRENT},version="0.1.0"}}': "1x90",
            'kling_build_info{job="kling-archiver",instance="two:8080",version="0.2.0"}': "1x90",
        },
        {},
        at="80m",
        value="2",
    ),
    of_code("KlingDoorClosed", "door_closed", account=""),
    of_code("KlingNoDoor", "no_door", account=""),
    of_code("KlingNoWorker", "no_worker", account=""),
    of_code("KlingAccountUnasked", "account_unasked"),
    Firing(
        "KlingHold",
        {f'kling_holds{{{CURRENT},account="default",stage="archive",reason="bucket_missing"}}': "1x60"},
        {"account": "default", "stage": "archive", "reason": "bucket_missing"},
    ),
    of_code("KlingHoldLasts", "hold", at="370m"),
    of_code("KlingDeadline", "deadline"),
    of_code("KlingLost", "lost", at="1m"),
    of_code("KlingBuried", "buried"),
    of_code("KlingWaiting", "waiting"),
    of_code("KlingSweepLate", "sweep_late"),
    of_code("KlingObjectsMissing", "objects_missing", at="1m"),
    of_code("KlingAmendmentWaiting", "amendment_waiting"),
    of_code("KlingForwardsDead", "forwards_dead", at="1m"),
    of_code("KlingDiskLow", "disk_low", account=""),
    of_code("KlingSettings", "settings"),
    Firing(
        "KlingCallbacksRefused",
        {f'kling_callbacks_total{{{CURRENT},result="unavailable"}}': "0+1x60"},
        {},
        value="10",
    ),
    Firing(
        "KlingCallbacksForged",
        {f'kling_callbacks_total{{{CURRENT},result="bad_signature"}}': "0+1x60"},
        {"result": "bad_signature"},
        at="60m",
        value="60",
    ),
    Firing(
        "KlingCallbacksMissed",
        {
            f'kling_missed_callbacks_total{{{CURRENT},account="default",family="images/generations"}}': "0+1x360",
            f'kling_callbacks_total{{{CURRENT},result="accepted"}}': "0x10 1x20 _x400",
        },
        {"account": "default", "family": "images/generations"},
        at="360m",
        value="360",
    ),
    Firing(
        "KlingAcksSlow",
        {
            f'kling_callback_ack_seconds_bucket{{{CURRENT},le="1"}}': "0x60",
            f'kling_callback_ack_seconds_bucket{{{CURRENT},le="2.5"}}': "0+100x60",
            f'kling_callback_ack_seconds_bucket{{{CURRENT},le="+Inf"}}': "0+100x60",
        },
        {},
        at="30m",
        value="2.485s",
    ),
    Firing(
        "KlingForwardsWait",
        {f'kling_forwards{{{CURRENT},state="waiting"}}': "500x90"},
        {},
        at="70m",
        value="500",
    ),
    Firing(
        "KlingGatewaySlow",
        {
            f'kling_gateway_overhead_seconds_bucket{{{CURRENT},le="0.25"}}': "0x60",
            f'kling_gateway_overhead_seconds_bucket{{{CURRENT},le="0.5"}}': "0+100x60",
            f'kling_gateway_overhead_seconds_bucket{{{CURRENT},le="+Inf"}}': "0+100x60",
        },
        {},
        at="30m",
        value="497.5ms",
    ),
    Firing(
        "KlingGatewayErrors",
        {
            f'kling_gateway_requests_total{{{CURRENT},kind="query",code="200"}}': "0+10x60",
            f'kling_gateway_requests_total{{{CURRENT},kind="query",code="504"}}': "0+10x60",
        },
        {},
        at="30m",
        value="50%",
    ),
    Firing(
        "KlingGatewayUnlinked",
        {f'kling_gateway_unlinked_total{{{CURRENT},kind="query"}}': "0+1x60"},
        {},
        at="60m",
        value="60",
    ),
    Firing(
        "KlingClockSkew",
        {f'kling_clock_skew_seconds{{{CURRENT},account="default"}}': "-400x60"},
        {"account": "default"},
        value="6m 40s",
    ),
)

HEALTHY = {
    f"up{{{CURRENT}}}": "1x500",
    f"process_start_time_seconds{{{CURRENT}}}": "100x200 900x300",  # one restart is an upgrade
    f'kling_build_info{{{CURRENT},version="0.1.0"}}': "1x500",
    f'kling_tasks{{{CURRENT},account="default",state="archived"}}': "0+5x500",
    f'kling_callbacks_total{{{CURRENT},result="accepted"}}': "0+60x500",
    f'kling_callbacks_total{{{CURRENT},result="unavailable"}}': "0x500",
    f'kling_callbacks_total{{{CURRENT},result="unauthorized"}}': "0x100 1x400",
    f'kling_missed_callbacks_total{{{CURRENT},account="default",family="images/generations"}}': "0x100 3x400",
    f'kling_callback_ack_seconds_bucket{{{CURRENT},le="0.025"}}': "0+60x500",
    f'kling_callback_ack_seconds_bucket{{{CURRENT},le="+Inf"}}': "0+60x500",
    f'kling_forwards{{{CURRENT},state="waiting"}}': "3x500",
    f'kling_gateway_overhead_seconds_bucket{{{CURRENT},le="0.005"}}': "0+60x500",
    f'kling_gateway_overhead_seconds_bucket{{{CURRENT},le="+Inf"}}': "0+60x500",
    f'kling_gateway_requests_total{{{CURRENT},kind="query",code="200"}}': "0+60x500",
    f'kling_clock_skew_seconds{{{CURRENT},account="default"}}': "1x500",
    # A hold that ends by itself is no news.
    f'kling_holds{{{CURRENT},account="default",stage="verify",reason="api_unreachable"}}': "_x50 1x2 _x400",
}


WITHOUT_CALLBACKS = {
    f'kling_missed_callbacks_total{{{CURRENT},account="default",family="images/generations"}}': "0+1x500",
    f'kling_callbacks_total{{{CURRENT},result="accepted"}}': "0x500",
    f'kling_callbacks_total{{{CURRENT},result="malformed"}}': "0+1x500",
}
"""A daemon that finds its tasks by sweeps alone."""


def _test_of(firing: Firing) -> dict[str, Any]:
    rule = next(rule for rule in rules() if rule["alert"] == firing.alert)
    summary = re.sub(
        r"\{\{ \$labels\.(\w+) \}\}",
        lambda found: firing.labels.get(found[1], ""),
        rule["annotations"]["summary"],
    )
    annotations = rule["annotations"] | {"summary": re.sub(r"\{\{ \$value.*?\}\}", firing.value, summary)}
    expected = {"exp_labels": rule["labels"] | firing.labels, "exp_annotations": annotations}
    return {
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in firing.series.items()],
        "alert_rule_test": [{"eval_time": firing.at, "alertname": firing.alert, "exp_alerts": [expected]}],
    }


def _test_of_health(given: Mapping[str, str], *, moments: Sequence[str]) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in given.items()],
        "alert_rule_test": [
            {"eval_time": moment, "alertname": rule["alert"], "exp_alerts": []}
            for rule in rules()
            for moment in moments
        ],
    }


def _promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs("promtool", package="prometheus")
def test_each_alert_fires_when_it_should_and_none_while_all_is_well(tmp_path: pathlib.Path) -> None:
    tests = [_test_of_health(HEALTHY, moments=("10m", "201m")), *map(_test_of, FIRING)]
    quiet = _test_of_health(WITHOUT_CALLBACKS, moments=("370m",))
    quiet["alert_rule_test"] = [
        case for case in quiet["alert_rule_test"] if case["alertname"] == "KlingCallbacksMissed"
    ]
    tests.append(quiet)
    path = tmp_path / "rules.test.yaml"
    documents.write(path, {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests})

    assert {firing.alert for firing in FIRING} == {rule["alert"] for rule in rules()}
    _promtool("check", "rules", "--lint-fatal", str(RULES))
    _promtool("test", "rules", str(path))


def test_each_problem_code_is_an_alert() -> None:
    alerted = {rule["labels"]["code"] for rule in rules() if "code" in rule["labels"]}

    assert alerted == set(model.PROBLEM_CODES)
    assert [
        rule["alert"] for rule in rules() if rule["labels"]["severity"] not in {"critical", "warning"}
    ] == []


def test_each_alert_names_a_section_of_the_runbook() -> None:
    runbook = (DEPLOY / "README.md").read_text().partition("## Runbook")[2].partition("\n## ")[0]
    headings = set(re.findall(r"^#{3,4} (.+)$", runbook, re.MULTILINE)) | {"Upgrade"}
    named = {name.strip() for rule in rules() for name in rule["annotations"]["runbook"].split(",")}

    assert {re.sub("`", "", heading) for heading in headings} >= named


def expressions() -> Iterator[str]:
    """Of alerts and of the dashboard's panels."""
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in panels() for target in panel.get("targets", []))


def panels() -> list[dict[str, Any]]:
    board = json.loads(DASHBOARD.read_text())
    return [inner for panel in board["panels"] for inner in (panel, *panel.get("panels", []))]


def rendered() -> dict[str, dict[str, set[str]]]:
    """Series that the program has → their labels, with the values that are known beforehand."""
    known = {
        "state": {*model.State, "waiting", "delivered", "dead"},
        "stage": set(model.Stage),
        "reason": failure_reasons(),
        "code": set(model.PROBLEM_CODES),
    }
    found: dict[str, dict[str, set[str]]] = {}
    for collected in Metrics().registry.collect():
        for suffix in ("", "_total", "_bucket", "_sum", "_count"):
            found[collected.name + suffix] = {}
        for sample in collected.samples:
            for label, value in sample.labels.items():
                found[sample.name].setdefault(label, set()).add(value)
    return {
        name: labels | {label: set(values) for label, values in known.items()}
        for name, labels in found.items()
    }


def test_each_metric_that_rules_and_dashboard_name_is_one_of_the_program() -> None:
    series = rendered()
    named = {name for text in expressions() for name in re.findall(r"\b(?:kling|process)_\w+", text)}

    assert named - set(series) == set()
    assert len(named) > 15


def test_each_counter_whose_first_value_is_an_alert_has_its_series_from_the_start() -> None:
    """`increase` of a series that begins with a value is 0."""
    expressions = [rule["expr"] for rule in rules() if re.search(r"increase\([^()]*\)+ > 0$", rule["expr"])]
    named = {name for text in expressions for name in re.findall(r"increase\((kling_\w+)", text)}
    begun = {
        line.partition("{")[0].partition(" ")[0]
        for line in Metrics().render()[0].decode().splitlines()
        if not line.startswith("#")
    }

    assert {"kling_gateway_unlinked_total", "kling_callbacks_total"} <= named
    assert named - begun == set()


def test_each_label_value_that_rules_and_dashboard_name_is_one_of_the_program() -> None:
    series = rendered()
    for text in expressions():
        for name, selectors in re.findall(r"(kling_\w+)\{([^}]*)\}", text):
            for label, value in re.findall(r'(\w+)=~?"([^"]*)"', selectors):
                if (
                    label == "job"
                    or "$" in value
                    or name in {"kling_gateway_requests_total", "kling_api_requests_total"}
                ):
                    continue  # a variable of the dashboard; codes of Kling and HTTP
                assert set(value.split("|")) <= series[name][label], f"{label} of {name}"


# --- the dashboard ------------------------------------------------------------------------------------------


def test_the_panels_of_the_dashboard_have_ids_titles_and_places_of_their_own() -> None:
    ids = [panel["id"] for panel in panels()]
    cells = [
        (column, row)
        for panel in panels()
        for column in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for row in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len(set(ids)) == len(ids) > 10
    assert len({panel["title"] for panel in panels()}) == len(ids)
    assert len(set(cells)) == len(cells)
    assert max(column for column, _ in cells) < 24
    assert [panel["title"] for panel in panels() if panel["type"] != "row" and not panel["targets"]] == []


@needs("promtool", package="prometheus")
def test_prometheus_can_read_every_query_of_the_dashboard(tmp_path: pathlib.Path) -> None:
    replaced = {"$__rate_interval": "5m", "$__range": "1h", "$account": ".*", "$job": ".*"}
    recorded = []
    for number, text in enumerate(expressions()):
        query = re.sub("|".join(map(re.escape, replaced)), lambda found: replaced[found[0]], text)
        recorded.append({"record": f"query{number}", "expr": query})
    path = tmp_path / "queries.yaml"
    documents.write(path, {"groups": [{"name": "queries", "rules": recorded}]})

    _promtool("check", "rules", str(path))


def test_every_panel_asks_the_data_source_that_is_chosen() -> None:
    asked = [part for panel in panels() if panel["type"] != "row" for part in (panel, *panel["targets"])]

    assert {json.dumps(part["datasource"]) for part in asked} == {
        json.dumps({"type": "prometheus", "uid": "${datasource}"})
    }
