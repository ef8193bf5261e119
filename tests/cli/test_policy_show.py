"""``pixel-llm policy show``"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import git, policy

from pixel_llm.policy import PolicyConfig, load_policy, load_policy_file
from pixel_llm.policy.sections.document import POLICY

PROFILES = ("basic", "production", "development", "high-throughput", "low-latency")

DIFFICULT = """
version: 1
description: "a 'quoted' # text, ${WHAT}, $${NOT} and $$${{NEITHER}: yes\\u0085\\u2028\\u007f\\t\\n\\U0001f600"
extends: basic
logging: {file: "on", level: DEBUG}
targets:
  billing.*:
    deadline: 1h30m
  billing.charge:
    retry: {retry_on: [THROTTLED, "5xx"], jitter: none, backoff_multiplier: 1.5}
    idempotent: true
    fallback:
      - cache: {ttl: 1500ms}
        when: [429, ERR_API_OVERLOAD]
      - default_value: {text: "$${ }", list: [1, 1.5e-7, null, true, "012", {a: "$${x}"}], empty: {}}
"""


def same(first: PolicyConfig, second: PolicyConfig) -> bool:
    return first == second and repr(POLICY.thaw(first)) == repr(POLICY.thaw(second))  # 1 is not True, nor 1.0


class TestPolicyShow:
    @pytest.mark.parametrize("profile", PROFILES)
    def test_is_a_policy_itself(self, tmp_path, profile):
        """What is shown is a policy file, without variables and parents, that means the same."""
        done = policy("show", profile, cwd=tmp_path)
        (tmp_path / "shown.yaml").write_text(done.stdout)
        shown = load_policy_file(tmp_path / "shown.yaml", variables={}).config

        assert (0, "") == (done.returncode, done.stderr)
        assert "${" not in done.stdout
        assert same(load_policy(profile=profile, variables={}).config, shown)

    def test_is_a_policy_itself_however_difficult_its_texts(self, tmp_path):
        """Quotes, line ends, look-alikes, patterns, and what looks like a variable come back as they were."""
        (tmp_path / "difficult.yaml").write_text(DIFFICULT)
        variables = {"WHAT": "tr${ue}"}
        done = policy("show", "difficult.yaml", cwd=tmp_path, WHAT="tr${ue}")
        before = policy("show", "-", cwd=tmp_path, stdin=done.stdout)

        assert "" == done.stderr
        (tmp_path / "shown.yaml").write_text(done.stdout)
        shown = load_policy_file(tmp_path / "shown.yaml", variables={}).config
        assert same(load_policy_file(tmp_path / "difficult.yaml", variables=variables).config, shown)
        assert 0 == before.returncode

    def test_places(self, tmp_path):
        """Each value says where it comes from: its file, a parent's, an overlay, or the language's default."""
        (tmp_path / "mine.yaml").write_text("version: 1\nextends: basic\nlogging: {level: DEBUG}\n")
        (tmp_path / "over.yaml").write_text("version: 1\nlm_studio: {model: other}\n")
        done = policy("show", "mine.yaml", "--overlay", "over.yaml", "--format", "json", cwd=tmp_path)
        places = {row["path"]: row["from"] for row in json.loads(done.stdout)["values"]}

        assert "mine.yaml:3:18" == places["logging.level"]
        assert "over.yaml:2:20" == places["lm_studio.model"]
        assert places["lm_studio.vision"].endswith("basic.yaml:9:11")
        assert "default" == places["logging.console"]

    def test_secrets(self, tmp_path):
        """A secret is never shown, in no format."""
        for style in ("text", "json"):
            done = policy("show", "production", "--format", style, cwd=tmp_path, LM_STUDIO_API_KEY="sk-very-secret")

            assert 0 == done.returncode
            assert "sk-very-secret" not in done.stdout + done.stderr
            assert "***" in done.stdout

    def test_env_file(self, tmp_path):
        """Variables come from a file, before the environment."""
        (tmp_path / "ci.env").write_text("# for CI\nexport LM_STUDIO_MODEL='from the file'\n")
        done = policy("show", "--env-file", "ci.env", cwd=tmp_path, LM_STUDIO_MODEL="from outside")

        assert 'model: "from the file"' in done.stdout

    def test_profile_of_the_environment(self, tmp_path):
        """Without a name, the profile of $PIXEL_LLM_PROFILE is meant, else basic."""
        named = policy("show", cwd=tmp_path, PIXEL_LLM_PROFILE="low-latency")

        assert named.stdout.startswith("# profile low-latency, from ")
        assert policy("show", cwd=tmp_path).stdout.startswith("# profile basic, from ")

    def test_standard_input(self, tmp_path):
        """Standard input may extend the working directory's policies; its places are called <stdin>."""
        (tmp_path / "policies").mkdir()
        (tmp_path / "policies" / "ours.yaml").write_text("version: 1\nlogging: {level: ERROR}\n")
        done = policy("show", "-", cwd=tmp_path, stdin="version: 1\nextends: ours\ndescription: Piped.\n")

        assert done.stdout.startswith("# from standard input\n")
        assert any(line.endswith("# <stdin>:3:14") for line in done.stdout.splitlines())
        assert any(line.endswith("# policies/ours.yaml:2:18") for line in done.stdout.splitlines())

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["prodution"], "there is no profile 'prodution'; did you mean \"production\"?"),
            (["missing.yaml"], "missing.yaml: cannot be read: No such file or directory"),
            (["basic", "--overlay", "missing.yaml"], "missing.yaml: cannot be read: No such file or directory"),
            (["basic", "--env-file", "missing.env"], "missing.env: cannot be read: No such file or directory"),
            (["."], "there is no profile '.'"),
        ],
    )
    def test_unknown(self, tmp_path, words, message):
        """What is not there is a problem of one line; exit 1."""
        done = policy("show", *words, cwd=tmp_path)

        assert (1, "") == (done.returncode, done.stdout)
        assert message in done.stderr
        assert 1 == len(done.stderr.splitlines())


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose policy was changed after its first commit, the changed one not yet committed."""
    git("init", "--quiet", "--initial-branch", "main", cwd=tmp_path)
    (tmp_path / "policies").mkdir()
    mine = tmp_path / "policies" / "mine.yaml"
    (tmp_path / "policies" / "parent.yaml").write_text("version: 1\nlogging: {level: ERROR}\n")
    mine.write_text("version: 1\nextends: [basic, parent]\ndescription: Before.\n")
    git("add", ".", cwd=tmp_path)
    git("commit", "--quiet", "--message", "Before", cwd=tmp_path)
    (tmp_path / "policies" / "parent.yaml").unlink()
    mine.write_text("version: 1\nextends: basic\ndescription: After.\n")
    return tmp_path


class TestAtARevision:
    def test_profile(self, repository):
        """A profile as it was, with the parents that it had then; places name the revision."""
        done = policy("show", "git:main:mine", cwd=repository)

        assert "" == done.stderr
        assert done.stdout.startswith("# profile mine, from git:main:policies/mine.yaml\n")
        (level,) = [line for line in done.stdout.splitlines() if line.startswith("  level:")]
        assert ["level:", "ERROR", "#", "git:main:policies/parent.yaml:2:18"] == level.split()

    def test_file(self, repository):
        """A file as it was, named from wherever one is in the repository."""
        assert "Before." in policy("show", "git:HEAD:policies/mine.yaml", cwd=repository).stdout
        assert "Before." in policy("show", "git:HEAD:mine.yaml", cwd=repository / "policies").stdout
        assert "Before." in policy("show", "git:HEAD:./mine.yaml", cwd=repository / "policies").stdout
        (repository / "below").mkdir()
        assert "Before." in policy("show", "git:HEAD:../policies/mine.yaml", cwd=repository / "below").stdout

    def test_folder_that_is_gone(self, repository):
        """The policies may have gone since."""
        (repository / "policies" / "mine.yaml").unlink()
        (repository / "policies").rmdir()

        assert "Before." in policy("show", "git:main:mine", cwd=repository).stdout

    def test_shipped_profile(self, repository):
        """A shipped profile is there at every revision, and is the default."""
        assert policy("show", "git:main:production", cwd=repository).stdout.startswith("# profile production, from ")
        assert policy("show", "git:main", cwd=repository).stdout.startswith("# profile basic, from ")

    @pytest.mark.parametrize(
        ("operand", "message"),
        [
            ("git:mian:mine", "git:mian: there is no revision 'mian'; did you mean \"main\"?"),
            ("git:--output=x:mine", "git:--output=x: there is no revision '--output=x'"),
            ("git::mine", "git:: there is no revision ''"),
            ("git:main:mnie", "git:main: there was no profile 'mnie'; did you mean \"mine\"?"),
            (
                "git:main:policies/parnet.yaml",
                "there was no file 'policies/parnet.yaml'; did you mean \"policies/parent",
            ),
            ("git:main:elsewhere/mine.yaml", "git:main: there was no file 'elsewhere/mine.yaml'"),
            ("git:main:../mine.yaml", "git:main: "),
        ],
    )
    def test_unknown(self, repository, operand, message):
        """What git doesn't know is a problem of one line, with a suggestion; nothing is written."""
        done = policy("show", operand, cwd=repository)

        assert (1, "") == (done.returncode, done.stdout)
        assert message in done.stderr
        assert 1 == len(done.stderr.splitlines())
        assert not (repository / "x").exists()

    def test_no_repository(self, tmp_path):
        """Outside of a repository that is said."""
        done = policy("show", "git:main:basic", cwd=tmp_path, GIT_CEILING_DIRECTORIES=str(tmp_path.parent))

        assert (1, "git:main: the working directory is in no git repository\n") == (done.returncode, done.stderr)

    def test_no_git(self, repository):
        """Without git, that is said."""
        done = policy("show", "git:main:mine", cwd=repository, PATH="/nowhere")

        assert (1, "git:main: git cannot be run: No such file or directory\n") == (done.returncode, done.stderr)
