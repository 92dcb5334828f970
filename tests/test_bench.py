"""The benchmarks themselves: what is timed is the same work, what is refused is said, the report says what the files say."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from native_case import native_engine

import kernels
from bench import breakdown, contestants, memory, scaling, side, step
from bench.gpu.common import spec_of, wider
from bench.minimum import minimum
from bench.report import __main__ as report
from bench.report import plots, tables
from bench.shapes import convolutions, upconvolutions
from models.networks import network

PLACE = {"device": "cpu", "precision": "float32"}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """As the tests' engines: the number of threads is the process's."""
    import torch

    before = torch.get_num_threads()
    monkeypatch.setattr(side, "THREADS", 1)
    side.side.cache_clear()
    yield
    side.side.cache_clear()
    torch.set_num_threads(before)


def test_networks_by_name_with_changes():
    small = network("small32")
    assert spec_of("small32") == small
    changed = spec_of("small32:64px:x2")
    assert changed.name == "small32:64px:x2" and changed.image_size == 64 and changed.latent == small.latent
    assert changed.encoder == (32, 96, 128) and changed.discriminator_units == 256 and changed.metric == small.metric
    assert wider(small, 0.1).decoder == (8, 8, 8, 8)


@pytest.mark.parametrize("name", ["paper64", "small32"])
def test_shapes_are_those_of_the_step(name):
    """Every convolution of a step, found by its weight's shape and its images."""
    spec, n = network(name), 2
    found = {(s.n, s.size, s.ci, s.co) for s in convolutions(spec, n)} | {(s.n, s.size, s.ci, s.co) for s in upconvolutions(spec, n)}
    size, e, d, g = spec.image_size, spec.encoder, spec.discriminator, spec.decoder
    assert found >= {(n, size, 3, e[0]), (n, size // 4, e[1], e[2]), (2 * n, size, g[3], 3), (3 * n, size, 3, d[0])}
    assert found >= {(3 * n, size, d[0], d[1]), (3 * n, size // 4, d[2], d[3]), (2 * n, size // 4, g[1], g[0]), (2 * n, size, g[3], g[2])}


@pytest.mark.parametrize("name", ["numpy", "plain", "lean", "compiled"])
def test_contestants_take_the_same_step(name):
    """From the same weights on the same batch: another's parameters after a step are ours, in float32."""
    spec = spec_of("little")
    settings = {"numpy": "", "compiled": "NHWC, eager"}.get(name, "NHWC")
    peer = contestants.make(name, spec, 8, settings=settings, **PLACE)
    ours = contestants.make("ours", spec, 8, **PLACE)
    before = ours.weights()
    peer.step()
    ours.step()
    found, expected = peer.weights(), ours.weights()
    assert set(found) == set(expected)
    for key, array in expected.items():
        # RMSProp's first step moves each weight by about the same amount, so the sign of a gradient that is all rounding shows
        moved = np.linalg.norm(array - before[key])
        assert moved > 0 and np.linalg.norm(found[key] - array) < 0.05 * moved, key
    assert 0.8 < ours.state_bytes / peer.state_bytes < 1.2


def test_ours_is_the_native_engine_and_numpy_is_numpys(monkeypatch):
    opened, engine = [], kernels.engine
    monkeypatch.setattr(kernels, "engine", lambda *args, **options: opened.append(options["implementation"]) or engine(*args, **options))
    for name in ("ours", "numpy", "lean"):
        contestants.make(name, spec_of("tiny"), 4, settings="NHWC" if name == "lean" else "", **PLACE)
    assert opened == ["auto", "numpy"]
    assert contestants.defaults("cpu")[:2] == ("ours", "numpy") and "numpy" not in contestants.defaults("cuda")


def test_a_step_is_measured_and_weighed(tmp_path, capsys):
    out = tmp_path / "new" / "step-cpu.json"
    step.main(["--network", "tiny", "--batch-size", "4,6", "--rounds", "2", "--contestants", "ours,numpy,lean", "--out", str(out)])
    result, text = json.loads(out.read_text()), capsys.readouterr().out
    assert [case["batch_size"] for case in result["cases"]] == [4, 6] and "ours is" in text
    assert result["machine"]["engine"] == side.side("cpu", "float32").engine.describe() and result["machine"]["torch_vectors"]
    for case in result["cases"]:
        ours, lean = case["seconds"]["ours"], case["seconds"]["lean"]
        assert 0 < ours["min"] <= ours["median"] <= ours["max"] and lean["min"] > 0
        assert case["gflop"] == minimum(spec_of("tiny"), case["batch_size"]).flops / 1e9 and set(case["of_peak"]) == {
            "ours",
            "numpy",
            "lean",
        }
        assert case["of_peak"]["lean"] == pytest.approx(case["gflop"] / lean["median"] / result["peaks"]["gflop_per_s"])
        assert f"{100 * case['of_peak']['ours']:4.0f} % of the peak" in text and f"{case['gflop']:.4g} GFLOP a step" in text
        assert case["memory"]["numpy"]["imports_mb"] < 100
        assert case["memory"]["ours"]["imports_mb"] < 100 < case["memory"]["lean"]["imports_mb"]  # ours must not hold PyTorch
        for held in case["memory"].values():
            assert held["peak_mb"] == pytest.approx(held["state_mb"] + held["activations_mb"] + held["imports_mb"], abs=0.3)
    table = tables.step_table(result)
    assert table.count("\n| ") == 7 and "measured in the same run" in table and "| numpy |" in table and "of the peak" in table
    assert plots.draw(out, result).stat().st_size > 1000


def test_what_cannot_be_measured_is_said(tmp_path, monkeypatch):
    def full(*_, **__):
        raise MemoryError("no room for 3 GB")

    monkeypatch.setattr(step, "fastest", full)
    out = tmp_path / "step.json"
    step.main(["--network", "tiny", "--batch-size", "4", "--out", str(out)])
    assert json.loads(out.read_text())["cases"] == [{"network": "tiny", "batch_size": 4, "failed": "not measured: no room for 3 GB"}]
    with pytest.raises(SystemExit, match="expected ours first"):
        step.main(["--contestants", "lean,ours"])
    with pytest.raises(SystemExit, match="numpy is an engine of the CPU, and the device is host"):
        step.main(["--contestants", "ours,numpy", "--device", "host"])
    with pytest.raises(SystemExit, match="--vectors avx2: is the CPU's"):
        step.main(["--vectors", "avx2", "--device", "host"])
    with pytest.raises(RuntimeError, match="tiny, batch 4"):
        memory.measure("ours", "tiny", 4, device="cpu", precision="no such", settings="")


def test_a_sweep_stops_where_it_would_take_too_long_or_too_much(monkeypatch):
    def case(network, n, names, rounds, **_):
        memory_of = {"peak_mb": 60.0 + n, "state_mb": 10.0, "activations_mb": float(n), "imports_mb": 50.0}
        return {"seconds": {k: {"median": n / 100} for k in names}, "memory": dict.fromkeys(names, memory_of)}

    monkeypatch.setattr(scaling, "case", case)
    batches, sizes, widths = scaling.points("small32", 16)
    run = {"rounds": 2, "device": "cpu", "precision": "float32"}
    rows = list(scaling.sweep(batches, ["ours", "lean"], longest=50.0, **run))
    assert [row["value"] for row in rows] == [8, 16, 32, 64, 128, 256] and "longer than --longest" in rows[-1]["failed"]
    monkeypatch.setattr(scaling, "free_mb", lambda device: 300.0)
    rows = list(scaling.sweep(batches, ["ours", "lean"], longest=1e9, **run))
    assert rows[-1]["value"] == 128 and "GB are free" in rows[-1]["failed"]
    assert [p.network for p in sizes][-1] == "small32:128px" and [p.network for p in widths][0] == "small32:x0.5"
    assert "not measured" in scaling.line_of(rows[-1]) and "ms" in scaling.line_of({**rows[0]})


def test_breakdown_adds_up(engine32):
    """Operations' own times are at most the step's, and every layer's products are among them."""
    result = breakdown.measure("tiny", 4, 2)
    known = sum(row["seconds"] for row in result["rows"])
    assert 0 < known <= 1.05 * result["step_seconds"]
    names = {row["operation"] for row in result["rows"]}
    assert names >= {"conv2d_bn_relu_forward", "upconv_bn_relu_backward", "gan_loss", "feature_likelihood", "rmsprop_update_all"}
    assert "a step" in breakdown.text_of(result)


@pytest.mark.parametrize(("engine", "title"), [("native", "native engine ("), ("numpy", "NumPy engine")])
def test_breakdown_of_either_engine(engine, title, monkeypatch, capsys):
    if engine == "native":
        native_engine()  # skips where there is none
    breakdown.main(["--network", "tiny", "--batch-size", "4", "--rounds", "1", "--engine", engine])
    assert f"tiny, batch 4, {title}" in capsys.readouterr().out
    monkeypatch.setenv("CXX", "no-such-compiler")
    side.side.cache_clear()
    with pytest.raises(SystemExit, match="--engine native: CXX=no-such-compiler does not run"):
        breakdown.main(["--network", "tiny", "--batch-size", "4", "--rounds", "1", "--engine", "native"])


def test_breakdown_charges_a_nested_operation_once():
    class Engine:
        def __getattr__(self, name):
            return lambda *args: None

        def add(self, a):
            self.copy(a)

    engine, ticks = Engine(), iter(range(100))
    clock = breakdown.Clock(engine)
    breakdown_time, breakdown.time = breakdown.time, type("T", (), {"perf_counter": staticmethod(lambda: float(next(ticks)))})
    try:
        engine.add(np.ones((2, 3)))
    finally:
        breakdown.time = breakdown_time
    assert clock.seconds == {("copy", "2x3"): 1.0, ("add", "2x3"): 2.0} and clock.calls[("add", "2x3")] == 1


RESULT = {
    "command": "made up", "network": "tiny", "batch_size": 4, "peaks": {"gflop_per_s": 100.0, "gb_per_s": 10.0},
    "machine": {"cpu": "A CPU", "threads": 2, "torch": "2", "date": "2026-01-01", "device": "cpu", "precision": "float32"},
    "rows": [{"name": "test_linear[forward-enc fc]", "ours_ms": 2.0, "torch_ms": 3.0, "times_torch": 1.5, "flop": 1e8, "bytes": 1e6,
              "gflop_per_s": 50.0}, {"name": "test_latency[small32-encode]", "ours_ms": 0.5, "torch_ms": 0.75, "times_torch": 1.5}],
}  # fmt: skip


def test_the_report_is_what_the_files_say(tmp_path, capsys):
    results, page = tmp_path / "results", tmp_path / "README.md"
    results.mkdir()
    (results / "kernels-cpu.json").write_text(json.dumps(RESULT))
    words = ["--results", str(results), "--page", str(page)]
    report.main(words)
    text = page.read_text()
    assert "| linear: forward-enc fc | 2 ms | 1.50 | 50 GFLOP/s | 50 % |" in text and "made up" in text
    assert "### A CPU, 2 threads, NumPy engine, float32, PyTorch 2, 2026-01-01" in text and "100 GFLOP/s (a large product)" in text
    assert "| small32: encode | 0.5 ms | 0.75 ms | 1.50 |" in text
    assert (results / "kernels-cpu.png").stat().st_size > 1000 and "(results/kernels-cpu.png)" in text
    report.main([*words, "--check"])
    native = {"engine": "native", "vectors": "AVX-512", "compiler": "g++ 12"}
    newer = {**RESULT, "machine": {**RESULT["machine"], "engine": native, "torch_vectors": "AVX512"}}
    assert tables.source(newer) == "A CPU, 2 threads, native engine (AVX-512, g++ 12), float32, PyTorch 2 (AVX512), 2026-01-01"
    page.write_text(text.replace("1.50", "2.50"))
    with pytest.raises(SystemExit, match="not what the result files give"):
        report.main([*words, "--check"])
    assert "from 1 files" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="counts what is read from disks as Linux does")
def test_images_read_ahead(tmp_path, monkeypatch):
    from bench import feed

    monkeypatch.setattr(feed, "STEPS", {"memory": 40})
    words = [
        "--images",
        "500",
        "--image-size",
        "8",
        "--batch-size",
        "16",
        "--rounds",
        "2",
        "--folder",
        tmp_path,
        "--out",
        tmp_path / "feed.json",
    ]
    feed.main(list(map(str, words)))
    result = json.loads((tmp_path / "feed.json").read_text())
    speeds = sorted(row["images_per_s"] for row in result["cases"][0]["rounds"])
    assert speeds[0] > 0 and list(tmp_path.iterdir()) == [tmp_path / "feed.json"]
    text = tables.feed_table(result)
    assert "| 500 images of 8 pixels, 0.0 GB | images/s |" in text and f"({speeds[0]:,}–{speeds[1]:,})" in text
    assert tables.source(result).endswith(f" cores, {result['machine']['date']}")


def test_the_committed_report_is_what_the_committed_files_say():
    report.main(["--check"])


def test_ours_does_not_import_pytorch():
    """What `bench.memory` weighs as ours: in a process of its own, nothing of PyTorch."""
    import subprocess

    code = "import sys; from bench.contestants import make; from bench.gpu.common import spec_of\n"
    code += "make('ours', spec_of('tiny'), 4, device='cpu', precision='float32').step(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_gate_is_off_in_what_is_timed(engine32):
    """The gate would skip work of ours alone: a timed step updates all three networks."""
    contestant = contestants.make("ours", spec_of("tiny"), 4, **PLACE)
    before = contestant.weights()
    contestant.step()
    after = contestant.weights()
    assert all(not np.array_equal(before[k], after[k]) for k in before)
