"""Shows by hand what works on this machine: `python test_threshold_module.py`, as README.md describes.

The Python that runs it needs numpy and nothing else; that of NIS-Elements will do. The first time it makes the module's
environment, for which it needs the internet.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
try:
    from external_modules.external_module_base import try_module
finally:
    del sys.path[0]

MODULE = Path(__file__).resolve().parent


def main():
    return try_module(MODULE)


def test_threshold_module():  # for those who have pytest
    assert main() == 0


if __name__ == "__main__":
    sys.exit(main())
