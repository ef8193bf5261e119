from pathlib import Path

import pytest

from pixel_llm.errors import PolicyError
from pixel_llm.policy import EncoderConfig, EncoderType, OutOfMemoryStep, load_policy_file
from pixel_llm.policy.checking import check_files
from pixel_llm.policy.kinds import FileName, Size
from pixel_llm.policy.settings import Section
from pixel_llm.policy.sizes import format_size

AGAIN = "halve stands before already, and is tried as often as it helps: leave it out [PL881]"

VIT = "type: vit, checkpoint: vit.safetensors"


def encoder(tmp_path, settings, **options):
    """The encoder section with *settings*, as it is loaded from a file."""
    file = tmp_path / "policies" / "policy.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"version: 1\nencoder: {{{settings}}}\n", encoding="utf-8")
    return load_policy_file(file, **options).config.encoder


def problems(tmp_path, settings):
    """What the linter says of the encoder section, without its place."""
    file = tmp_path / "policy.yaml"
    file.write_text(f"version: 1\ndescription: A test.\nencoder: {{{settings}}}\n", encoding="utf-8")
    found = check_files([file]).problems
    return [f"{problem.path}: {problem.message} [{problem.rule}]" for problem in found]


class TestDefaults:
    def test_patch_needs_nothing(self, tmp_path):
        config = encoder(tmp_path, "")

        assert EncoderConfig() == config
        assert EncoderType.PATCH is config.type
        assert (OutOfMemoryStep.HALVE, OutOfMemoryStep.CPU) == config.on_out_of_memory
        assert (16, 256 * 1024**2, 32 * 1024**2) == (
            config.batch.max_size,
            config.batch.max_memory,
            config.cache.max_bytes,
        )

    def test_settings_made_in_code_are_checked(self):
        complaint = Section(EncoderConfig).complain(EncoderConfig(heads=0, checkpoint=3))

        assert "checkpoint must be the path of a file (got 3)" in complaint
        assert "heads must be a whole number from 1 to 256 (got 0)" in complaint


class TestPaths:
    def test_relative_to_the_file_that_says_it(self, tmp_path):
        """
        Not to the working directory: a policy and the models beside it can be called from anywhere.
        """
        found = encoder(tmp_path, "type: vit, checkpoint: ../models/vit.pt").checkpoint

        assert str(tmp_path / "models" / "vit.pt") == found

    def test_relative_to_the_parent_where_the_parent_says_it(self, tmp_path):
        (tmp_path / "a").mkdir()
        overlay = tmp_path / "a" / "overlay.yaml"
        overlay.write_text("version: 1\nencoder: {checkpoint: vit.pt}\n", encoding="utf-8")
        found = encoder(tmp_path, "type: vit", overlays=[overlay]).checkpoint

        assert str(tmp_path / "a" / "vit.pt") == found

    def test_relative_to_the_working_directory_where_a_program_says_it(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        found = encoder(tmp_path, "type: vit", overrides={"encoder": {"checkpoint": "vit.pt"}}).checkpoint

        assert str(tmp_path / "vit.pt") == found

    def test_absolute_and_home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))

        assert str(Path("/models/vit.pt")) == encoder(tmp_path, "type: vit, checkpoint: /models/vit.pt").checkpoint
        assert str(tmp_path / "vit.pt") == encoder(tmp_path, "type: vit, checkpoint: ~/vit.pt").checkpoint

    def test_from_a_variable(self, tmp_path):
        found = encoder(tmp_path, "type: vit, checkpoint: '${VIT}'", variables={"VIT": "vit.pt"}).checkpoint

        assert str(tmp_path / "policies" / "vit.pt") == found

    @pytest.mark.parametrize(
        ("value", "message"),
        [("''", "must not be empty"), ("[a]", "must be the path of a file"), ("'${UNSET}'", "UNSET is not set")],
    )
    def test_wrong(self, tmp_path, value, message):
        with pytest.raises(PolicyError, match=message):
            encoder(tmp_path, f"type: vit, checkpoint: {value}", variables={})

    def test_is_never_opened(self, tmp_path):
        """
        Policies are checked where the models are not, such as in CI.
        """
        assert not Path(encoder(tmp_path, VIT).checkpoint).exists()

    def test_must_not_be_empty(self):
        assert not FileName("the path of a file").may_be_empty


class TestSizeOrZero:
    def test_zero(self, tmp_path):
        kind = Size(may_be_zero=True)

        assert 0 == kind.freeze("0B")
        assert "0B" == kind.parse("0B") == kind.thaw(0) == format_size(0)
        assert 1024 == kind.freeze("1KiB")
        assert "" == kind.complain(0)
        assert "must be a number of bytes (got -1)" == kind.complain(-1)
        assert 0 == encoder(tmp_path, "cache: {max_bytes: '${NONE}'}", variables={"NONE": "0B"}).cache.max_bytes

    def test_elsewhere_zero_is_no_size(self, tmp_path):
        assert "must be a number of bytes (got 0)" == Size().complain(0)
        assert "" == Size().complain(1)
        with pytest.raises(ValueError, match="must be a size"):
            Size().parse("0B")
        for size in ("0", "0KiB", "00B", "0B\\n"):
            with pytest.raises(PolicyError, match=r"must be a size|has no unit"):
                encoder(tmp_path, f'cache: {{max_bytes: "{size}"}}')


class TestMeaning:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ("type: vit", "encoder.type: vit needs `checkpoint`: say where it is"),
            ("type: vit, model: clip", "encoder.type: vit needs `checkpoint`: say where it is"),
            ("type: transformers", "encoder.type: transformers needs `model`: say where it is"),
            ("dtype: bfloat16", "encoder.dtype: patch measures in float32 alone (got bfloat16): leave dtype out"),
            ("dtype: float16, device: cpu", "encoder.dtype: patch measures in float32 alone (got float16)"),
            (f"{VIT}, dtype: float16, device: cpu", "encoder.dtype: float16 needs a GPU, and device is cpu"),
        ],
    )
    def test_refused(self, tmp_path, settings, message):
        with pytest.raises(PolicyError) as caught:
            encoder(tmp_path, settings)

        assert message in str(caught.value)
        assert 1 == len(caught.value.problems)

    @pytest.mark.parametrize(
        "settings",
        [
            VIT,
            "type: transformers, model: clip",
            "dtype: float32, device: cpu",
            f"{VIT}, dtype: float16",
            f"{VIT}, dtype: float16, device: cuda",
            f"{VIT}, dtype: bfloat16, device: cpu",
        ],
    )
    def test_allowed(self, tmp_path, settings):
        assert encoder(tmp_path, settings) is not None


class TestLint:
    @pytest.mark.parametrize(
        ("settings", "found"),
        [
            (f"{VIT}, heads: 3, normalize: half, dtype: bfloat16", []),
            ("type: transformers, model: clip, labels: [a, b], max_labels: 2, label_template: 'a {label}'", []),
            (
                "type: transformers, model: clip, max_labels: 2",
                ["encoder.max_labels: max_labels has no effect without labels: give some, or leave it out [PL880]"],
            ),
            (
                f"{VIT}, model: clip",
                ["encoder.model: model has no effect with type vit, only with transformers: leave it out [PL880]"],
            ),
            (
                "checkpoint: vit.pt, heads: 3",
                [
                    "encoder.checkpoint: checkpoint has no effect with type patch, only with vit: leave it out [PL880]",
                    "encoder.heads: heads has no effect with type patch, only with vit: leave it out [PL880]",
                ],
            ),
            ("on_out_of_memory: [cpu, halve, raise]", []),
            ("on_out_of_memory: [cpu]", []),
            (
                "on_out_of_memory: [halve, cpu, halve]",
                ["encoder.on_out_of_memory[2]: " + AGAIN],
            ),
            (
                "on_out_of_memory: [halve, cpu, raise], device: cpu",
                ["encoder.on_out_of_memory[1]: cpu can't help where device is cpu already [PL881]"],
            ),
            ("device: cpu", []),
        ],
    )
    def test_found(self, tmp_path, settings, found):
        assert found == problems(tmp_path, settings)
