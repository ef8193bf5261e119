from __future__ import annotations

import builtins
import concurrent.futures
import copy
import multiprocessing
import pickle

import httpx
import pytest

import pixel_llm.errors as errors
from pixel_llm.errors import (
    APIError,
    AttemptRecord,
    CauseSummary,
    CircuitBreakerOpen,
    ErrorCode,
    LimitExceeded,
    PixelLMError,
    Place,
    PolicyError,
    Problem,
    ProblemSeverity,
    RetryExhausted,
)

KEY = "sk-of-the-tests"

#: Each exception with the code it has if nothing else is said.
CLASSES = {
    "PixelLMError": "ERR_API_SERVER_ERROR",
    "ConnectionError": "ERR_CONN_LOST",
    "TimeoutError": "ERR_TIMEOUT_REQUEST",
    "ValidationError": "ERR_VAL_INVALID_RANGE",
    "APIError": "ERR_API_SERVER_ERROR",
    "EncoderError": "ERR_ENC_FORWARD_FAILED",
    "CircuitBreakerOpen": "ERR_CB_OPEN",
    "RetryExhausted": "ERR_RETRY_EXHAUSTED",
    "LimitExceeded": "ERR_LIMIT_RATE",
}


class BillingError(APIError):
    """An exception of a user's, with an ``__init__`` of its own."""

    def __init__(self, invoice: int) -> None:
        super().__init__(f"invoice {invoice} was refused")
        self.invoice = invoice


def wrong_key() -> httpx.ConnectError:
    """A real error of httpx's, whose request carries the key and whose text tells it."""
    request = httpx.Request("POST", "http://127.0.0.1:1234/v1", headers={"Authorization": f"Bearer {KEY}"})
    return httpx.ConnectError(f"refused: {KEY}", request=request)


def full() -> APIError:
    """An error on which everything is set."""
    error = APIError(
        "the server asks to slow down",
        error_code=ErrorCode.ERR_API_RATE_LIMIT,
        details={"status": 429, "body": "slow down"},
        retry_after=1.5,
        target="lm_studio.chat",
        attempt=2,
    )
    error.attempts = 2
    error.history = (
        AttemptRecord(1, "refused", ErrorCode.ERR_CONN_REFUSED, 0.1, 1.0),
        AttemptRecord(2, "?", None, 0.2),
    )
    error.__cause__ = wrong_key()
    error.add_note("after 2 attempts")
    return error


def raise_full() -> None:
    raise full()


def again(error: PixelLMError) -> PixelLMError:
    """What arrives at the other end of a pickle."""
    arrived = pickle.loads(pickle.dumps(error))
    assert isinstance(arrived, PixelLMError)
    return arrived


class TestHierarchy:
    @pytest.mark.parametrize("name", ["ConnectionError", "TimeoutError"])
    def test_shares_its_name_with_a_built_in(self, name):
        """
        ``except TimeoutError`` works for who never imported ours.
        """
        ours, theirs = getattr(errors, name), getattr(builtins, name)

        assert ours is not theirs
        with pytest.raises(theirs):
            raise ours("too late")

    @pytest.mark.parametrize("name", ["ConnectionError", "TimeoutError"])
    def test_is_an_os_error_without_its_fields(self, name):
        """
        The built-ins are OSErrors; ours carry the text, and no number that would be made up.
        """
        error = getattr(errors, name)("too late")

        assert isinstance(error, OSError)
        assert (("too late",), None) == (error.args, error.errno)

    @pytest.mark.parametrize(("name", "code"), CLASSES.items())
    def test_default_code(self, name, code):
        """
        Without a code, an exception has its class's, and that code's message.
        """
        error = getattr(errors, name)()

        assert (code, ErrorCode(code).info.message) == (error.error_code, str(error))

    def test_all_have_one_base(self):
        """
        Everything the system raises can be caught at once.
        """
        classes = [getattr(errors, name) for name in errors.__all__]
        exceptions = [cls for cls in classes if isinstance(cls, type) and issubclass(cls, Exception)]

        assert {*CLASSES, "PolicyError", "CauseSummary"} == {cls.__name__ for cls in exceptions}
        assert all(issubclass(cls, PixelLMError) for cls in exceptions if cls is not CauseSummary)


class TestPixelLMError:
    def test_attributes(self):
        """
        What is known about an error is on it, not only in its text.
        """
        error = full()

        assert "ERR_API_RATE_LIMIT" == error.error_code
        assert {"status": 429, "body": "slow down"} == error.details
        assert (1.5, "lm_studio.chat", 2, 2) == (error.retry_after, error.target, error.attempt, error.attempts)

    def test_unknown_attributes(self):
        """
        What is not known is None, or empty.
        """
        error = PixelLMError("x")

        assert ({}, None, None, None, None, ()) == (
            error.details, error.retry_after, error.target, error.attempt, error.attempts, error.history
        )  # fmt: skip

    def test_text_names_the_target(self):
        """
        The text begins with the target, where there is one.
        """
        assert "lm_studio.chat: refused" == str(errors.ConnectionError("refused", target="lm_studio.chat"))
        assert "refused" == str(errors.ConnectionError("refused"))

    def test_details_are_its_own(self):
        """
        The dict that was passed in may change afterwards.
        """
        details = {"status": 500}
        error = APIError(details=details)
        details["status"] = 200

        assert {"status": 500} == error.details

    def test_info(self):
        """
        The row of the table is one step away.
        """
        assert ErrorCode.ERR_CB_OPEN.info is CircuitBreakerOpen().info


class TestPickling:
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_keeps_everything(self, protocol):
        """
        Type, text, attributes, history and notes arrive.
        """
        sent = full()
        arrived = pickle.loads(pickle.dumps(sent, protocol))

        assert APIError is type(arrived)
        assert vars(sent) == vars(arrived)
        assert (sent.args, str(sent), ["after 2 attempts"]) == (arrived.args, str(arrived), arrived.__notes__)

    @pytest.mark.parametrize("name", CLASSES)
    def test_every_class(self, name):
        """
        Every exception pickles, those with a built-in parent too.
        """
        sent = getattr(errors, name)("text", target="t", retry_after=2.0)
        arrived = again(sent)

        assert (type(sent), vars(sent), str(sent)) == (type(arrived), vars(arrived), str(arrived))

    def test_policy_error(self):
        """
        A policy error arrives with its problems.
        """
        sent = PolicyError(
            [Problem(Place("p.yaml", 2, 1), "a", "is wrong"), Problem(Place("p.yaml", 1, 1), "", "is old")]
        )
        arrived = again(sent)

        assert isinstance(arrived, PolicyError)
        assert (sent.problems, str(sent)) == (arrived.problems, str(arrived))

    def test_subclass_with_its_own_init(self):
        """
        A user's subclass needs no pickling code of its own.
        """
        arrived = again(BillingError(7))

        assert isinstance(arrived, BillingError)
        assert (7, "invoice 7 was refused") == (arrived.invoice, str(arrived))

    def test_copy(self):
        """
        A copy is made the same way.
        """
        sent = full()

        assert vars(sent) == vars(copy.copy(sent))

    def test_without_a_cause(self):
        """
        No cause stays no cause.
        """
        assert again(PixelLMError("x")).__cause__ is None


class TestPickledCause:
    def test_carries_no_secret(self):
        """
        The request, its headers and the text of a foreign cause stay at home; its type arrives.
        """
        data = pickle.dumps(full())
        cause = pickle.loads(data).__cause__

        assert KEY.encode() not in data
        assert b"Authorization" not in data
        assert (CauseSummary, "httpx.ConnectError") == (type(cause), str(cause))

    def test_the_error_itself_is_unchanged(self):
        """
        Pickling summarises the cause for the other side only.
        """
        error = full()
        pickle.dumps(error)

        assert isinstance(error.__cause__, httpx.ConnectError)

    def test_of_our_own_keeps_its_text(self):
        """
        A cause that is ours says in its summary what it said before.
        """
        error = RetryExhausted()
        error.__cause__ = errors.TimeoutError("too late", target="lm_studio.chat")

        assert "pixel_llm.errors.exceptions.TimeoutError: lm_studio.chat: too late" == str(again(error).__cause__)

    def test_travels_on(self):
        """
        A summary that is pickled again stays as it is.
        """
        first = again(full())
        second = again(first)

        assert str(first.__cause__) == str(second.__cause__)
        assert CauseSummary is type(second.__cause__)

    def test_context_stays_at_home(self):
        """
        What was being handled when the error was raised does not travel at all.
        """
        try:
            try:
                raise wrong_key()
            except httpx.ConnectError:
                raise LimitExceeded("too many calls")  # noqa: B904 - the context is the point
        except LimitExceeded as exc:
            data = pickle.dumps(exc)

        assert KEY.encode() not in data
        assert pickle.loads(data).__context__ is None


class TestProcessPool:
    def test_an_error_crosses_it(self):
        """
        An error raised in a worker process arrives whole, but for its cause: the pool puts the traceback there.
        """
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            error = pool.submit(raise_full).exception(timeout=60)

        assert isinstance(error, APIError)
        assert vars(full()) == vars(error)
        assert str(full()) == str(error)


class TestPolicyError:
    def test_problems_in_order(self):
        """
        Problems come in the order of their places, each once; the text has one line for each.
        """
        late, early = Problem(Place("p.yaml", 10, 1), "b", "is wrong"), Problem(Place("p.yaml", 9, 1), "a", "is wrong")
        error = PolicyError([late, early, late])

        assert (early, late) == error.problems
        assert "p.yaml:9:1: a: is wrong\np.yaml:10:1: b: is wrong" == str(error)

    def test_code(self):
        """
        A wrong policy is wrong input.
        """
        assert "ERR_VAL_INVALID_POLICY" == PolicyError([]).error_code


class TestProblem:
    @pytest.mark.parametrize(
        ("problem", "text"),
        [
            (Problem(Place("p.yaml", 1, 2), "a.b", "is wrong"), "p.yaml:1:2: a.b: is wrong"),
            (Problem(Place("p.yaml", 1, 2), "", "is wrong"), "p.yaml:1:2: is wrong"),
            (Problem(Place("p.yaml"), "", "is wrong"), "p.yaml: is wrong"),
            (Problem(Place("p.yaml"), "a\nb", "tab\t, \x1b[31m, \u2028"), r"p.yaml: a\nb: tab\t, \x1b[31m, \u2028"),
            (Problem(Place("ü.yaml"), "größe", "muß — so…"), "ü.yaml: größe: muß — so…"),
        ],
    )
    def test_text(self, problem, text):
        """
        The text is one line of printable characters, as editors and CI systems read it.
        """
        assert text == str(problem)

    def test_what_is_no_error_says_so(self):
        """
        A warning or a note names its severity and its rule; an error, which is the rule, does not.
        """
        place = Place("p.yaml", 1, 2)

        assert "p.yaml:1:2: a: is wrong" == str(Problem(place, "a", "is wrong", "PL101"))
        assert "p.yaml:1:2: a: warning: is odd [PL101]" == str(
            Problem(place, "a", "is odd", "PL101", ProblemSeverity.WARNING)
        )
        assert "p.yaml:1:2: note: is odd [PL101]" == str(Problem(place, "", "is odd", "PL101", ProblemSeverity.NOTE))

    def test_shows_no_file_in_full(self):
        """
        Path and message are bounded: a key may be as long as its file.
        """
        problem = Problem(Place("p.yaml"), "p" * 5000, "m" * 5000)

        assert (1000, 1000) == (len(problem.path), len(problem.message))
        assert problem.path.endswith("p…")
        assert "m" * 1000 == Problem(Place("p.yaml"), "", "m" * 1000).message

    def test_sorts_by_place(self):
        """
        Lines and columns sort as numbers, files as texts.
        """
        places = [Place("a.yaml", 9, 10), Place("a.yaml", 10, 9), Place("a.yaml", 10, 10), Place("b.yaml")]

        assert places == [problem.place for problem in sorted(Problem(place, "", "x") for place in reversed(places))]


class TestLastResult:
    def test_stays_in_this_process(self):
        """
        The rejected result is reachable where it was raised; no pickle and no text holds it.
        """
        error = RetryExhausted("rejected by looks_empty", target="shop.pay")
        error.last_result = {"text": "what nobody else should read"}
        copy = again(error)

        assert "nobody" not in f"{error!r} {error} {pickle.dumps(error)!r}"
        assert copy.last_result is None
        assert ("shop.pay", "rejected by looks_empty") == (copy.target, copy.message)
