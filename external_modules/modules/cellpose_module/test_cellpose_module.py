"""Shows by hand what works on this machine: `python test_cellpose_module.py [MODEL]`, as README.md describes.

The Python that runs it needs numpy and nothing else; that of NIS-Elements will do. The first time it makes the module's
environment, for which it needs the internet. MODEL is the file or the name of a model; without it, Cellpose's own model
cyto3 is tried, which is downloaded.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
try:
    from external_modules.external_module_base import ExternalModule, ExternalModuleError
finally:
    del sys.path[0]

MODULE = Path(__file__).resolve().parent
WIDTH = 14  # in pixels, of what is in the test image


def main(model="cyto3"):
    if Path(model).exists() or Path(model).name != model:
        model = Path(model).absolute()
    try:
        with ExternalModule(MODULE) as module:
            return 0 if module.validate_environment(model=model, diameter=WIDTH) else 1
    except ExternalModuleError as error:
        print(f"FAILED: {error}")
        return 1


def test_cellpose_module():  # for those who have pytest
    assert main() == 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
