"""The pictures of the profiles in an outage show what the engine does, and the page that has them says the truth."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from pixel_llm.policy import load_policy
from tools.outages import render_pictures, stale_pictures
from tools.outages.pictures import FOLDER, PROFILES
from tools.outages.playing import POLICIES, Played, play
from tools.outages.telling import in_a_sentence

TEXT = (FOLDER.parent / "choose-a-profile.md").read_text("utf-8")
SVG = "{http://www.w3.org/2000/svg}"


def seconds(words: str) -> float:
    """What `2 min 50 s` is."""
    units = {"min": 60.0, "s": 1.0}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+) (min|s)\b", words))


class TestPictures:
    def test_are_up_to_date(self):
        """Each picture is what the stacks of the shipped profiles make, byte for byte."""
        assert [] == stale_pictures(), "these are stale: run `make docs`"

    def test_changed_picture_is_stale(self, tmp_path, monkeypatch):
        """A picture that was edited, one that is missing and one that is left over are all found."""
        pictures = render_pictures()
        for name, text in pictures.items():
            (tmp_path / name).write_bytes(text.encode())
        monkeypatch.setattr("tools.outages.pictures.FOLDER", tmp_path)
        (tmp_path / "basic.svg").write_text("changed")
        (tmp_path / "production.svg").unlink()
        (tmp_path / "gone.svg").write_text("gone")

        assert ["basic.svg", "gone.svg", "production.svg"] == stale_pictures()

    @pytest.mark.parametrize("profile", PROFILES)
    def test_can_be_read_by_everybody(self, profile):
        """A picture has a title, tells in words what it shows, keeps to its frame, knows dark, and loads nothing."""
        root = ElementTree.fromstring((FOLDER / f"{profile}.svg").read_text("utf-8"))

        ids = root.attrib["aria-labelledby"].split()
        assert "img" == root.attrib["role"]
        assert ids == [root.find(f"{SVG}title").attrib["id"], root.find(f"{SVG}desc").attrib["id"]]
        assert profile in root.find(f"{SVG}title").text
        assert "The longest call takes" in root.find(f"{SVG}desc").text
        assert [] == [text.text for text in root.iter(f"{SVG}text") if _right_end(text) > float(root.attrib["width"])]
        assert "prefers-color-scheme: dark" in root.find(f"{SVG}style").text
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", ElementTree.tostring(root).decode())

    def test_every_shipped_profile_has_one(self):
        """A profile that is added is drawn."""
        assert {path.stem for path in POLICIES.glob("*.yaml")} == set(PROFILES)


def _right_end(text: ElementTree.Element) -> float:
    """Where *text* ends, at a generous width for each character."""
    return float(text.attrib["x"]) + 7.0 * len(text.text) * (text.attrib.get("text-anchor") != "middle")


@pytest.fixture(scope="module")
def played() -> dict[str, Played]:
    return {profile: play(profile) for profile in PROFILES}


class TestPlay:
    """What the pictures are made of."""

    def test_every_call_ends(self, played):
        """Each call is served by somebody or fails of a code, and never ends before it began."""
        for profile in PROFILES:
            for call in played[profile].calls:
                assert (call.served_by is None) != (call.error_code is None)
                assert call.began <= call.ended

    def test_all_is_well_before_the_outage(self, played):
        """The first five calls are served by the server, under every profile."""
        assert {"call"} == {call.served_by for one in played.values() for call in one.calls[:5]}

    def test_production_serves_everybody(self, played):
        """Pictures that were seen come from the cache, new ones get the default value; nobody sees an error."""
        in_outage = [call for call in played["production"].calls if call.served_by != "call"]

        assert [call.number for call in in_outage if call.served_by == "cache"] == [
            call.number for call in in_outage if call.number % 2 == 0
        ]
        assert {"cache", "default_value"} == {call.served_by for call in in_outage}

    def test_high_throughput_loses_nothing(self, played):
        """Every call waits for the breaker and gets its caption from the server; the last attempt is the good one."""
        for call in played["high-throughput"].calls:
            assert ("call", None) == (call.served_by, call.attempts[-1].error_code)

    def test_low_latency_is_never_late(self, played):
        """No call takes longer than the 5 s of lm_studio.chat."""
        assert max(call.ended - call.began for call in played["low-latency"].calls) <= 5.0

    def test_development_has_no_breaker(self, played):
        """It refuses nobody, and every failure is the server's own."""
        codes = {call.error_code for call in played["development"].calls}

        assert () == played["development"].states
        assert {None, "ERR_CONN_REFUSED", "ERR_TIMEOUT_REQUEST"} == codes

    def test_sentence(self, played):
        """The picture's description has its numbers."""
        assert (
            "The server refuses connections from 20 to 50 s, then is silent from 50 to 70 s. Of 30 calls, one every "
            "4 s: the server serves 18, 7 fail with ERR_CONN_REFUSED, 5 fail with ERR_TIMEOUT_REQUEST. There is no "
            "breaker. The longest call takes 10.0 s." == in_a_sentence(played["development"])
        )


class TestPage:
    @pytest.mark.parametrize("profile", PROFILES)
    def test_promises_what_the_profile_does(self, profile):
        """The longest time that the page names is the deadline of the profile's `generate()`."""
        (row,) = re.findall(rf"^\| `{profile}` \| [^|]+\| ([^|]+?) \| [^|]+\| [^|]+\|$", TEXT, re.MULTILINE)
        policy = load_policy(POLICIES, profile, overlays=(), variables={}).config

        assert seconds(row.partition(",")[0]) == policy.targets["pixel_llm.generate"].deadline

    @pytest.mark.parametrize("profile", PROFILES)
    def test_says_in_two_sentences_what_is_seen(self, profile):
        """Each picture has its heading, a text for those who do not see it, and two sentences."""
        (below,) = re.findall(
            rf"^### {profile}\n\n!\[([^\]]+)\]\(outages/{profile}\.svg\)\n\n(.+)\n", TEXT, re.MULTILINE
        )

        assert profile in below[0]
        assert 2 == len(re.findall(r"\.(?: |$)", below[1]))
