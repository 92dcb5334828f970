"""The machine's peaks, and PyTorch held to fewer vectors than there are: what is not so is refused."""

from __future__ import annotations

import json

import pytest
from native_case import native_engine

from bench import peaks, side, step, vectors
from bench.report import tables
from kernels.cpu.native.compiler import processor


@pytest.fixture(autouse=True)
def no_engine_kept():
    side.side.cache_clear()
    yield
    side.side.cache_clear()


def test_peaks_are_rates(monkeypatch):
    found = peaks.measure(1, rounds=1)
    assert 1 < found["gflop_per_s"] < 1e4 and 0.5 < found["gb_per_s"] < 1e3
    monkeypatch.setenv("CXX", "no-such-compiler")
    product = peaks.measure(1, rounds=1)
    assert product["gflop_of"] == peaks.PRODUCT and 1 < product["gflop_per_s"] < 1e4
    if found["gflop_of"] == peaks.REGISTERS:  # a product is multiply-adds and more; now and then another takes the core
        assert product["gflop_per_s"] < 1.5 * found["gflop_per_s"]


def test_the_peak_is_that_of_the_vectors_in_use(monkeypatch):
    """Vectors of 4 do at most half of what vectors of 8 do."""
    native_engine("avx2")
    rates = {}
    for level in ("avx2", "baseline"):
        monkeypatch.setenv("VAEGAN_NATIVE_LEVEL", level)
        rates[level] = peaks.multiply_adds(1, 20)
    assert 1.5 < rates["avx2"] / rates["baseline"] < 6
    assert rates["avx2"] < 8 * 2 * 2 * 7e9  # two units at 7 GHz: nothing was left out


FOUND = {
    "level": "avx2", "pytorch": "AVX2", "onednn": "Intel AVX2", "kernels": ["jit:avx2"], "blas": "Haswell", "avx512": "unused",
    "mkl": "Intel(R) Advanced Vector Extensions 2 (Intel(R) AVX2) enabled processors, MKL_CBWR OFF",
}  # fmt: skip
BASELINE = {
    **FOUND, "level": "baseline", "pytorch": "DEFAULT", "onednn": "Intel SSE4.1", "kernels": ["jit:sse41"],
    "mkl": "Intel(R) Architecture processors, MKL_CBWR COMPATIBLE",
}  # fmt: skip


@pytest.mark.parametrize(
    ("found", "change", "why"),
    [
        (FOUND, {}, ""),
        (FOUND, {"pytorch": "AVX512"}, "pytorch says 'AVX512', expected 'AVX2'"),
        (FOUND, {"onednn": ""}, "onednn says 'nothing', expected 'Intel AVX2'"),
        (FOUND, {"kernels": ["jit:avx2", "brg_conv_fwd:avx512_core"]}, "it runs brg_conv_fwd:avx512_core"),
        (FOUND, {"mkl": "Intel(R) Advanced Vector Extensions 512 (Intel(R) AVX-512) enabled processors"}, "avx512"),
        (FOUND, {"avx512": "used"}, "a training step used AVX-512 registers"),
        (BASELINE, {}, ""),
        (BASELINE, {"kernels": ["jit:avx2"]}, "it runs jit:avx2"),
        (BASELINE, {"mkl": "Intel(R) Architecture processors, MKL_CBWR OFF"}, "MKL is for Intel"),
    ],
)
def test_a_pytorch_that_does_not_obey_is_refused(found, change, why):
    said = vectors.refusal(found["level"], {**found, **change})
    assert why in said and bool(said) == bool(why)


def test_what_libraries_say_of_themselves_is_read():
    text = """onednn_verbose,v1,info,cpu,isa:Intel AVX2
onednn_verbose,v1,primitive,exec,cpu,reorder,jit:uni,undef,src:f32
onednn_verbose,v1,primitive,exec,cpu,convolution,jit:avx2,forward_training,src:f32
MKL_VERBOSE oneMKL 2024.0 Update 2 Product build 20240605 for Intel(R) 64 architecture Intel(R) Architecture processors, Lnx 2.60GHz
MKL_VERBOSE SGEMM(N,N,64,64,64) 7.49ms CNR:OFF Dyn:0"""
    mkl = "Intel(R) 64 architecture Intel(R) Architecture processors, MKL_CBWR OFF"
    assert vectors.said(text) == {"onednn": "Intel AVX2", "kernels": ["jit:avx2"], "mkl": mkl}
    assert vectors.said("") == {"onednn": "", "kernels": [], "mkl": ""}


def test_a_process_held_to_nothing_is_caught(monkeypatch):
    """The check sees AVX-512 where PyTorch may use it: all but PyTorch is held."""
    if "avx512f" not in processor()[1]:
        pytest.skip("this processor has no AVX-512")
    rest = {name: value for name, value in vectors.ENVIRONMENT["avx2"].items() if not name.startswith(("ATEN", "ONEDNN"))}
    monkeypatch.setitem(vectors.ENVIRONMENT, "avx2", rest)
    found = {}
    monkeypatch.setattr(vectors, "refusal", lambda level, result: found.update(result) or "caught")
    with pytest.raises(RuntimeError, match="--vectors avx2: PyTorch does not keep to it: caught"):
        vectors.check("avx2")
    assert found["pytorch"] == "AVX512" and "AVX-512" in found["onednn"] and any("avx512" in kernel for kernel in found["kernels"])
    assert found["avx512"] == "used" if vectors.STATUS.exists() else found["avx512"] == "unknown"


def test_a_step_held_to_fewer_vectors(tmp_path, monkeypatch, capfd):
    """From a process that is held to nothing: the whole run is in one that is, its children too."""
    native_engine("avx2")
    out = tmp_path / "step.json"
    monkeypatch.setenv("BENCH_THREADS", "1")
    words = ["--network", "tiny", "--batch-size", "4", "--rounds", "1", "--contestants", "ours,lean", "--out", str(out)]
    with pytest.raises(SystemExit) as end:
        step.main([*words, "--vectors", "avx2"])
    assert end.value.code == 0, capfd.readouterr().err
    result, text = json.loads(out.read_text()), capfd.readouterr().out
    assert result["machine"]["engine"]["vectors"] == "AVX2" and result["machine"]["torch_vectors"] == "AVX2"
    assert result["held"]["onednn"] == "Intel AVX2" and result["held"]["avx512"] in ("unused", "unknown") and result["cases"][0]["memory"]
    assert "Held to avx2: PyTorch's own kernels say AVX2" in text and "Held to avx2" in tables.step_table(result)
    for name, value in vectors.ENVIRONMENT["avx2"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SystemExit, match="--vectors avx2: our library is not there: CXX=no-such-compiler"):
        step.main([*words, "--vectors", "avx2"])
