"""The wheel alone, in a clean environment without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SHIPPED = ["basic", "development", "high-throughput", "low-latency", "production"]


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIXEL_LLM"))}
    return subprocess.run(list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that has the wheel and what it depends on, and no more."""
    folder = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=ROOT)
    assert 0 == built.returncode, built.stderr
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=True)
    programs = folder / "env" / "bin"
    constraints = ROOT / "constraints.txt"
    pip = run(programs / "python", "-m", "pip", "install", "--quiet", "-c", constraints, wheel, cwd=folder)
    assert 0 == pip.returncode, pip.stderr
    return programs


class TestWheel:
    def test_validates_the_shipped_profiles(self, installed, tmp_path):
        """From an empty folder, without torch, the shipped profiles are found and valid."""
        done = run(installed / "pixel-llm", "policy", "validate", "--format", "json", cwd=tmp_path)

        report = json.loads(done.stdout)
        assert (0, []) == (done.returncode, report["problems"])
        assert SHIPPED == [Path(file).stem for file in report["files"]]

    def test_import_is_light(self, installed, tmp_path):
        """Importing the package and checking a policy load neither torch nor httpx."""
        code = (
            "import sys, pixel_llm\n"
            "from pixel_llm.policy import load_policy\n"
            "load_policy(profile='production')\n"
            "print(sorted({'torch', 'httpx', 'PIL', 'tenacity', 'pybreaker', 'rich'} & set(sys.modules)))"
        )

        assert "[]\n" == run(installed / "python", "-c", code, cwd=tmp_path).stdout

    def test_guards_callables(self, installed, tmp_path):
        """The stacks need no encoder."""
        code = "import pixel_llm; print(pixel_llm.load_policies().wrap('lm_studio.chat', abs, cooperative=True)(-3))"

        assert "3\n" == run(installed / "python", "-c", code, cwd=tmp_path).stdout

    @pytest.mark.parametrize("words", [("caption", "photo.png"), ("demo",)], ids=lambda words: words[0])
    def test_captioning_says_what_is_missing(self, installed, tmp_path, words):
        """Without the encoder extra, captioning says how to get it, and shows no traceback."""
        (tmp_path / "photo.png").write_bytes(b"x")
        done = run(installed / "pixel-llm", *words, cwd=tmp_path)

        assert (1, "") == (done.returncode, done.stdout)
        assert "pip install 'pixel-llm[encoder]'" in done.stderr
        assert "Traceback" not in done.stderr
