"""`workbench files`: the way out of the store for a model that a tool trained."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from workbench.command_line import main
from workbench.store.store import Store

CONTENT = b"weights" * 10_000
PATH = "Private/.tool/models/my model ü.tar.gz"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the verb on a store with one model, and return exit code and what was printed."""
    with closing(Store(tmp_path / "data")) as store:
        folder = store.folders.children(store.users.user["_id"], parent_type="user", name="Private")[0]
        for name in (".tool", "models"):
            folder = store.folders.create(folder["_id"], name)
        item = store.items.create(folder["_id"], "my model ü.tar.gz")
        upload = store.uploads.start(parent_type="item", parent_id=item["_id"], name=item["name"], size=len(CONTENT))
        store.uploads.write(upload["_id"], 0, [CONTENT])

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["files", *arguments, "--data", str(tmp_path / "data")])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_folders_and_files_are_listed(run: Run) -> None:
    code, printed, _ = run()
    assert code == 0 and [line.strip() for line in printed.splitlines()] == ["Public/", "Private/"]
    assert run("Private/.tool/")[1].strip() == "models/"
    for path in ("Private/.tool/models", PATH):
        code, printed, _ = run(path)
        assert code == 0 and printed.split()[:2] == ["70,000", "bytes"] and printed.endswith("my model ü.tar.gz\n")


def test_a_file_is_copied_as_a_whole(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "new" / "models"
    code, printed, errors = run(PATH, "--output", str(output))
    copied = output / "my model ü.tar.gz"
    assert (code, printed, errors) == (0, f"{copied}\n", "")
    assert copied.read_bytes() == CONTENT and list(output.iterdir()) == [copied]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("Private/.tool/models", "is a folder. Name a file in it; there are: 'my model ü.tar.gz'"),
        ("", "That is a folder"),
        ("Private/.tool/models/other", "no 'other' in Private/.tool/models. There are: 'my model ü.tar.gz'"),
        (f"{PATH}/more", "no 'my model ü.tar.gz' in"),
        ("Secret", "There is no 'Secret' in your folders. There are: 'Public', 'Private'"),
        ("Private/.tool/../models", "no '..' in Private/.tool"),
    ],
)
def test_what_is_not_there_is_told(run: Run, tmp_path: Path, path: str, text: str) -> None:
    code, printed, errors = run(path, "--output", str(tmp_path / "new"))
    assert code == 1 and text in errors and not printed and not (tmp_path / "new").exists()


def test_nothing_is_replaced(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my model ü.tar.gz").write_text("mine")
    code, _, errors = run(PATH, "--output", str(tmp_path))
    assert code == 1 and "is there already" in errors
    assert (tmp_path / "my model ü.tar.gz").read_text() == "mine"
    (tmp_path / "file").write_text("")
    code, _, errors = run(PATH, "--output", str(tmp_path / "file"))
    assert code == 1 and "cannot be written" in errors
