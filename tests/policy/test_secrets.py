from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle

import pytest

from pixel_llm.errors import ValidationError
from pixel_llm.policy import Secret, load_policy

KEY = "sk-of-the-tests"


@pytest.fixture
def secret():
    return Secret(KEY)


class TestSecret:
    @pytest.mark.parametrize(
        "show",
        [repr, str, ascii, format, "{}".format, "{!r}".format, "{0!s:>40}".format, "%s".__mod__, "%r".__mod__,
         lambda secret: f"{[secret]} {({'key': secret})}"],
    )  # fmt: skip
    def test_is_not_shown(self, secret, show):
        """
        No way to make text of a secret shows it, nor does one inside a container.
        """
        text = show(secret)

        assert KEY not in text
        assert "Secret('***')" in text

    def test_reveal(self, secret):
        """
        The text is there for who asks for it by name.
        """
        assert KEY == secret.reveal()

    def test_pickle_is_empty(self, secret):
        """
        A secret leaves its text behind when it is pickled, and says so when it is asked for it.
        """
        data = pickle.dumps(secret)

        with pytest.raises(ValidationError, match="did not travel with the pickle") as caught:
            pickle.loads(data).reveal()

        assert KEY.encode() not in data
        assert "ERR_VAL_MISSING_FIELD" == caught.value.error_code

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
    def test_copy_is_itself(self, secret, duplicate):
        """
        A copy within the process is the very same secret.
        """
        assert secret is duplicate(secret)

    def test_json(self, secret):
        """
        JSON does not take a secret at all.
        """
        with pytest.raises(TypeError) as caught:
            json.dumps({"key": secret})

        assert KEY not in str(caught.value)

    def test_log_record(self, secret, caplog):
        """
        A secret that is logged stays one.
        """
        logging.getLogger("test").warning("key %s %r", secret, secret)

        assert KEY not in caplog.text

    def test_has_no_dict(self, secret):
        """
        What dumps the attributes of objects finds none.
        """
        with pytest.raises(TypeError):
            vars(secret)

    def test_equality(self, secret):
        """
        Secrets are equal by their text, and never equal to the text itself.
        """
        assert Secret(KEY) == secret
        assert hash(Secret(KEY)) == hash(secret)
        assert secret != Secret("other")
        assert secret != KEY

    def test_fingerprint(self, secret):
        """
        A fingerprint tells secrets apart without telling them.
        """
        fingerprint = secret.fingerprint()

        assert fingerprint == Secret(KEY).fingerprint()
        assert fingerprint != Secret("other").fingerprint()
        assert 12 == len(fingerprint)
        assert fingerprint not in KEY


class TestConfig:
    @pytest.fixture
    def config(self):
        return load_policy(profile="basic", variables={"LM_STUDIO_API_KEY": KEY}).config

    def test_holds_it(self, config):
        """
        The key of the policy is a secret.
        """
        assert Secret(KEY) == config.lm_studio.api_key

    def test_repr(self, config):
        """
        The repr of a whole policy shows no key.
        """
        assert KEY not in repr(config)
        assert "api_key=Secret('***')" in repr(config)

    def test_as_dict(self, config):
        """
        A policy made into dicts keeps the secret one.
        """
        assert KEY not in str(dataclasses.asdict(config))

    def test_pickle(self, config):
        """
        A pickled policy carries no key away; everything else arrives.
        """
        data = pickle.dumps(config)
        expected = dataclasses.replace(config, lm_studio=dataclasses.replace(config.lm_studio, api_key=Secret(None)))

        assert KEY.encode() not in data
        assert expected == pickle.loads(data)

    def test_deep_copy_keeps_it(self, config):
        """
        A deep copy still works as the policy did.
        """
        assert config == copy.deepcopy(config)

    def test_empty_key_is_none(self):
        """
        A key that is the empty text is no key.
        """
        config = load_policy(profile="basic", variables={"LM_STUDIO_API_KEY": ""}).config

        assert config.lm_studio.api_key is None
