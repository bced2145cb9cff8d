"""What it brings to keep freed memory: time, page faults and memory of a frame on the CPU, with and without it.

    .venv/bin/python benchmarks/freed_memory.py [--size 2048] [--rounds 5] [--model DIR]

Each way is measured in a process of its own, in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys


def measure(model: str | None, size: int, rounds: int, *, kept: bool) -> None:
    """Segment a frame again and again, and print the figures as JSON."""
    import resource
    import time
    from functools import partial

    import numpy as np

    from condensatenet import CondensateNetPipeline, simulate_frame
    from condensatenet.files.pretrained import SHIPPED_MODEL
    from condensatenet.inference import tiles

    if not kept:
        tiles.keep_freed_memory = lambda: False  # type: ignore[assignment]
    image, _ = simulate_frame((512, 512), rng=np.random.default_rng(0), bit_depth=16)
    image = np.tile(image, (size // 512, size // 512))
    segment = partial(CondensateNetPipeline.from_local(model or SHIPPED_MODEL, "cpu").segment, image)
    segment()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        segment()
        times.append(time.perf_counter() - began)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * resource.getpagesize()
    print(json.dumps([statistics.median(times), (usage.ru_minflt - faults) / rounds, usage.ru_maxrss * 1024, resident]))


def main() -> None:
    """Measure both ways and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=2048, help="side of the frame in pixels, a multiple of 512")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", help="a model's folder (default: the shipped one)")
    parser.add_argument("--way", choices=["kept", "handed back"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        measure(options.model, options.size, options.rounds, kept=options.way == "kept")
        return

    from measuring import describe_machine, milliseconds, print_table

    ways = ("handed back", "kept")
    found: dict[str, list[list[float]]] = {way: [] for way in ways}
    for _ in range(3):
        for way in ways:
            done = subprocess.run([sys.executable, *sys.argv, "--way", way], stdout=subprocess.PIPE, check=True)
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
    medians = {way: [statistics.median(column) for column in zip(*rows, strict=True)] for way, rows in found.items()}
    rows = [
        (
            f"freed memory {way}",
            milliseconds(time),
            f"{faults:,.0f}",
            f"{peak / 2**20:.0f} MiB",
            f"{rest / 2**20:.0f} MiB",
        )
        for way, (time, faults, peak, rest) in medians.items()
    ]
    ratio = medians["handed back"][0] / medians["kept"][0]
    header = (f"{options.size} x {options.size} pixels", "a frame", "page faults", "peak RSS", "afterwards")
    print_table(header, rows, f"ratio {ratio:.2f}", describe_machine())


if __name__ == "__main__":
    main()
