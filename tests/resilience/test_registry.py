import dataclasses
import sys

import pytest

import pixel_llm
from pixel_llm.errors import Place, PolicyError, ValidationError
from pixel_llm.policy.functions import function_names
from pixel_llm.policy.kinds import ListOf, RegisteredName
from pixel_llm.policy.nodes import format_path, node_from
from pixel_llm.policy.settings import Section, setting
from pixel_llm.resilience import registry
from pixel_llm.resilience.registry import find_function, finder, register_function


def apologise(*args):
    return "sorry"


@pytest.fixture(autouse=True)
def empty():
    """Nothing is registered at first, and nothing stays."""
    before = dict(registry._functions)
    registry._functions.clear()
    yield
    registry._functions.clear()
    registry._functions.update(before)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package is installed that has entry points of ours."""
    (tmp_path / "apologies.py").write_text("def politely():\n    return 'Sorry.'\n\nnumber = 3\n")
    info = tmp_path / "apologies-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: apologies\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[pixel_llm.functions]\npolitely = apologies:politely\nnumber = apologies:number\ngone = apologies:gone\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("apologies", None)


class TestRegisterFunction:
    @pytest.mark.parametrize("function", [None, 3, "print"])
    def test_none_for_a_function_gave_a_decorator(self, function):
        """
        What can't be called is refused at once, None too; nothing is registered.
        """
        with pytest.raises(ValidationError, match="the function 'apologise' must be something to call"):
            register_function("apologise", function)

        assert {} == registry._functions

    def test_registers_by_call_and_as_a_decorator(self):
        """
        Both ways give the function back unchanged.
        """
        assert apologise is register_function("apologise", apologise)

        @register_function("shop.sold-out")
        def sold_out():
            return "none left"

        assert [apologise, sold_out] == [find_function("apologise"), find_function("shop.sold-out")]

    def test_is_public(self):
        """
        Users find it at the top.
        """
        assert register_function is pixel_llm.register_function

    def test_the_later_one_stands(self):
        """
        A cell of a notebook that runs twice registers twice.
        """
        register_function("apologise", apologise)
        register_function("apologise", print)

        assert print is find_function("apologise")

    @pytest.mark.parametrize("name", ["", "os:system", "a b", "3rd", "a\n", 3, None])
    def test_what_is_no_name(self, name):
        """
        A name is a name: no import path, nothing that a log could not show.
        """
        with pytest.raises(ValidationError, match="must be letters, digits and"):
            register_function(name, apologise)

    def test_a_decorator_without_a_name(self):
        """
        The brackets that were forgotten are named.
        """
        with pytest.raises(ValidationError, match='register_function needs a name: @register_function\\("apologise"'):
            register_function(apologise)

    def test_what_is_no_function(self):
        """
        Only what can be called is registered.
        """
        with pytest.raises(ValidationError, match="the function 'three' must be something to call \\(got 3\\)"):
            register_function("three", 3)


class TestFindFunction:
    def test_suggests_what_is_near(self):
        """
        A misspelt name is told the right one.
        """
        register_function("apologise", apologise)
        with pytest.raises(ValidationError) as caught:
            find_function("apologize")

        assert "no function is registered as 'apologize'; did you mean \"apologise\"?" == caught.value.message

    def test_lists_what_there_is(self):
        """
        Where nothing is near, all names are told, and how to register one.
        """
        register_function("apologise", apologise)
        with pytest.raises(ValidationError) as caught:
            find_function("xyz")

        assert (
            "no function is registered as 'xyz'; there are apologise; "
            "register it with pixel_llm.register_function before loading"
        ) == caught.value.message

    def test_nothing_registered(self):
        """
        The first name of all says how to register it.
        """
        with pytest.raises(ValidationError) as caught:
            find_function("xyz")

        assert (
            "no function is registered as 'xyz'; register it with pixel_llm.register_function before loading"
            == caught.value.message
        )


class TestEntryPoints:
    def test_are_loaded_when_they_are_named(self, installed):
        """
        A package that only says the name is not imported until a policy uses it.
        """
        register_function("apologise", apologise)
        find_function("apologise")

        assert "apologies" not in sys.modules
        assert "Sorry." == find_function("politely")()
        assert find_function("politely") is find_function("politely")

    def test_the_program_wins(self, installed):
        """
        What the program registers stands before what a package brings.
        """
        register_function("politely", apologise)

        assert apologise is find_function("politely")

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("gone", "AttributeError: module 'apologies' has no attribute 'gone'"),
            ("number", "the function 'number' must be something to call (got 3)"),
        ],
    )
    def test_one_that_can_not_be_loaded(self, installed, name, reason):
        """
        A broken entry point is named with its fault.
        """
        with pytest.raises(ValidationError) as caught:
            find_function(name)

        assert f"the entry point {name} = apologies:{name} can't be loaded: " in caught.value.message
        assert reason in caught.value.message

    def test_are_suggested(self, installed):
        """
        Names of entry points are known names.
        """
        with pytest.raises(ValidationError, match='did you mean "politely"'):
            find_function("politly")


class TestFinder:
    def test_lays_functions_over_the_registered_ones(self):
        """
        What one program part gives to ``load_policies`` wins, and stays its own.
        """
        register_function("apologise", apologise)
        register_function("other", print)
        find = finder({"apologise": len})

        assert [len, print] == [find("apologise"), find("other")]
        assert apologise is find_function("apologise")

    def test_without_any(self):
        """
        Nothing given, nothing made.
        """
        assert find_function is finder() is finder({})

    @pytest.mark.parametrize("functions", [[apologise], "apologise"])
    def test_what_is_no_mapping(self, functions):
        """
        A list has no names.
        """
        with pytest.raises(ValidationError, match="functions must be a mapping from names to functions"):
            finder(functions)

    @pytest.mark.parametrize("functions", [{"os:system": apologise}, {"three": 3}])
    def test_wrong_ones_are_refused(self, functions):
        """
        The same rules as for registering.
        """
        with pytest.raises(ValidationError):
            finder(functions)


class TestFunctionNames:
    def test_are_found_by_their_kind(self):
        """
        Wherever a setting of this kind stands, its name is found with its path.
        """

        @dataclasses.dataclass
        class Inner:
            function: str | None = setting(RegisteredName(), "…", default=None, example="f")
            other: str | None = setting(RegisteredName(), "…", default=None, example="f")

        @dataclasses.dataclass
        class Outer:
            steps: tuple[Inner, ...] = setting(ListOf(Section(Inner)), "…", default=(), example=[])

        document = node_from({"steps": [{"function": "a"}, {"other": "b"}]}, Place("x.yaml"))

        assert [("steps[0].function", "a"), ("steps[1].other", "b")] == [
            (format_path(path), node.value) for path, node in function_names(Section(Outer), document)
        ]


class TestLoadPolicies:
    @pytest.mark.parametrize("functions", [["x"], {"three": 3}])
    def test_wrong_functions_never_start(self, tmp_path, functions):
        """
        What is no function is refused at start-up.
        """
        (tmp_path / "basic.yaml").write_text("version: 1")
        with pytest.raises((ValidationError, PolicyError)):
            pixel_llm.load_policies(tmp_path, functions=functions)

    def test_a_name_without_a_function(self, tmp_path):
        """
        Every unknown name is told with its place before anything starts.
        """
        (tmp_path / "basic.yaml").write_text(
            "version: 1\ntargets:\n  a.b: {fallback: [{custom_function: apologize}, {custom_function: other}]}\n"
        )
        with pytest.raises(PolicyError) as caught:
            pixel_llm.load_policies(tmp_path, functions={"apologise": apologise, "other": print}, variables={})

        assert 'apologize\'; did you mean "apologise"?' in str(caught.value)
        assert ["targets.a.b.fallback[0].custom_function"] == [problem.path for problem in caught.value.problems]
        assert [(3, 38)] == [(problem.place.line, problem.place.column) for problem in caught.value.problems]

    def test_functions_and_targets_serve(self, tmp_path):
        """
        What is registered, and what was wrapped for another target, serves by its name.
        """
        (tmp_path / "basic.yaml").write_text(
            "version: 1\nlogging: {level: CRITICAL}\ntargets:\n  a.b: {fallback: [{target: c.d}]}\n"
            "  c.*: {fallback: [{custom_function: apologise}]}\n"
        )

        def fail():
            raise OSError

        with pixel_llm.load_policies(tmp_path, functions={"apologise": apologise}, variables={}) as policies:
            policies.wrap("c.d", fail)
            found = policies.wrap("a.b", fail).outcome()

        assert ("sorry", "target:c.d") == (found.value, found.served_by)
