"""What the server does with each request, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

from pixel_llm.testing import (
    Answer,
    BrokenStream,
    Crash,
    Drip,
    EmptyChoices,
    ErrorBody,
    Garbage,
    Hang,
    Refuse,
    Reset,
    Status,
    Step,
    Truncated,
    WrongType,
)

#: How many of a thousand requests meet what; the rest is answered.
_FAULTS: tuple[tuple[int, tuple[Step, ...]], ...] = (
    (40, (Reset(), Reset(when="body"))),
    (30, (Truncated(), Truncated(part="json"))),
    (15, (Hang(),)),
    (10, (Drip(interval=0.02), Drip(part="headers", interval=0.02), Drip(part="chunks", interval=0.005))),
    (
        40,
        (
            Status(status=429, retry_after=0),
            Status(status=500, message="Compute error."),
            Status(status=503, message="Loading model"),
            Status(status=502, envelope="string"),
            Status(status=400, message="The model has crashed without additional information. (Exit code: 6)"),
            Status(status=400, message="Channel Error", envelope="nested+message"),
        ),
    ),
    (30, (ErrorBody(message="Model is unloaded.", envelope="string"), ErrorBody(), EmptyChoices(), WrongType())),
    (20, (Garbage(), Garbage(kind="json"))),
    (
        60,
        tuple(
            BrokenStream(how=how, chunks=chunks)
            for how in ("error_event", "error", "end", "text", "truncated", "reset", "hang")
            for chunks in (0, 2)
        ),
    ),
    (10, (Answer(finish_reason="length"),)),
    (3, (Crash(down=0.03),)),
    (3, (Refuse(seconds=0.03),)),
)


def draw_steps(seed: int, count: int) -> Iterator[Step]:
    """*count* steps; the same seed gives the same."""
    chance = random.Random(f"{seed}: steps")
    kinds = [steps for _, steps in _FAULTS]
    weights = [weight for weight, _ in _FAULTS]
    kinds.append((Answer(),))
    weights.append(1000 - sum(weights))
    for steps in chance.choices(kinds, weights, k=count):
        yield chance.choice(steps)
