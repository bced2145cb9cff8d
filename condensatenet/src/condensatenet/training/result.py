"""What a training run leaves behind: the model directory with its report, pictures and model card."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condensatenet import __version__
from condensatenet.errors import InvalidOptionError
from condensatenet.evaluation.tables import compare_table
from condensatenet.files.model_directory import CONFIG_FILE, WEIGHTS_FILE, save_network
from condensatenet.inference.instances import MAX_SIZE, MIN_SIZE
from condensatenet.training.dataset import AnnotatedImage
from condensatenet.training.holdout import Split, count_instances
from condensatenet.training.model_card import write_model_card
from condensatenet.training.settings import TrainingSettings
from condensatenet.training.validation import Measurement, SizeLimits

if TYPE_CHECKING:
    from condensatenet.network.model import CondensateNet

REPORT_FILE = "training_report.json"
CURVES_FILE = "training_curves.png"
OVERLAY_FILE = "held_out_overlay.png"
CARD_FILE = "README.md"
_PICTURED_IMAGES = 3


@dataclass(frozen=True)
class TrainingResult:
    """A finished run.

    Attributes:
        settings, patch_size: how it was trained.
        split: what it was trained on and what was held out.
        limits: instance sizes that the model keeps.
        history: every epoch's figures.
        best_epoch: the epoch whose network was chosen.
        start_model: directory of the model it started from.
        before, after: the start model and the new one on the held-out images, or on the training images where nothing
            was held out.
        failure: why training ended before its time, if it did.
    """

    settings: TrainingSettings
    patch_size: int
    split: Split
    limits: SizeLimits
    history: list[dict[str, float]]
    best_epoch: int
    start_model: Path
    before: Measurement
    after: Measurement
    failure: str | None

    @property
    def measured(self) -> list[AnnotatedImage]:
        """The images that `before` and `after` were measured on."""
        return self.split.held_out or self.split.train


def check_output_path(output: Path) -> None:
    """Refuse to replace anything that is not a model.

    Raises:
        InvalidOptionError: there is a file or a directory of something else at `output`.
    """
    is_model = (output / CONFIG_FILE).is_file() and (output / WEIGHTS_FILE).is_file()
    if is_model or (output.is_dir() and not any(output.iterdir())):
        return
    if output.exists():
        raise InvalidOptionError(f"{output} exists and is not a model; choose another output directory")


def write_result(result: TrainingResult, network: CondensateNet, output: Path) -> None:
    """Write the model directory; it appears under its name complete or not at all."""
    report = build_report(result)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir()
    try:
        save_network(partial, network, _config_entries(result, report))
        report["model_sha256"] = _checksum(partial / WEIGHTS_FILE)
        (partial / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        _draw(result, partial)
        table = compare_table({"start model": result.before.evaluation, "new model": result.after.evaluation})
        write_model_card(partial / CARD_FILE, output.name, report, table, [CURVES_FILE, OVERLAY_FILE])
        _publish(partial, output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def build_report(result: TrainingResult) -> dict[str, Any]:
    """Return everything that is worth knowing about a run as plain values for JSON."""
    before, after = result.before.evaluation, result.after.evaluation
    improved = after.ap(0.5) > before.ap(0.5) if result.split.held_out else None
    return {
        "message": _message(result),
        "ap50_before": before.ap(0.5),
        "ap50_after": after.ap(0.5),
        "improved": improved,
        "held_out": result.split.description,
        "best_epoch": result.best_epoch,
        "epochs_run": len(result.history),
        "counts": {
            "training_images": len(result.split.train),
            "training_instances": sum(count_instances(sample.labels) for sample in result.split.train),
            "held_out_images": len(result.split.held_out),
            "held_out_instances": sum(count_instances(sample.labels) for sample in result.split.held_out),
        },
        "instance_sizes": asdict(result.limits),
        "start_model": {"name": result.start_model.name, "sha256": _checksum(result.start_model / WEIGHTS_FILE)},
        "settings": {**asdict(result.settings), "patch_size": result.patch_size},
        "versions": {name: version(name) for name in ("torch", "numpy", "scipy")} | {"condensatenet": __version__},
        "before": before.as_dict(),
        "after": after.as_dict(),
        "history": result.history,
    }


def _message(result: TrainingResult) -> str:
    before, after = result.before.evaluation.ap(0.5), result.after.evaluation.ap(0.5)
    figures = f"AP@0.5 {before:.3f} before, {after:.3f} after"
    if not result.split.held_out:
        text = (
            f"Trained, but not checked on unseen images: {result.split.description}. "
            f"On the training images themselves: {figures}."
        )
    elif after > before:
        text = f"Training helped: {figures}, on annotations that it never saw ({result.split.description})."
    else:
        text = (
            f"Training did NOT help: {figures}, on annotations that it never saw ({result.split.description}). "
            "Keep the start model, or annotate more and check the outlines."
        )
    if (result.limits.min_size, result.limits.max_size) != (MIN_SIZE, MAX_SIZE):
        text += (
            f" Your instances need a Min Size of at most {result.limits.min_size} "
            f"and a Max Size of at least {result.limits.max_size} px."
        )
    return f"{text} Note: {result.failure}." if result.failure else text


def _config_entries(result: TrainingResult, report: dict[str, Any]) -> dict[str, Any]:
    return {
        **asdict(result.limits),
        "training": {name: report[name] for name in ("start_model", "best_epoch", "counts", "versions")},
        "metrics": {name: report[name] for name in ("ap50_before", "ap50_after", "held_out")},
    }


def _draw(result: TrainingResult, directory: Path) -> None:
    from condensatenet.figures import Panel, draw_panels, draw_training_curves

    start_ap = result.before.evaluation.ap(0.5) if result.split.held_out else None
    draw_training_curves(result.history, directory / CURVES_FILE, best_epoch=result.best_epoch, start_ap=start_ap)
    crowded_first = sorted(range(len(result.measured)), key=lambda i: -count_instances(result.measured[i].labels))
    chosen = crowded_first[:: max(1, len(crowded_first) // _PICTURED_IMAGES)][:_PICTURED_IMAGES]
    models = {"start model": result.before, "new model": result.after}
    draw_panels(
        [
            [
                Panel(title, result.measured[i].image, result.measured[i].labels, model.predictions[i])
                for title, model in models.items()
            ]
            for i in chosen
        ],
        directory / OVERLAY_FILE,
    )


def _publish(partial: Path, output: Path) -> None:
    """Give a finished directory its name; a model that had it before is removed only after that."""
    old = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}.old")
    if output.exists():
        os.replace(output, old)
    try:
        os.replace(partial, output)
    except OSError:
        if old.exists():
            os.replace(old, output)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
