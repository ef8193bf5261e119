"""
Snapshots as JSON, and read back.

A document is ``{"version": 1, "policies": [...]}``, one entry for each policy of the process. Keys are the names of the
fields; maps by layer and code are lists of objects. A later version may add keys, which readers skip; what a key means
only changes with the version.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType, NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pixel_llm.errors import ErrorCode, ValidationError
from pixel_llm.monitoring.snapshot.merging import STATES
from pixel_llm.monitoring.snapshot.model import RecentError, ReloadsSnapshot, Snapshot, TargetSnapshot
from pixel_llm.resilience.counters import BOUNDS, Histogram

#: Of what the documents mean.
VERSION = 1

#: Parts of a target that it may lack.
_PARTS = ("bulkhead", "rate_limit", "retry_budget", "last_error", "recent")

#: No count is larger: 2^53 are exact in every JSON reader, and those of 285,000 years at a thousand calls a second.
_MOST = 2**53

T = TypeVar("T")


def write_document(snapshots: Iterable[Snapshot]) -> dict[str, Any]:
    """All *snapshots* of a process as one document of plain JSON values."""
    return {"version": VERSION, "policies": [as_dict(snapshot) for snapshot in snapshots]}


def read_document(text: str | bytes) -> tuple[Snapshot, ...]:
    """
    The snapshots in the *text* of a document.

    Raises:
        ValidationError: If it is none, with the place of what is wrong.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong("", f"must be JSON: {error}") from None
    if not isinstance(document, dict) or "policies" not in document:
        raise _wrong("", "must be an object with version and policies, as /snapshot gives it")
    if document.get("version") != VERSION:
        raise _wrong("version", f"must be {VERSION} (got {document.get('version')!r})")
    policies = document["policies"]
    if not isinstance(policies, list):
        raise _wrong("policies", f"must be a list (got {policies!r:.40})")
    return tuple(from_dict(entry, f"policies[{number}]") for number, entry in enumerate(policies))


def as_dict(snapshot: Snapshot) -> dict[str, Any]:
    """*snapshot* as plain JSON values."""
    fields = {field.name: getattr(snapshot, field.name) for field in dataclasses.fields(snapshot)}
    return fields | {
        "targets": [_target_as_dict(target) for target in snapshot.targets.values()],
        "recent_errors": [dataclasses.asdict(error) for error in snapshot.recent_errors],
        "reloads": dataclasses.asdict(snapshot.reloads),
    }


def from_dict(document: Any, place: str = "snapshot") -> Snapshot:
    """
    The snapshot that :func:`as_dict` made *document* of.

    Raises:
        ValidationError: If it is none; *place* is what messages call it.
    """
    fields = _mapping(document, place)
    targets = [_target(entry, f"{place}.targets[{n}]") for n, entry in enumerate(_list(fields, "targets", place))]
    recent = [
        _plain(RecentError, entry, f"{place}.recent_errors[{n}]")
        for n, entry in enumerate(_list(fields, "recent_errors", place))
    ]
    # Documents of an earlier package have none.
    reloads = _plain(ReloadsSnapshot, fields.get("reloads", {}), f"{place}.reloads")
    by_name = MappingProxyType({target.target: target for target in targets})
    return _plain(Snapshot, fields, place, targets=by_name, recent_errors=tuple(recent), reloads=reloads)


def _target_as_dict(target: TargetSnapshot) -> dict[str, Any]:
    fields = {field.name: getattr(target, field.name) for field in dataclasses.fields(target)}
    for name in _PARTS:
        fields[name] = None if fields[name] is None else dataclasses.asdict(fields[name])
    latency = target.latency
    return fields | {
        "refusals": [
            {"layer": layer, "code": code, "count": number} for (layer, code), number in target.refusals.items()
        ],
        "fallbacks": dict(target.fallbacks),
        "errors": dict(target.errors),
        "attempt_errors": dict(target.attempt_errors),
        "events": dict(target.events),
        "breakers": [dataclasses.asdict(breaker) for breaker in target.breakers],
        "latency": {
            "counts": list(latency.counts),
            "count": latency.count,
            "sum": round(target.latency_sum, 6),
            "p50": latency.quantile(0.5),
            "p95": latency.quantile(0.95),
            "p99": latency.quantile(0.99),
        },
    }


def _target(document: Any, place: str) -> TargetSnapshot:
    fields = _mapping(document, place)
    hints = get_type_hints(TargetSnapshot)
    parts: dict[str, Any] = {}
    for name in _PARTS:
        kind = next(kind for kind in get_args(hints[name]) if kind is not NoneType)
        value = fields.get(name)
        parts[name] = None if value is None else _plain(kind, value, f"{place}.{name}")
    (breaker, _) = get_args(hints["breakers"])
    breakers = _list(fields, "breakers", place)
    parts["breakers"] = tuple(_plain(breaker, one, f"{place}.breakers[{n}]") for n, one in enumerate(breakers))
    for number, one in enumerate(parts["breakers"]):
        if one.state not in STATES:
            where = f"{place}.breakers[{number}].state"
            raise _wrong(where, f"must be {', '.join(STATES)} (got {one.state!r:.60})")
    refusals = {}
    for number, one in enumerate(_list(fields, "refusals", place)):
        where = f"{place}.refusals[{number}]"
        entry = _mapping(one, where)
        layer, code = (_checked(str, entry.get(name), f"{where}.{name}") for name in ("layer", "code"))
        refusals[layer, code] = _checked(int, entry.get("count"), f"{where}.count")
    parts["refusals"] = refusals
    for name in ("fallbacks", "errors", "attempt_errors", "events"):
        counts = _mapping(fields.get(name, {}), f"{place}.{name}")
        parts[name] = {key: _checked(int, number, f"{place}.{name}.{key}") for key, number in counts.items()}
    parts["latency"] = _histogram(fields.get("latency"), f"{place}.latency")
    return _plain(TargetSnapshot, fields, place, **parts)


def _histogram(document: Any, place: str) -> Histogram:
    counts = _list(_mapping(document, place), "counts", place)
    if len(counts) != len(BOUNDS) + 1:
        raise _wrong(f"{place}.counts", f"must be {len(BOUNDS) + 1} numbers (got {len(counts)})")
    return Histogram(BOUNDS, tuple(_checked(int, n, f"{place}.counts[{at}]") for at, n in enumerate(counts)))


def _plain(kind: type[T], document: Any, place: str, **parts: Any) -> T:
    """An object of the dataclass *kind*, whose fields are plain values but for those in *parts*."""
    entry = _mapping(document, place)
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # mypy sees no dataclass in a type variable
        if field.name in parts:
            continue
        if field.name in entry:
            parts[field.name] = _checked(hints[field.name], entry[field.name], f"{place}.{field.name}")
        elif field.default is dataclasses.MISSING:
            raise _wrong(f"{place}.{field.name}", "is missing")
    return kind(**parts)


def _checked(kind: Any, value: Any, place: str) -> Any:
    kinds = get_args(kind) if get_origin(kind) is UnionType else (kind,)
    if value is None and NoneType in kinds:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if float in kinds and number and abs(value) <= sys.float_info.max:  # of whole numbers math.isfinite() takes no more
        return float(value)
    if int in kinds and number and isinstance(value, int) and 0 <= value <= _MOST:
        return value
    if int in kinds and number and value > _MOST:
        raise _wrong(place, f"must be {_MOST} at most (got {value!r:.60})")
    if (bool in kinds and isinstance(value, bool)) or (str in kinds and isinstance(value, str)):
        return value
    wanted = {int: "a whole number from 0 on", float: "a number", str: "a text", bool: "true or false"}
    words = " or ".join(wanted[one] for one in kinds if one is not NoneType)
    raise _wrong(place, f"must be {words} (got {value!r:.60})")


def _mapping(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(place, f"must be an object (got {value!r:.60})")
    return value


def _list(fields: Mapping[str, Any], name: str, place: str) -> list[Any]:
    value = fields.get(name, [])
    if not isinstance(value, list):
        raise _wrong(f"{place}.{name}", f"must be a list (got {value!r:.60})")
    return value


def _wrong(place: str, message: str) -> ValidationError:
    text = f"{place}: {message}" if place else f"a snapshot {message}"
    return ValidationError(text, error_code=ErrorCode.ERR_VAL_INVALID_RANGE)
