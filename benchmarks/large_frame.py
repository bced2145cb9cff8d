"""Memory and time of segmenting one very large frame: 8192 x 8192 pixels, 16 bits, about 40,000 instances.

    .venv/bin/python benchmarks/large_frame.py [--model DIR] [--size 8192] [--instances 40000]

The frame is simulated in one process and segmented in another, so that the peak memory is that of segmenting alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def simulate(folder: Path, size: int, instances: int) -> None:
    """Write image.npy (uint16) and labels.npy."""
    from dataclasses import replace

    import numpy as np

    from condensatenet.simulation import draw_style, simulate_frame

    median_area, area_spread = 100.0, 0.4
    style = replace(
        draw_style(np.random.default_rng(0)),
        median_area=median_area,
        area_spread=area_spread,
        largest_area=600.0,
        # A few percent of the bodies are hidden by others and left out.
        coverage=1.07 * instances * median_area * float(np.exp(area_spread**2 / 2)) / size**2,
        clustering=0.2,
        brightness_spread=0.3,
        cell_coverage=0.3,
        cell_radius=60.0,
        cell_level=0.1,
        cell_edge=0.2,
        background=0.1,
        psf_sigma=1.2,
        photons=300.0,
        bit_depth=16,
        exposure=0.5,
    )
    image, labels = simulate_frame((size, size), rng=np.random.default_rng(1), style=style)
    np.save(folder / "image.npy", image)
    np.save(folder / "labels.npy", labels)


def segment(folder: Path, model: str | None, tile_size: int) -> None:
    """Segment image.npy under a progress bar and write figures.json."""
    import resource

    import numpy as np
    from tqdm import tqdm

    from condensatenet import CondensateNetPipeline
    from condensatenet.evaluation import evaluate_instances
    from condensatenet.files.pretrained import SHIPPED_MODEL

    pipeline = CondensateNetPipeline.from_local(model or SHIPPED_MODEL, "cpu", tile_size=tile_size)
    image = np.load(folder / "image.npy")
    began = time.perf_counter()
    with tqdm(total=1.0, bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}", file=sys.stderr) as bar:

        def show(fraction: float, message: str) -> None:
            bar.n = fraction
            bar.set_postfix_str(message)

        labels = pipeline.segment(image, progress_callback=show)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    truth = np.load(folder / "labels.npy")
    figures = {
        "seconds": seconds,
        "peak bytes": peak,
        "instances": int(labels.max()),
        "truth": int(truth.max()),
        "AP@0.5": evaluate_instances([truth], [labels], [0.5]).ap(0.5),
        "dtype": str(image.dtype),
    }
    (folder / "figures.json").write_text(json.dumps(figures))


def main() -> None:
    """Run both parts and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", help="model directory (default: the one that ships with condensatenet)")
    parser.add_argument("--size", type=int, default=8192, help="side of the frame in pixels")
    parser.add_argument("--instances", type=int, default=40_000, help="instances in the frame, about")
    parser.add_argument("--tile-size", type=int, default=1024, help="side of a tile in pixels")
    parser.add_argument("--part", choices=("simulate", "segment"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part == "simulate":
        simulate(arguments.folder, arguments.size, arguments.instances)
    elif arguments.part == "segment":
        segment(arguments.folder, arguments.model, arguments.tile_size)
    else:
        with tempfile.TemporaryDirectory() as folder:
            for part in ("simulate", "segment"):
                subprocess.run(
                    [sys.executable, __file__, *sys.argv[1:], "--part", part, "--folder", folder], check=True
                )
            figures = json.loads((Path(folder) / "figures.json").read_text())
        report(figures, arguments.size)


def report(figures: dict[str, float], size: int) -> None:
    """Print the table."""
    from measuring import describe_machine, print_table

    print(f"one frame of {size} x {size} pixels, {figures['dtype']} ({describe_machine()})\n")
    print_table(
        ["what", "measured", "aim"],
        [
            ["wall time of segment", f"{figures['seconds']:.0f} s", "-"],
            ["peak memory of the process", f"{figures['peak bytes'] / 2**30:.2f} GiB", "below 4"],
            ["instances in the frame", f"{figures['truth']:,}", "-"],
            ["instances found", f"{figures['instances']:,}", "-"],
            ["AP@0.5", f"{figures['AP@0.5']:.3f}", "-"],
        ],
    )


if __name__ == "__main__":
    main()
