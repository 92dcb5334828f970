"""What the explorer's server takes to answer: ``python -m bench.explorer``. Aims: a picture within 50 ms (small32), 150 ms (paper64).

Each network is trained for one step (its weights do not matter to the time), served, and asked as the page asks, over one connection:
a slider's movement (two images: as it is, and with the sliders), a grid of 24 samples, a photo. Writes bench/results/explorer.json.
"""

from __future__ import annotations

import argparse
import http.client
import io
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.harness import busy_cores, machine
from vaegan_kernels import train
from vaegan_kernels.explorer.routes import Routes
from vaegan_kernels.explorer.server import Server
from vaegan_kernels.explorer.shown import Shown
from vaegan_kernels.explorer.worker import Worker
from vaegan_kernels.files import write_json

RESULTS = Path(__file__).with_name("results") / "explorer.json"
NETWORKS = {"small32": 50, "paper64": 150}  # the aim, ms


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.explorer", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, metavar="N")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE")
    arguments = parser.parse_args()
    rows = []
    for network, aim in NETWORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / network
            flags = ("--network", network, "--steps", "1", "--batch-size", "2", "--limit", "40", "--quiet", "--no-animation")
            assert train.main([*flags, "--out", str(run), "--device", "cpu"]) == 0
            rows += [{"network": network, "aim_ms": aim, **row} for row in measure(run, arguments.rounds)]
    for row in rows:
        print(row)
    write_json(arguments.out, {"command": "python -m bench.explorer", **machine(), "busy_cores": busy_cores(), "rows": rows})


def measure(run: Path, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of each kind of request, from the first byte sent to the last received."""
    worker = Worker()
    shown = Shown(str(run), worker, data=None, weights=None, place={"device": "cpu", "engine": "auto", "threads": None, "say": None})
    worker.call(shown.load, None)
    latent, rng = shown.known().latent, np.random.default_rng(0)
    photo = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (600, 800, 3), dtype=np.uint8)).save(photo, "JPEG", quality=90)
    requests = {
        "a slider: 2 images": ("decode?run=0", rng.standard_normal((2, latent)).astype("<f4").tobytes()),
        "samples: 24 images": ("decode?run=0", rng.standard_normal((24, latent)).astype("<f4").tobytes()),
        "a photo of 600 x 800": ("encode?run=0&left=0.1&top=0&side=0.9", photo.getvalue()),
    }
    rows = []
    with Server(Routes([shown], worker), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        host = f"127.0.0.1:{server.server_address[1]}"
        connection = http.client.HTTPConnection(host)
        for what, (path, body) in requests.items():
            times = []
            for _ in range(rounds + 5):
                start = time.perf_counter()
                connection.request("POST", f"/{server.token}/{path}", body, {"Origin": f"http://{host}"})
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()
                answer.read()
                times.append(1e3 * (time.perf_counter() - start))
            ordered = sorted(times[5:])
            late = ordered[int(0.95 * len(ordered))]
            rows.append({"request": what, "median_ms": round(statistics.median(ordered), 2), "of_20_the_slowest_ms": round(late, 2)})
        connection.close()
        server.shutdown()
        thread.join()
    return rows


if __name__ == "__main__":
    main()
