"""``pixel-llm top``: plain in a process of its own, and how it looks."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import re
import subprocess
from bisect import bisect_left
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from random import Random

import pytest
from command import pixel_llm
from rich.console import Console
from running import SHOP, answering, gone, running_shop

from pixel_llm.cli.top.rows import Row, rows
from pixel_llm.cli.top.view import draw
from pixel_llm.errors import PolicyError, ValidationError
from pixel_llm.monitoring.snapshot.documents import read_document, write_document
from pixel_llm.monitoring.snapshot.merging import merged
from pixel_llm.resilience.counters import BOUNDS, Histogram
from pixel_llm.runtime import Policies, load_policies


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[Policies, str]]:
    with running_shop(tmp_path / "policies") as running:
        yield running


def top(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = pixel_llm("top", *words, cwd=cwd)
    assert "Traceback" not in done.stderr
    return done


def shown(*args: object, width: int = 80, **options: object) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    console.print(draw(*args, **{"url": "http://localhost", **options}))
    return console.file.getvalue().splitlines()


class TestPlain:
    def test_prints_once(self, shop, tmp_path):
        """Where the output is no terminal, what there is since the start, in 80 columns."""
        done = top(shop[1], cwd=tmp_path)
        title, heads, pay, ship, empty, errors, *_ = done.stdout.splitlines()

        assert (0, "") == (done.returncode, done.stderr)
        assert re.fullmatch(rf"shop  failing  since the start, \d s  {shop[1]}", title)
        assert ["target", "calls/s", "failed", "degraded", "p50", "p95", "breaker", "busy"] == heads.split()
        assert re.fullmatch(r"shop\.pay +[\d.e+]+ +25\.0% +25\.0% .* ms .* ms +0/4 *", pay)
        assert re.fullmatch(r"shop\.ship +[\d.e+]+ +100\.0% +0\.0% +– +– open *", ship)
        assert ("", "Recent errors") == (empty.strip(), errors)
        assert max(map(len, done.stdout.splitlines())) <= 80

    def test_shows_no_control_characters(self, shop, tmp_path):
        """What an error says can't move the cursor."""
        done = top(shop[1], cwd=tmp_path)

        assert "\x1b" not in done.stdout
        assert "gone \\x1b[2J\\nfar away" in done.stdout

    def test_trouble(self, tmp_path):
        """Rubbish and silence are one line each, exit 1; what is no address is wrong usage."""
        with answering(b"<html>") as url:
            rubbish = top(url, cwd=tmp_path)
        silence = top("http://127.0.0.1:1", cwd=tmp_path)
        usage = top("here", cwd=tmp_path)

        assert (1, 1, 2) == (rubbish.returncode, silence.returncode, usage.returncode)
        assert f"error: {url} has no metrics of pixel-llm: a snapshot must be JSON" in rubbish.stderr
        assert "error: http://127.0.0.1:1: nothing answers there" in silence.stderr
        assert (1, 1) == (len(rubbish.stderr.splitlines()), len(silence.stderr.splitlines()))


class TestRows:
    def test_show_what_happened_between_two_snapshots(self, shop):
        """Rates and shares are those since the first."""
        policies = shop[0]
        before = policies.snapshot()
        for _ in range(9):
            policies.wrap("shop.pay", lambda: 1)()
        policies.wrap("shop.pay", gone)()
        now = policies.snapshot()
        seconds = now.taken_at - before.taken_at
        pay, ship = rows(before, now)

        assert ("shop.pay", 0.1, 0.1, "", "0/4") == (pay.target, pay.failed, pay.degraded, pay.breaker, pay.busy)
        assert pytest.approx(10 / seconds) == pay.rate
        assert Row(
            target="shop.ship", rate=0, failed=None, degraded=None, p50=None, p95=None, breaker="open", busy=""
        ) == ship  # fmt: skip

    def test_begin_anew_with_a_process_that_began_anew(self, shop, tmp_path):
        """Counters that have gone back are those since the start."""
        with running_shop(tmp_path / "again") as (again, _):
            policies = shop[0]
            for _ in range(100):
                policies.wrap("shop.pay", lambda: 1)()
            (pay, _) = rows(policies.snapshot(), again.snapshot())

        assert 0.25 == pay.failed

    def test_of_a_target_that_came_back_with_a_reload_are_never_negative(self, shop):
        """A policy that has lost a target and has it again counts it anew."""
        policies = shop[0]
        now = policies.snapshot()
        pay = now.targets["shop.pay"]
        more_failed = dataclasses.replace(pay, succeeded=0, failed=4)
        before = dataclasses.replace(now, targets={"shop.pay": more_failed})
        (row, _) = rows(before, now)

        assert (0.25, 0.25) == (row.failed, row.degraded)

    def test_show_a_target_whose_first_call_is_under_way(self, tmp_path):
        """Where a bulkhead counts it; before any call has ended."""
        (tmp_path / "bar.yaml").write_text("version: 1\ntargets: {bar.serve: {bulkhead: {max_concurrent: 4}}}")
        seen = []
        with load_policies(tmp_path, "bar", variables={}) as policies:
            policies.wrap("bar.serve", lambda: seen.extend(rows(None, policies.snapshot())))()

        assert [("bar.serve", "1/4", None)] == [(row.target, row.busy, row.p95) for row in seen]

    def test_have_no_latency_that_is_longer_than_there_was_time(self, shop):
        """Of a single call only a bucket is known, whose upper half may lie in the future."""
        now = shop[0].snapshot()
        counts = [0] * len(now.targets["shop.pay"].latency.counts)
        counts[bisect_left(BOUNDS, 3.0)] = 1
        slow = dataclasses.replace(now.targets["shop.pay"], latency=Histogram(BOUNDS, tuple(counts)))
        young = dataclasses.replace(now, since=now.taken_at - 3, targets={"shop.pay": slow})
        old = dataclasses.replace(young, since=now.taken_at - 60)

        assert (3.0, 3.0) == (rows(None, young)[0].p50, rows(None, young)[0].p95)
        assert 3.0 < rows(None, old)[0].p95 < 6.0


class TestView:
    def test_names_the_profiles_of_errors_where_there_are_several(self, tmp_path, shop):
        """Targets of several profiles have the same names."""
        (tmp_path / "bar.yaml").write_text(SHOP)
        with load_policies(tmp_path, "bar", variables={}) as bar:
            with contextlib.suppress(ConnectionError):
                bar.wrap("shop.ship", gone)()
            lines = shown([shop[0].snapshot(), bar.snapshot()], [])
        alone = shown([shop[0].snapshot()], [])

        assert [["bar", "shop.ship"], ["shop", "shop.ship"], ["shop", "shop.pay"]] == [
            line.split()[1:3] for line in lines[lines.index("Recent errors") + 1 :]
        ]
        assert "shop.ship" == alone[-2].split()[1]

    def test_policies_of_one_profile_are_as_well_as_the_worst(self, shop):
        """As `/health` has it."""
        with load_policies(shop[0].file.parent, "shop", variables={}) as well:
            lines = [shown(several, [])[0] for several in permutations([well.snapshot(), shop[0].snapshot()])]

        assert all(line.startswith("shop  failing") for line in lines)

    def test_says_above_all_that_it_is_old(self, shop):
        """In a line of its own, for which there is room."""
        for height in range(6, 20):
            lines = shown([shop[0].snapshot()], [], height=height, silence="no answer for 12 s: it hangs")

            assert "no answer for 12 s: it hangs" == lines[0]
            assert lines[1].startswith("shop  failing")
            assert len(lines) <= height

    def test_says_that_nothing_was_called(self, tmp_path):
        """Targets that nobody has called are not shown."""
        (tmp_path / "bar.yaml").write_text("version: 1\ntargets: {bar.serve: {}}")
        with load_policies(tmp_path, "bar", variables={}) as policies:
            lines = shown([policies.snapshot()], [])

        assert ["bar  ok  since the start, 0 s  http://localhost", "no calls have ended yet"] == lines[:2]

    def test_says_that_an_older_policy_is_in_force(self, shop):
        """Until it can be loaded again."""
        policies = shop[0]
        file = policies.file
        text = file.read_text()
        file.write_text("targets: [")
        with pytest.raises(PolicyError):
            policies.reload()
        failing = shown([policies.snapshot()], [])
        file.write_text(text)
        policies.reload()
        mended = shown([policies.snapshot()], [])

        assert re.match(r"shop  failing  not reloaded  since the start, ", failing[0])
        assert re.match(r"shop  failing  since the start, ", mended[0])

    @pytest.mark.parametrize("width", [40, 80, 200])
    def test_fits(self, shop, width):
        """Long names and texts are cut, whatever the width."""
        policies = shop[0]
        lines = shown([policies.snapshot()], [], url="http://" + "long." * 50, width=width)

        assert max(map(len, lines)) <= width

    def test_leaves_rows_out_where_there_is_no_room(self, shop):
        """The terminal's height is kept, and what is left out is counted."""
        policies = shop[0]
        policies.wrap("shop.list", str)()
        for _ in range(8):
            with contextlib.suppress(ConnectionError):
                policies.wrap("shop.list", gone)()
        lines = shown([policies.snapshot()], [], height=5)

        assert any("… 2 more" in line for line in lines)
        assert not any("shop.list" in line for line in lines)

    @pytest.mark.parametrize("height", range(5, 25))
    def test_shows_targets_before_errors(self, shop, height):
        """A short terminal has room for what it is about; what remains is for errors, and nothing runs over."""
        policies = shop[0]
        for _ in range(8):
            with contextlib.suppress(ConnectionError):
                policies.wrap("shop.list", gone)()
        lines = shown([policies.snapshot()], [], height=height)
        targets = [line for line in lines if line.startswith("shop.")]
        errors = [line for line in lines if "ERR_CONN" in line]

        assert len(lines) <= height
        assert len(targets) >= min(3, height - 4)
        assert min(5, max(0, height - 7)) == len(errors)

    @pytest.mark.parametrize(
        ("width", "heads"),
        [
            (40, "target calls/s failed breaker"),
            (50, "target calls/s failed breaker busy"),
            (60, "target calls/s failed p95 breaker busy"),
            (80, "target calls/s failed degraded p50 p95 breaker busy"),
        ],
    )
    def test_shows_whole_figures_in_a_narrow_terminal(self, shop, width, heads):
        """Columns are left out before they are cut."""
        lines = shown([shop[0].snapshot()], [], width=width)

        assert heads.split() == lines[1].split()
        assert not any("…" in line for line in lines[1:4])
        assert "25.0%" in lines[2]
        assert "open" in lines[3]

    def test_marks_shadows(self, tmp_path):
        """A breaker that only watches is shown as such."""
        (tmp_path / "bar.yaml").write_text(
            "version: 1\ntargets: {bar.serve: {circuit_breaker: {failure_threshold: 1, mode: shadow}}}"
        )
        with load_policies(tmp_path, "bar", variables={}) as policies:
            with contextlib.suppress(ConnectionError):
                policies.wrap("bar.serve", gone)()
            lines = shown([policies.snapshot()], [])

        assert re.search(r"open \(shadow\)", lines[2])

    def test_says_that_there_are_no_policies(self):
        """An endpoint without any is no empty screen."""
        assert ["no policies at http://localhost"] == shown([], [])

    @pytest.mark.parametrize("seed", range(4))
    def test_strange_values_are_drawn(self, shop, seed):
        """Whatever a document may hold and be read: it is drawn, or refused when it is read."""
        random = Random(seed)
        strange = [
            0,
            -1,
            1,
            2**53,
            2**64,
            10**400,
            1e300,
            -1e300,
            1.7e308,
            5e-324,
            math.nan,
            math.inf,
            None,
            "\x1b[2J",
            [],
            {},
        ]
        document = json.dumps(write_document([shop[0].snapshot()]))
        drawn = 0
        for _ in range(100):
            changed = json.loads(document)
            for _ in range(random.choice([1, 1, 3])):
                entry, key = random.choice(list(places(changed)))
                entry[key] = random.choice(strange)
            try:
                snapshots = merged(read_document(json.dumps(changed)))
            except ValidationError:
                continue
            before = merged(read_document(document))
            for then, height in (((), None), (before, 10)):
                lines = shown(snapshots, then, height=height)
                assert "\x1b" not in "".join(lines)
            shown(before, snapshots)
            drawn += 1

        assert drawn


def places(value):
    """Every entry of a document that can be replaced."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in entries:
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)
