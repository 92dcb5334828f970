"""The tile table's rule, and a tuner's tiles before it."""

from __future__ import annotations

import pytest

from kernels.cuda.device.chips import CHIPS
from kernels.cuda.products import tiles


@pytest.mark.parametrize("chip", ["sm_75", "sm_80", "sm_86", "sm_90", "sm_120"])
@pytest.mark.parametrize("precision", ["bf16", "tf32", "float32"])
def test_tiles_fit(chip, precision):
    """Shared memory of the chip, channels in whole steps, no more columns than needed."""
    for rows, columns, channels in ((32, 3, 16), (4096, 256, 128), (200000, 128, 32), (300, 48, 48), (196608, 4, 64)):
        shape = {"rows": rows, "columns": columns, "depth": 25 * channels, "channels": channels}
        tile = tiles.tile("forward", **shape, chip=CHIPS[chip], precision=precision)
        assert tile.stages * (tile.bm + tile.bn) * tile.bk * (2 if precision == "bf16" else 4) <= CHIPS[chip].shared_bytes
        assert chip != "sm_75" or tile.bn <= 64, "what is loaded for the next step waits in registers: 128 columns spill"
        assert channels % tile.bk == 0 and tile.bk >= 16 and 16 <= tile.bn <= max(16, 2 * columns)


def test_tuned_tiles_come_first(tmp_path):
    chip, shape = CHIPS["sm_90"], {"rows": 64, "columns": 64, "depth": 64, "channels": 64}
    name = tiles.key("linear", 64, 64, 64, chip, "bf16")
    (tmp_path / "tiles.json").write_text(f'{{"{name}": [64, 32, 16, 2, 4]}}')
    try:
        tiles.override(tmp_path / "tiles.json")
        assert tiles.tile("linear", **shape, chip=chip, precision="bf16") == (64, 32, 16, 2, 4)
        assert name in tiles.describe()["tuned"] and tiles.describe()["used"][name] == [64, 32, 16, 2, 4]
        (tmp_path / "tiles.json").write_text(f'{{"{name}": [64, 33, 16, 2, 4]}}')
        with pytest.raises(ValueError, match="got .*expected .*powers of two"):
            tiles.override(tmp_path / "tiles.json")
    finally:
        tiles.override(None)
    assert tiles.tile("linear", **shape, chip=chip, precision="bf16") != (64, 32, 16, 2, 4)
    with pytest.raises(ValueError, match="tile: got kind 'other', expected"):
        tiles.tile("other", **shape, chip=chip, precision="bf16")
