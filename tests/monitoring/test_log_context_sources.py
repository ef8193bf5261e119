"""Fields that others give for the context of records."""

from __future__ import annotations

import logging

import pytest

from pixel_llm.monitoring import LogContext, current_context
from pixel_llm.monitoring.logs.context import add_source, remove_source


@pytest.fixture
def source():
    added = []

    def add(give):
        add_source(give)
        added.append(give)

    yield add
    for give in added:
        remove_source(give)


class TestAddSource:
    def test_gives_fields(self, source):
        """
        Its fields are in the context, below those that the program sets, until it is removed.
        """

        def give():
            return {"span": "s1", "tenant": "none"}

        source(give)
        source(give)
        with LogContext(tenant="acme"):
            assert {"span": "s1", "tenant": "acme"} == current_context()
        remove_source(give)

        assert {} == current_context()

    def test_one_that_raises(self, source, caplog):
        """
        One that raises is reported once; the others are asked on.
        """

        def fail():
            raise LookupError

        source(fail)
        source(lambda: {"span": "s1"})

        assert [{"span": "s1"}] * 2 == [current_context() for _ in range(2)]
        assert 1 == len(caplog.records)

    def test_one_that_raises_where_handlers_raise_too(self, source):
        """
        Not even then does it come out of a log call.
        """

        class Handler(logging.Handler):
            def emit(self, record):
                raise RuntimeError

        def fail():
            raise LookupError

        source(fail)
        handler = Handler()
        logging.root.addHandler(handler)
        try:
            assert {} == current_context()
        finally:
            logging.root.removeHandler(handler)
