"""Several sources as one: their pictures one source after the other, with the attributes that all of them have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vaegan_kernels.data.plan import Placed, Plan


def joined(plans: Sequence[Plan]) -> Plan:
    """The plan of all ``plans``, which have pictures of one shape; a single one is itself.

    Splits stay. Attributes are those that all have, in the order of the first. Labels are by the names of the classes, -1 for a source
    without; where classes have no names, or one source's have none, there are none. `Plan.not_kept` says what was left out.
    """
    if len(plans) == 1:
        return plans[0]
    starts = np.cumsum([0, *(len(plan.splits) for plan in plans)])

    def parts(rows: np.ndarray) -> list[tuple[Plan, np.ndarray]]:
        """Each plan with its own ones of ``rows``."""
        cuts = np.searchsorted(rows, starts)
        return [(plan, rows[cuts[i] : cuts[i + 1]] - starts[i]) for i, plan in enumerate(plans)]

    def decoded(chosen: np.ndarray, done: int, workers: int | None) -> Iterator[Sequence[Placed]]:
        before = 0
        for plan, own in parts(chosen):
            if done < before + len(own):
                for chunk in plan.decoded(own, max(0, done - before), workers):
                    yield [(before + place, pixels) for place, pixels in chunk]
            before += len(own)

    def splits(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([(plan.kept_splits or plan.splits.__getitem__)(own) for plan, own in parts(rows)])

    def attributes(rows: np.ndarray) -> np.ndarray:
        found = []
        for plan, own in parts(rows):
            assert plan.attributes is not None
            found.append(plan.attributes(own)[:, [plan.attribute_names.index(name) for name in names]])
        return np.concatenate(found)  # int8 and float32 together are float32

    names = [name for name in plans[0].attribute_names if all(name in plan.attribute_names for plan in plans)]
    labels, label_names, problem = _labels(plans)
    lost = [name for name in dict.fromkeys(name for plan in plans for name in plan.attribute_names) if name not in names]
    return Plan(
        " + ".join(plan.name for plan in plans), _facts(plans), "joined", [[plan.name, plan.facts, plan.stamps] for plan in plans],
        plans[0].shape, np.concatenate([plan.splits for plan in plans]), decoded, attributes if names else None, tuple(names), labels,
        label_names, kept_splits=splits, skipped=sum(plan.skipped for plan in plans),
        not_kept=tuple(([f"attributes that not all sources have: {', '.join(lost)}"] if lost else []) + ([problem] if problem else [])),
    )  # fmt: skip


def _facts(plans: Sequence[Plan]) -> dict[str, Any]:
    """`Dataset.preprocessing` of all: of each source its own; what all have alike, and sums of what is counted."""
    found: dict[str, Any] = {"sources": [{"name": plan.name, "images": len(plan.splits), **plan.facts} for plan in plans]}
    first = plans[0].facts
    found |= {key: first[key] for key in ("crop", "resize") if key in first and all(plan.facts.get(key) == first[key] for plan in plans)}
    left_out: dict[str, int] = {}
    for plan in plans:
        for why, count in plan.facts.get("left_out", {}).items():
            left_out[why] = left_out.get(why, 0) + count
    cut = sum(plan.facts.get("cut", 0) for plan in plans)
    return found | ({"left_out": left_out} if left_out else {}) | ({"cut": cut} if cut else {})


def _labels(plans: Sequence[Plan]) -> tuple[np.ndarray | None, tuple[str, ...], str]:
    """(labels int16 [n] or None, names of the classes, why there are none)."""
    known = [plan for plan in plans if plan.labels is not None]
    if not known:
        return None, (), ""
    if not all(plan.label_names for plan in known):
        if len(known) < len(plans) or any(plan.label_names for plan in known):
            return None, (), "labels: the classes of a source have no names"
        names: list[str] = []
    else:
        names = list(dict.fromkeys(name for plan in known for name in plan.label_names))
    found = []
    for plan in plans:
        own = np.full(len(plan.splits), -1, np.int16) if plan.labels is None else plan.labels
        table = np.array([*(names.index(name) for name in plan.label_names), -1], np.int16)  # -1, the last, for -1
        found.append(table[own] if names else own)
    return np.concatenate(found), tuple(names), ""
