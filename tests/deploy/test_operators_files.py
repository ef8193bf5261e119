"""Dashboard and alerts ask for what there is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pixel_llm.monitoring.exposition.families import FAMILIES, POLICY_FAMILIES, Kind

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "pixel-llm.rules.yml"
RULES_TEST = DEPLOY / "prometheus" / "pixel-llm.rules_test.yml"
DASHBOARD = DEPLOY / "grafana" / "pixel-llm.json"

PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")

#: Labels that Prometheus itself gives.
SCRAPED = {"job", "instance"}


def series() -> dict[str, set[str]]:
    """The names of all series and their labels."""
    found = {family.name: {"profile", *family.labels} for family in POLICY_FAMILIES}
    for family in FAMILIES:
        labels = {"profile", "target", *family.labels}
        if family.kind is Kind.HISTOGRAM:
            found |= {f"{family.name}_count": labels, f"{family.name}_sum": labels}
            found[f"{family.name}_bucket"] = labels | {"le"}
        else:
            found[family.name] = labels
    return found


SERIES = series()


def questions() -> Iterator[tuple[str, str]]:
    """Each query of alerts, of their tests and of the dashboard, with what it is for."""
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for test in yaml.safe_load(RULES_TEST.read_text("utf-8"))["tests"]:
        for number, one in enumerate(test["input_series"]):
            yield f"{test['name']} {number}", one["series"]
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["definition"]


QUESTIONS = list(questions())


@pytest.mark.parametrize("expr", [expr for _, expr in QUESTIONS], ids=[name for name, _ in QUESTIONS])
def test_asks_for_what_there_is(expr):
    """Every metric is exported, and has the labels that are asked for."""
    names = re.findall(r"\bpixel_llm_\w+", expr)

    assert names
    assert [] == [name for name in names if name not in SERIES]
    for name, matchers in re.findall(r"\b(pixel_llm_\w+)\{([^}]*)\}", expr):
        assert set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", matchers)) <= SERIES[name] | SCRAPED
    common = set.union(*(SERIES[name] for name in names)) | SCRAPED
    for labels in re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expr):
        assert {label.strip() for label in labels.split(",")} <= common


def test_every_alert_is_tested():
    """Each alert fires in a test, and keeps still in one."""
    alerts = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    fires, keeps_still = set(), set()
    for test in yaml.safe_load(RULES_TEST.read_text())["tests"]:
        for one in test["alert_rule_test"]:
            (fires if one.get("exp_alerts") else keeps_still).add(one["alertname"])

    assert alerts == fires == keeps_still


def test_every_metric_is_on_the_dashboard_or_in_an_alert():
    """What is exported is looked at, but for what says how a policy is set."""
    asked = {name for _, expr in QUESTIONS for name in re.findall(r"\bpixel_llm_\w+", expr)}
    settings = {"pixel_llm_deadline_seconds", "pixel_llm_started_timestamp_seconds"}
    exported = {family.name for family in (*POLICY_FAMILIES, *FAMILIES) if family.kind is not Kind.HISTOGRAM}

    assert settings == exported - asked


def test_legends_name_labels_that_are_left():
    """A legend shows a label only if the query keeps it."""
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = {
                label.strip() for labels in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in labels.split(",")
            }
            assert shown <= kept, panel["title"]


def test_panels_do_not_overlap():
    """Each has a place of its own on the grid of 24 columns."""
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not there (Debian has it in the package prometheus)")
@pytest.mark.parametrize("words", [("check", "rules", RULES), ("test", "rules", RULES_TEST)], ids=["check", "test"])
def test_promtool_is_content(words):
    """The alerts are right, and their own tests pass."""
    done = subprocess.run(
        [str(PROMTOOL), *map(str, words)], cwd=RULES.parent, capture_output=True, text=True, check=False
    )

    assert 0 == done.returncode, done.stdout + done.stderr
