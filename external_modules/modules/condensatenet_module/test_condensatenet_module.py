"""Shows by hand what works on this machine: `python test_condensatenet_module.py [MODEL]`, as README.md describes.

The Python that runs it needs numpy and nothing else; that of NIS-Elements will do. The first time it makes the module's
environment, for which it needs the internet. MODEL is the folder or the .tar.gz of a model; without it, the small model
that comes with CondensateNet is tried.
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
from external_modules.external_module_base import ExternalModule, ExternalModuleError

del sys.path[0]

MODULE = Path(__file__).resolve().parent
ROWS, COLUMNS = np.divmod(np.arange(20), 5)
CENTRES = (64 + 128 * ROWS, 50 + 100 * COLUMNS)


def make_test_image():
    """Return a 512x512 uint16 image with bright, slightly blurred droplets of growing size, and noise."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:512, :512]
    image = np.full((512, 512), 500.0)
    for number, (row, column) in enumerate(zip(*CENTRES, strict=True)):
        image += 1000 / (1 + np.exp((np.hypot(y - row, x - column) - 4 - number / 5) / 1.5))
    return random.poisson(image).astype(np.uint16)


def main(model=None):
    image = make_test_image()
    count = len(ROWS)
    try:
        module = ExternalModule(MODULE)
        if not module.validate_environment():
            return 1
        for attempt in ("first call", "next call"):
            start = time.perf_counter()
            labels = module.call("worker.py", input_image=image, model=model)
            seconds = time.perf_counter() - start
            found = len(set(labels[CENTRES].tolist()) - {0})
            print(
                f"Worker, {attempt}: image {image.shape} {image.dtype} -> labels {labels.shape} {labels.dtype}, "
                f"{labels.max()} objects, {found} of {count} droplets found, {seconds:.3f} s"
            )
        module.close()
    except ExternalModuleError as error:
        print(f"FAILED: {error}")
        return 1
    works = labels.shape == image.shape and labels.dtype == np.int32
    if model is not None and works:
        print("The model works. How many of these droplets it finds depends on what it learnt.")
        return 0
    print("Everything works." if works and found == count else "FAILED: not all of the test image was found.")
    return 0 if works and found == count else 1


def test_condensatenet_module():  # for those who have pytest
    assert main() == 0


if __name__ == "__main__":
    sys.exit(main(*(str(Path(model).absolute()) for model in sys.argv[1:2])))
