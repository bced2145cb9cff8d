"""What is told about a module on this machine, by `validate_environment` and by the doctor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from calling_behaving_worker import open_module

from external_modules.validation import make_test_image

WORKER = """
import numpy as np
from module_worker import serve

def segment(input_image, *, level=800, model=None):
    {body}

serve(segment)
"""


def validate(tmp_path: Path, body: str | None, **arguments: object) -> tuple[bool, str]:
    lines: list[str] = []
    with open_module(tmp_path) as module:
        if body is not None:
            (module.folder.path / "worker.py").write_text(WORKER.format(body=body))
        works = module.validate_environment(lines.append, **arguments)
    return works, "\n".join(lines)


def test_the_image_holds_twenty_spots() -> None:
    image = make_test_image()
    assert (image.shape, image.dtype) == ((512, 512), np.uint16)
    assert 2_000 < np.count_nonzero(image > 1000) < 6_000
    assert np.array_equal(image, make_test_image())


def test_what_works_is_told(tmp_path: Path) -> None:
    works, text = validate(tmp_path, None)
    assert works and f"numpy {np.__version__}" in text and "Module behaving 1" in text and "GPU" not in text
    assert "worker not tried: the module has no worker.py" in text
    numbers = (
        "return ((input_image > level) * (1 + np.arange(512) // 100 + np.arange(512)[:, None] // 128 * 5)).astype('u1')"
    )
    works, text = validate(tmp_path, numbers)
    assert works and text.endswith("Everything works.")
    assert "worker: image (512, 512) uint16 -> labels (512, 512) uint8, 20 objects, 20 of 20 spots found" in text


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return np.zeros(input_image.shape, np.int32)", "0 objects, 0 of 20 spots found"),
        ("return (input_image > level).astype(np.uint8)", "1 objects, 1 of 20 spots found"),
        ("return np.ones((5, 5), np.int32)", "labels (5, 5) int32; worker.py must return one number for every pixel"),
        ("return {'table': 3}", "returned no labels but dict"),
        ("return input_image / 7", "Object labels must be whole numbers"),
        ("return np.linalg.inv(np.zeros((2, 2)))", "Singular matrix; more in "),
        ("import no_such_package", "No module named 'no_such_package'"),
    ],
)
def test_what_does_not_work_is_told(tmp_path: Path, body: str, told: str) -> None:
    works, text = validate(tmp_path, body)
    assert not works and told in text and "\nFAILED " in text
    assert "Not everything works" in text and "Everything works." not in text


def test_a_module_says_with_what_it_finds_the_spots(tmp_path: Path) -> None:
    with open_module(tmp_path) as module:
        path = module.folder.path / "module.json"
        path.write_text(path.read_text().replace("{", '{"test_arguments": {"level": 5, "model": "usual"}, ', 1))
    works, text = validate(tmp_path, "raise ValueError(f'{level} {model}')")
    assert not works and "ValueError: 5 usual" in text
    works, text = validate(tmp_path, "raise ValueError(f'{level} {model}')", model="mine")
    assert not works and "ValueError: 5 mine" in text


def test_a_model_that_is_tried_may_be_for_something_else(tmp_path: Path) -> None:
    works, text = validate(tmp_path, "return np.zeros(input_image.shape, np.int32)", model="mine")
    assert works and "0 of 20 spots found" in text
    works, text = validate(tmp_path, "raise FileNotFoundError(f'no model {model}')", model="mine")
    assert not works and "no model mine" in text
