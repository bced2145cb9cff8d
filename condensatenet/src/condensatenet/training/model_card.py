"""The README of a trained model, written for whoever finds its directory later."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_model_card(path: Path, name: str, report: dict[str, Any], table: str, pictures: list[str]) -> None:
    """Write a model card in Markdown.

    Args:
        path: file to write.
        name: the model's name.
        report: of `condensatenet.training.result.build_report`.
        table: scores of the start model and the new one, as plain text.
        pictures: file names beside `path` to show.
    """
    counts, sizes, settings = report["counts"], report["instance_sizes"], report["settings"]
    options = "\n".join(f"| {option.replace('_', ' ')} | {value} |" for option, value in settings.items())
    shown = "\n\n".join(f"![{picture}]({picture})" for picture in pictures)
    path.write_text(
        f"""# {name}

A CondensateNet model, trained from `{report["start_model"]["name"]}`
on {counts["training_instances"]} annotated instances in {counts["training_images"]} images.

{report["message"]}

## How good it is

Measured on: {report["held_out"]}.
Epoch {report["best_epoch"]} of {report["epochs_run"]} was the best and is what this directory holds.

```
{table}
```

Green or matched outlines agree with an annotation (IoU of at least 0.5).

{shown}

## How to use it

```
condensatenet segment IMAGE.tif --model {name} --output results
```

Instances from {sizes["min_size"]} to {sizes["max_size"]} px are kept. It was trained on images like yours
only if yours look like the ones above: same structure, similar magnification. On other images check its outlines first.

## How it was trained

| option | value |
|---|---|
{options}

All figures of every epoch are in `training_report.json`; the start model had the checksum
`{report["start_model"]["sha256"]}`.
""",
        encoding="utf-8",
    )
