from __future__ import annotations

from pathlib import Path

import pytest

from pixel_llm.errors import PolicyError
from pixel_llm.policy import find_folder, policy_files, profiles_in, shipped_folder
from pixel_llm.policy.locating import profile_file

PROFILES = ["basic", "development", "high-throughput", "low-latency", "production"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestFindFolder:
    def test_argument_wins(self, here):
        """
        The argument comes before the variable and the local folder.
        """
        for name in ("given", "variable", "policies"):
            (here / name).mkdir()

        assert Path("given") == find_folder("given", {"PIXEL_LLM_POLICIES": "variable"})

    def test_then_the_variable(self, here):
        """
        The variable comes before the local folder.
        """
        for name in ("variable", "policies"):
            (here / name).mkdir()

        assert Path("variable") == find_folder(None, {"PIXEL_LLM_POLICIES": "variable"})

    def test_then_the_local_folder(self, here):
        """
        ``./policies`` comes before the shipped one; an empty variable is no variable.
        """
        (here / "policies").mkdir()

        assert Path("policies") == find_folder(None, {"PIXEL_LLM_POLICIES": ""})

    def test_then_the_shipped_one(self, here):
        """
        Where nothing else is, the shipped policies are used.
        """
        assert shipped_folder("policies") == find_folder(None, {})

    def test_the_environment_is_read_by_default(self, here, monkeypatch):
        """
        Without variables given, the environment's count.
        """
        (here / "variable").mkdir()
        monkeypatch.setenv("PIXEL_LLM_POLICIES", "variable")

        assert Path("variable") == find_folder(None)

    def test_missing_argument(self, here):
        """
        A folder that was asked for and is not there is an error, not a reason to look elsewhere.
        """
        with pytest.raises(PolicyError) as caught:
            find_folder("nowhere", {})

        assert "nowhere: the folder of policies does not exist" == str(caught.value)

    def test_missing_variable(self, here):
        """
        The message says when the folder came from the environment.
        """
        with pytest.raises(PolicyError) as caught:
            find_folder(None, {"PIXEL_LLM_POLICIES": "nowhere"})

        assert "nowhere: the folder of policies does not exist (from $PIXEL_LLM_POLICIES)" == str(caught.value)

    def test_file(self, here):
        """
        A file is no folder.
        """
        (here / "p.yaml").touch()

        with pytest.raises(PolicyError) as caught:
            find_folder("p.yaml", {})

        assert "p.yaml: the folder of policies is not a folder" == str(caught.value)

    def test_local_file(self, here):
        """
        A file where the local folder would be is a mistake, not a reason to take the shipped policies.
        """
        (here / "policies").touch()

        with pytest.raises(PolicyError) as caught:
            find_folder(None, {})

        assert "policies: is not a folder of policies" == str(caught.value)


class TestPolicyFiles:
    def test_yaml_files_by_name(self, here):
        """
        Only YAML files count, in the order of their names; folders do not, whatever they are called.
        """
        for name in ("b.yaml", "a.yml", "c.yaml.bak", "notes.txt", ".yaml"):
            (here / name).touch()
        (here / "folder.yaml").mkdir()

        assert ["a.yml", "b.yaml"] == [path.name for path in policy_files(here)]

    def test_missing_folder(self, here):
        """
        A folder that is not there has none.
        """
        assert [] == policy_files(here / "nowhere")


class TestProfilesIn:
    def test_shipped_ones_are_everywhere(self, here):
        """
        The shipped profiles can be had by name from any folder.
        """
        (here / "mine.yaml").touch()

        assert [*PROFILES, "mine"] == list(profiles_in(here))

    def test_own_one_of_a_shipped_name(self, here):
        """
        A folder's own profile stands before a shipped one of its name.
        """
        (here / "basic.yaml").touch()

        assert here / "basic.yaml" == profiles_in(here)["basic"]


class TestProfileFile:
    def test_found(self, here):
        """
        A profile is found by its name.
        """
        assert shipped_folder("policies") / "basic.yaml" == profile_file(here, "basic")

    def test_misspelt(self):
        """
        A name that is close to a profile's hears which one.
        """
        with pytest.raises(PolicyError) as caught:
            profile_file(Path("nowhere"), "producton")

        assert "nowhere: there is no profile 'producton'; did you mean \"production\"?" == str(caught.value)

    def test_unknown(self):
        """
        A name that is close to none hears them all.
        """
        with pytest.raises(PolicyError) as caught:
            profile_file(Path("nowhere"), "mars")

        expected = "basic, development, high-throughput, low-latency or production"

        assert f"nowhere: there is no profile 'mars'; there are {expected}" == str(caught.value)


class TestShippedFolder:
    @pytest.mark.parametrize("name", ["policies", "schemas"])
    def test_in_a_checkout(self, name):
        """
        In a checkout, policies and schemas lie beside the package.
        """
        assert Path(__file__).parents[2] / name == shipped_folder(name)

    def test_in_a_wheel(self, here, monkeypatch):
        """
        In a wheel they lie inside it.
        """
        inside = here / "_shipped" / "policies"
        inside.mkdir(parents=True)
        monkeypatch.setattr("pixel_llm.policy.locating._PACKAGE", here)

        assert inside == shipped_folder("policies")


def test_two_files_of_one_name_are_told_by_the_rule_for_files(tmp_path):
    """Which of them is meant would be a guess."""
    for name in ("shop.yaml", "shop.yml"):
        (tmp_path / name).write_text("version: 1\n")
    with pytest.raises(PolicyError) as caught:
        profiles_in(tmp_path)

    assert ["PL001"] == [problem.rule for problem in caught.value.problems]
