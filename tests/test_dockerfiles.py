"""The Dockerfiles of the two workers, as far as they can be checked without an engine."""

from __future__ import annotations

import re

from platform_driver import WORKERS

KINDS = ("predict", "train")


def shared_text(kind: str) -> str:
    """Return what must be the same in both: from the first argument to the labels, and after the labels."""
    text = (WORKERS / kind / "Dockerfile").read_text(encoding="utf-8").replace(f"condensatenet/{kind}/", "")
    start, end = text[text.index("ARG BASE_IMAGE") :].split("\nLABEL ")
    return start + re.sub(r'^.*="[^"]*"( \\)?\n', "", end, flags=re.MULTILINE)


def test_both_images_share_their_layers() -> None:
    predict, train = (shared_text(kind) for kind in KINDS)
    assert predict == train
    assert "USER nobody" in predict
