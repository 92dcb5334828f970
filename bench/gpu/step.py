"""Section ``step``: the captured step against the NumPy engine's in float64.

Both begin each step from the reference's state, rounded to float32, and are compared after it. Losses and running statistics must
agree within LIMITS in every step. The results of a backward pass can jump: among millions of ReLU inputs some lie within rounding of 0,
and such a mask may open in one engine alone; one of n elements moves a sum of n by about 1/√n, whoever computes it (float32 against
float64 on one CPU does so too). So parameters, gradients and mean squares must be within BEST in the best tenth of the steps, which
a mistake in a kernel would spoil like all others, and within JUMPS in every step. In tf32 and bf16 masks turn in every step, in bf16
several in a thousand at each ReLU, so that gradients are held loosely there; losses, statistics and parameters are not.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from bench.gpu.common import Options, Report, reference_engine, spec_of
from bench.gpu.parts import Part, supervise
from bench.gpu.stepper import Stepper, mid_training, rounded, warm_squares
from models.objective import LOSSES, Objective

NETWORKS = ("encoder", "decoder", "discriminator")
#: From what NumPy has with cut operands, the most in 130 steps (`python -m bench.gpu.rounding --seeds 2`). 10 bits: losses 1.6e-3,
#: statistics 3.0e-4, gradients 0.41, mean squares 0.11, parameters 1.7e-3, and 5.8e-2 of gradients in the best tenth; tf32 may have twice
#: that. 7 bits: losses 3.8e-3, statistics 8.8e-4, gradients 1.6, mean squares 0.25, parameters 2.9e-3, and 0.17 in the best tenth; bf16,
#: which stores activations and errors so, too, may have three times as much, or more.
LIMITS = {"float32": 1e-5, "tf32": 3.2e-3, "bf16": 2e-2}
#: The most in any step: of an array's gradient or mean square, and of a network's parameters.
JUMPS = {"float32": (5e-2, 1e-3), "tf32": (0.82, 3.4e-3), "bf16": (4.8, 2e-2)}
#: The most in the best tenth of the steps.
BEST = {"float32": LIMITS["float32"], "tf32": 0.12, "bf16": 0.51}
THRESHOLD = 0.02  # relative distance from the gate's thresholds within which its flags are not compared


class Combination(NamedTuple):
    """One comparison."""

    network: str
    batch: int
    objective: Objective
    steps: int
    name: str


def combinations(options: Options, precision: str) -> list[Combination]:
    """What is compared in ``precision``: first small networks, then larger ones; other objectives in fewer steps."""
    joint, split = Objective(gamma=1e-2), Objective(gamma=1e-2, bn_groups="split", negatives="prior", real_weight=0.5)
    non_saturating = Objective(gamma=1e-2, generator_loss="non-saturating")
    if options.host:
        tiny = [("joint", joint), ("split", split), ("non-saturating", non_saturating)]
        return [Combination("tiny", 4, o, 1, n) for n, o in (tiny[:1] if options.quick else tiny)]
    steps = 5 if options.quick else 20
    result = [Combination("small32", 8, joint, steps, "joint")]
    if not options.quick and precision in (options.precisions[0], "float32"):
        result.append(Combination("paper32", 4, joint, steps, "joint"))
    if not options.quick and precision == options.precisions[0]:
        result += [Combination("small32", 8, o, steps, n) for n, o in (("split", split), ("non-saturating", non_saturating))]
        result.append(Combination("paper64", 8, joint, 3, "joint"))
    return result


def relative(got: Any, expected: Any) -> float:
    """‖got − expected‖ / ‖expected‖; inf for what is not finite."""
    got, expected = (np.asarray(a, np.float64).ravel() for a in (got, expected))
    norm, error = float(np.linalg.norm(expected)), float(np.linalg.norm(got - expected))
    if not math.isfinite(error) or not math.isfinite(norm):
        return math.inf
    return error / norm if norm else (0.0 if error == 0.0 else math.inf)


def compare_step(mine: Stepper, theirs: Stepper) -> tuple[dict[str, float], dict[str, str]]:
    """Errors of the step that both have just made, by kind, and the array with the largest of each kind."""
    errors: dict[str, float] = {}
    worst: dict[str, str] = {}

    def take(kind: str, name: str, error: float) -> None:
        if error >= errors.get(kind, -1.0):
            errors[kind], worst[kind] = error, name

    losses = [m.engine.to_numpy(m.model.losses) for m in (mine, theirs)]
    for i, name in enumerate(LOSSES):
        take("losses", name, relative(losses[0][i], losses[1][i]))
    got, expected = mine.state(), theirs.state()
    updated = {"encoder": True, **dict(zip(NETWORKS[1:], map(bool, theirs.engine.to_numpy(theirs.model.flags)), strict=True))}
    for p, q in zip(mine.model.parameters, theirs.model.parameters, strict=True):
        if p.grad is not None and q.grad is not None and updated[p.name.split("/")[0]]:
            take("gradients", p.name, relative(mine.engine.to_numpy(p.grad), q.grad))
    for network in NETWORKS:
        keys = [key for key in expected if key.startswith(f"parameters/{network}/")]
        take("parameters", network, relative(*(np.concatenate([s[k].ravel().astype(np.float64) for k in keys]) for s in (got, expected))))
    for key in expected:
        kind, _, name = key.partition("/")
        if kind in ("statistics", "optimizer"):
            take("mean squares" if kind == "optimizer" else kind, name, relative(got[key], expected[key]))
    return errors, worst


def near_threshold(stepper: Stepper) -> bool:
    """Whether a mean loss of the last step lies so near one of the gate's thresholds that rounding may decide."""
    o, n = stepper.objective, stepper.batch
    _, _, real, generated, _ = np.asarray(stepper.engine.to_numpy(stepper.model.losses)).tolist()
    means = real / n, generated / o.generated(n)
    limits = o.equilibrium - o.margin, o.equilibrium + o.margin
    return o.gate and any(abs(m - limit) <= THRESHOLD * limit for m in means for limit in limits)


def judge(errors: list[dict[str, float]], precision: str) -> list[str]:
    """What exceeds its limit, in words."""
    wrong = []
    arrays, networks = JUMPS[precision]
    for kind in sorted({kind for e in errors for kind in e}):
        values = sorted(e[kind] for e in errors if kind in e)
        most = {"gradients": arrays, "mean squares": arrays, "parameters": networks}.get(kind, LIMITS[precision])
        if not values[-1] <= most:
            wrong.append(f"{kind}: {values[-1]:.1e} (allowed {most:.0e})")
        best = values[(len(values) - 1) // 10]
        if len(values) < 10 and most > LIMITS[precision]:
            continue  # a mask may have turned in each of so few
        if not best <= BEST[precision]:
            wrong.append(f"{kind}: {best:.1e} in the best tenth of the steps (allowed {BEST[precision]:.0e})")
    return wrong


def label_of(precision: str, c: Combination) -> str:
    return f"{precision} {c.network}, batch {c.batch}, {c.name}"


def step_part(engine: Any, combination: Combination, seed: int) -> dict[str, Any]:
    """The row of one combination."""
    network, n, objective, steps, name = combination
    spec = spec_of(network)
    mine = Stepper(engine, spec, n, objective, seed=seed)
    theirs = Stepper(reference_engine(), spec, n, objective, seed=seed, fuse_update=False)  # every gradient is wanted
    state = mid_training(theirs.state(), seed)
    theirs.model.load_state(state)
    theirs.body()  # its gradients show how large the mean squares of a training would be
    state = warm_squares(state, {p.name: p.grad for p in theirs.model.parameters if p.grad is not None})
    theirs.engine.put(theirs.counter, np.zeros(1, np.int64))
    step = engine.record(mine.body)
    if engine.name == "cuda" and engine.device.name == "gpu":
        for _ in range(2):  # allocates every buffer, then none; the next call captures
            mine.model.load_state(state)
            step()
        engine.put(mine.counter, np.zeros(1, np.int64))
    errors: list[dict[str, float]] = []
    worst: list[dict[str, str]] = []
    gates, undecided = [], 0
    for number in range(steps):
        for stepper in (mine, theirs):
            stepper.model.load_state(state)
        step()
        theirs.body()
        flags = [m.engine.to_numpy(m.model.flags).tolist() for m in (mine, theirs)]
        gates.append(flags[1])
        if flags[0] != flags[1]:
            if not near_threshold(theirs):
                raise AssertionError(f"step {number}: the gate is {flags[0]}, the reference's {flags[1]}, away from its thresholds")
            undecided += 1
        else:
            found, where = compare_step(mine, theirs)
            errors.append(found)
            worst.append(where)
        state = rounded(theirs.state())
    label = label_of(engine.precision, combination)
    if not errors:
        raise AssertionError("the gate was undecided in every step: nothing was compared")
    wrong = judge(errors, engine.precision)
    kinds = sorted(errors[0])
    text = f"{label}: {len(errors)} steps, at most " + ", ".join(f"{k} {max(e[k] for e in errors if k in e):.1e}" for k in kinds)
    return {
        "ok": not wrong, "why": "; ".join(wrong), "text": text + ("" if not wrong else " WRONG " + "; ".join(wrong)), "errors": errors,
        "worst": worst, "gates": gates, "undecided": undecided, "largest": {k: max(e[k] for e in errors if k in e) for k in kinds},
    }  # fmt: skip


def parts(options: Options) -> list[Part]:
    """The first combination in every precision, then the others."""
    wanted = [(number, p, c) for p in options.precisions for number, c in enumerate(combinations(options, p))]
    wanted.sort(key=lambda w: w[0] > 0)
    return [Part(label_of(p, c), p, lambda e, c=c: step_part(e, c, options.seed)) for _, p, c in wanted]


def step_section(options: Options, report: Report) -> None:
    left_out = supervise("bench.gpu.step", options, report, patience=options.budget)
    summary = []
    for row in report.result["rows"]:
        if "largest" in row:
            summary.append(f"{row['label']}: at most " + ", ".join(f"{k} {v:.1e}" for k, v in row["largest"].items()))
    report.note(summary=[*summary, *([f"{left_out} comparisons not reached in the time"] if left_out else [])], not_reached=left_out)
