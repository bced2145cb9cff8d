"""Shows by hand what works on this machine: `python test_threshold_module.py`, as README.md describes.

The Python that runs it needs numpy and nothing else; that of NIS-Elements will do. The first time it makes the module's
environment, for which it needs the internet.
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
from external_modules.external_module_base import ExternalModule, ExternalModuleError

del sys.path[0]

MODULE = Path(__file__).resolve().parent
OBJECTS = 20


def make_test_image():
    """Return a 512x512 uint16 image with bright discs on a noisy background."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:512, :512]
    image = random.normal(200, 10, (512, 512))
    for number in range(OBJECTS):
        row, column = divmod(number, 5)
        inside = (y - 64 - 128 * row) ** 2 + (x - 50 - 100 * column) ** 2 <= (10 + number) ** 2
        image[inside] += 1000
    return image.astype(np.uint16)


def main():
    image = make_test_image()
    try:
        module = ExternalModule(MODULE)
        if not module.validate_environment():
            return 1
        for attempt in ("first call", "next call"):
            start = time.perf_counter()
            labels = module.call("worker.py", input_image=image)
            seconds = time.perf_counter() - start
            print(
                f"Worker, {attempt}: image {image.shape} {image.dtype} -> labels {labels.shape} {labels.dtype}, "
                f"{labels.max()} objects found (there are {OBJECTS}), {seconds:.3f} s"
            )
        module.close()
    except ExternalModuleError as error:
        print(f"FAILED: {error}")
        return 1
    works = labels.shape == image.shape and labels.dtype == np.int32 and labels.max() == OBJECTS
    print("Everything works." if works else "FAILED: the worker answered, but not with what the test image holds.")
    return 0 if works else 1


def test_threshold_module():  # for those who have pytest
    assert main() == 0


if __name__ == "__main__":
    sys.exit(main())
