import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from pixel_llm.errors import ErrorCode, PolicyError, ValidationError
from pixel_llm.policy import Device, EncoderConfig, GenerationConfig, LMStudioConfig, Secret
from pixel_llm.validation import (
    validate_batch_size,
    validate_config,
    validate_encoder_config,
    validate_lm_studio_config,
)


def complaint(function, *arguments, **settings):
    with pytest.raises(ValidationError) as caught:
        function(*arguments, **settings)
    return caught.value


def positive(value):
    return value > 0


class TestValidateConfig:
    def test_defaults_fill_in_what_is_left_out(self):
        given = {"url": "x"}

        assert {"url": "x", "retries": 3, "tags": []} == validate_config(
            given, required=["url"], optional={"retries": 3, "tags": []}
        )
        assert {"url": "x"} == given

    def test_defaults_are_not_shared(self):
        optional = {"tags": []}
        validate_config({}, optional=optional)["tags"].append("a")

        assert {"tags": []} == validate_config({}, optional=optional)

    def test_everything_wrong_is_said_at_once(self):
        error = complaint(
            validate_config,
            {"retris": 3, "width": "9", "height": True, "depth": -1, "name": "x", "age": 3, "sum": 1},
            "job",
            required=["url", "width", "height"],
            optional={"retries": 1},
            types={"width": int, "height": (int, float)},
            validators={
                "depth": positive,
                "name": lambda name: "must have two letters" if len(name) < 2 else None,
                "age": lambda age: [][age],
                "sum": complaining,
            },
        )

        assert [
            "job.url: is required (got nothing)",
            "job.retris: must be a known key (got 'retris'); did you mean \"retries\"?",
            "job.width: must be int (got str: '9')",
            "job.height: must be int or float (got bool: true)",
            "job.depth: must pass positive (got -1)",
            "job.name: must have two letters (got 'x')",
            "job.age: list index out of range (got 3)",
            "job.sum: must be even (got 1)",
        ] == str(error).splitlines()
        assert ErrorCode.ERR_VAL_MISSING_FIELD is error.error_code
        assert {"ERR_VAL_MISSING_FIELD", "ERR_VAL_INVALID_RANGE"} == {
            problem["error_code"] for problem in error.details["problems"]
        }

    def test_unknown_keys_may_be_kept(self):
        assert {"a": 1} == validate_config({"a": 1}, allow_unknown=True)
        assert "config.a: must be a known key (got 'a')" == str(complaint(validate_config, {"a": 1}))
        assert "config.a: must be a known key (got 'a'); known here: x" == str(
            complaint(validate_config, {"a": 1}, optional={"x": 1})
        )

    def test_what_validators_may_say_of_a_good_value(self):
        for said in (None, True, "", 0):
            assert {"a": 1} == validate_config({"a": 1}, validators={"a": lambda _, said=said: said})

    def test_flags_are_no_numbers_unless_asked_for(self):
        for kind in (bool, (int, bool), object):
            assert {"a": True} == validate_config({"a": True}, types={"a": kind})

    def test_validators_see_only_what_has_the_right_type(self):
        error = complaint(validate_config, {"a": "x"}, types={"a": int}, validators={"a": positive})

        assert "config.a: must be int (got str: 'x')" == str(error)

    @pytest.mark.parametrize("config", [None, [("a", 1)], "a"])
    def test_no_mapping(self, config):
        assert "config: must be a mapping of settings" in str(complaint(validate_config, config))

    def test_error_crosses_processes(self):
        error = complaint(validate_config, {}, required=["a", "b"])
        copied = pickle.loads(pickle.dumps(error))

        assert str(error) == str(copied)
        assert error.details == copied.details

    def test_values_in_messages_are_short(self):
        error = complaint(validate_config, {"a": "x" * 10**6, "b": 10**5000}, validators={"a": positive, "b": str})

        assert len(str(error)) < 300


def complaining(value):
    raise ValueError("must be even")


class TestSections:
    def test_settings_become_the_config_of_the_policy(self):
        config = validate_lm_studio_config({"model": "m", "generation": {"max_tokens": 9}, "api_key": None})

        assert LMStudioConfig(model="m", generation=GenerationConfig(max_tokens=9)) == config
        assert EncoderConfig(device=Device.CPU) == validate_encoder_config({"device": "cpu"})
        assert LMStudioConfig() == validate_lm_studio_config({})

    def test_variables_are_those_of_the_environment(self, monkeypatch):
        monkeypatch.setenv("LM_STUDIO_API_KEY", "k$1")

        assert Secret("k$1") == validate_lm_studio_config({"api_key": "${LM_STUDIO_API_KEY}"}).api_key
        assert "is not set" in str(complaint(validate_lm_studio_config, {"model": "${NO_SUCH_MODEL}"}))

    def test_problems_are_those_of_a_policy(self):
        """
        The sections of the policy language are the only place that says what may stand there.
        """
        error = complaint(
            validate_lm_studio_config, {"base_url": "ftp://x", "modle": "m", "generation": {"temperature": 3}}
        )

        assert isinstance(error, PolicyError)
        assert ErrorCode.ERR_VAL_INVALID_POLICY is error.error_code
        assert {"lm_studio.base_url", "lm_studio.modle", "lm_studio.generation.temperature"} == {
            problem.path for problem in error.problems
        }
        assert "<encoder>: encoder.device: must be auto, cpu, cuda or mps (got 'gpu')" in str(
            complaint(validate_encoder_config, {"device": "gpu"})
        )

    def test_meaning_is_checked_too(self):
        assert "must have a host, and a port" in str(complaint(validate_lm_studio_config, {"base_url": "http://:0/v1"}))

    def test_configs_made_in_code_are_checked_alike(self):
        config = LMStudioConfig(api_key=Secret("${not a variable}"))

        assert config == validate_lm_studio_config(config)
        assert "lm_studio.base_url: must be an http" in str(
            complaint(validate_lm_studio_config, LMStudioConfig(base_url="ftp://x"))
        )
        assert "encoder: device must be one of" in str(complaint(validate_encoder_config, EncoderConfig(device="gpu")))

    def test_key_is_never_in_a_message(self):
        error = complaint(validate_lm_studio_config, {"api_key": ["sk-hidden"], "model": ""})

        assert "sk-hidden" not in str(error)

    def test_something_else(self):
        assert "encoder: must be a mapping of settings or a EncoderConfig (got 3)" == str(
            complaint(validate_encoder_config, 3)
        )


class TestValidateBatchSize:
    @pytest.mark.parametrize("value", [1, 1024, np.int64(8), np.uint8(8), torch.tensor(8)])
    def test_whole_numbers_come_back_as_int(self, value):
        assert int(value) == validate_batch_size(value)
        assert int is type(validate_batch_size(value))

    @pytest.mark.parametrize(
        ("value", "came"),
        [
            (0, "0"),
            (-1, "-1"),
            (1025, "1025"),
            (True, "true"),
            (8.0, "8.0"),
            ("8", "'8'"),
            (None, "null"),
            pytest.param(10**5000, "a number of 16610 bits", id="huge"),
            (torch.ones(2, dtype=torch.int64), "Tensor"),
        ],
    )
    def test_message(self, value, came):
        error = complaint(validate_batch_size, value)

        assert f"batch_size: must be a whole number from 1 to 1024 (got {came})" == str(error)
        assert ErrorCode.ERR_VAL_INVALID_RANGE is error.error_code

    def test_another_maximum(self):
        assert "n: must be a whole number from 1 to 4 (got 5)" == str(complaint(validate_batch_size, 5, "n", maximum=4))


class TestLaziness:
    def test_nothing_heavy_is_loaded(self):
        """
        Validation loads neither torch, Pillow nor httpx; its names are there from the top.
        """
        code = (
            "import sys, pixel_llm, pixel_llm.validation\n"
            "pixel_llm.validate_config({}); pixel_llm.sanitize_input('a')\n"
            "print([name for name in ('torch', 'PIL', 'httpx', 'httpcore') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

        assert "[]" == done.stdout.strip()
