"""`condensatenet evaluate`: compare segmentations with annotated label masks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from condensatenet.command_line.common import (
    Verbs,
    absolute_path,
    add_device_option,
    add_segmentation_options,
    add_verb,
    check_output_folder,
    load_pipeline,
    progress_bar,
    read_segmentation_options,
    say,
)
from condensatenet.errors import InvalidImageError, InvalidLabelsError, InvalidOptionError
from condensatenet.evaluation import Evaluation, compare_table, evaluate_instances
from condensatenet.figures import Panel, draw_overlay, draw_panels
from condensatenet.files.atomic import atomic_write
from condensatenet.files.images import find_images, pair_images_with_labels, read_image, read_labels, unlabelled_stem
from condensatenet.files.pretrained import PRETRAINED
from condensatenet.inference.pipeline import CondensateNetPipeline

Labels = NDArray[np.int32]

_PREDICTIONS = "predictions"


class _Case(NamedTuple):
    """The files of one annotated image."""

    truth: Path
    image: Path | None
    prediction: Path | None


def add_parsers(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "evaluate",
        run,
        summary="compare segmentations or models with annotations",
        description="Compare label masks, or what models find in images, with annotated label masks. Files\n"
        "belong together by name: the mask of cells.tif is called cells.tif, cells_labels.tif or\n"
        "cells_masks.tif. Pixels labelled -1 were annotated by nobody and do not count.",
        examples="""  condensatenet evaluate --labels annotated --predictions results
  condensatenet evaluate --labels annotated --images images --model my_model --overlay pictures
  condensatenet evaluate --labels annotated --images images --model pretrained --model my_model --json scores.json""",
    )
    parser.add_argument("--labels", type=absolute_path, required=True, metavar="DIR", help="annotated label masks")
    parser.add_argument("--predictions", type=absolute_path, metavar="DIR", help="label masks to compare with them")
    parser.add_argument(
        "--images", type=absolute_path, metavar="DIR", help="images to segment, or to draw predictions on"
    )
    parser.add_argument(
        "--model",
        action="append",
        help=f"model to segment the images with; several are shown side by side (default: {PRETRAINED})",
    )
    parser.add_argument(
        "--overlay", type=absolute_path, metavar="DIR", help="draw what was matched, missed and false (PNG)"
    )
    parser.add_argument("--json", type=absolute_path, metavar="FILE", help="write all scores to a file")
    add_device_option(parser)
    add_segmentation_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, and print a table."""
    options = read_segmentation_options(arguments)
    if arguments.predictions and (options or arguments.model or arguments.device):
        raise InvalidOptionError(
            "--predictions are there already: leave out --model, --device and how instances are found"
        )
    if not arguments.images and (arguments.overlay or not arguments.predictions):
        raise InvalidOptionError("give --images, or --predictions without --overlay")
    if arguments.overlay:
        check_output_folder(arguments.overlay)
    if arguments.json:
        check_output_folder(arguments.json.parent)
        if arguments.json.is_dir():
            raise InvalidOptionError(f"{arguments.json} is a folder; give --json a file name")
    cases = _find_cases(arguments.labels, arguments.images, arguments.predictions)
    names = [] if arguments.predictions else dict.fromkeys(arguments.model or [PRETRAINED])
    pipelines = {name: load_pipeline(name, arguments.device, options) for name in names}
    evaluations = _evaluate(cases, pipelines, arguments.overlay)
    if len(evaluations) == 1:
        print(next(iter(evaluations.values())).table())
    else:
        print(compare_table(evaluations))
    if arguments.overlay:
        say(f"Pictures are in {arguments.overlay}")
    if arguments.json:
        scores = {title: evaluation.as_dict() for title, evaluation in evaluations.items()}
        with atomic_write(arguments.json) as handle:
            handle.write(json.dumps(scores, indent=2).encode() + b"\n")
        say(f"Scores are in {arguments.json}")
    return 0


def _find_cases(labels: Path, images: Path | None, predictions: Path | None) -> list[_Case]:
    if images is None:
        assert predictions is not None
        return [_Case(truth, None, prediction) for truth, prediction in _pair_label_masks(labels, predictions)]
    predicted = dict(pair_images_with_labels(images, predictions)) if predictions else {}
    return [_Case(truth, image, predicted.get(image)) for image, truth in pair_images_with_labels(images, labels)]


def _pair_label_masks(labels: Path, predictions: Path) -> list[tuple[Path, Path]]:
    """Pair label masks of two folders whose names are equal but for endings like `_labels` and `_masks`."""
    sides: list[dict[str, Path]] = []
    for place in (labels, predictions):
        paths = find_images([place])
        sides.append({unlabelled_stem(path): path for path in paths})
        if len(sides[-1]) < len(paths):
            raise InvalidOptionError(f"two files in {place} are label masks of one name; keep one of each")
    truths, found = sides
    for own, others, place in ((truths, found, predictions), (found, truths, labels)):
        if lonely := [own[name].name for name in own if name not in others]:
            shown = ", ".join(lonely[:8]) + (f" and {len(lonely) - 8} more" if len(lonely) > 8 else "")
            raise InvalidOptionError(f"{place} has no label mask that belongs to {shown}; add it, or move these away")
    return [(truth, found[name]) for name, truth in truths.items()]


def _evaluate(
    cases: Sequence[_Case], pipelines: Mapping[str, CondensateNetPipeline], overlay: Path | None
) -> dict[str, Evaluation]:
    """Return the scores of every model, or under "predictions" those of the label masks that are there already."""
    truths: list[Labels] = []
    predictions: dict[str, list[Labels]] = {title: [] for title in pipelines or [_PREDICTIONS]}
    with progress_bar(len(cases), "image") as bar:
        for case in cases:
            truth = read_labels(case.truth)
            image = read_image(case.image) if case.image is not None else None
            found = _find_instances(case, image, pipelines)
            for labels in found.values():
                _check_pair(case, truth, labels)
            if overlay is not None and image is not None and case.image is not None:
                panels = [Panel(title, image, truth, labels) for title, labels in found.items()]
                _draw(panels, overlay / f"{case.image.stem}_overlay.png")
            truths.append(truth)
            for title, labels in found.items():
                predictions[title].append(labels)
            bar.update()
    return {title: evaluate_instances(truths, label_masks) for title, label_masks in predictions.items()}


def _find_instances(
    case: _Case, image: NDArray[Any] | None, pipelines: Mapping[str, CondensateNetPipeline]
) -> dict[str, Labels]:
    if case.prediction is not None:
        return {_PREDICTIONS: read_labels(case.prediction)}
    assert image is not None
    try:
        return {title: pipeline.segment(image) for title, pipeline in pipelines.items()}
    except InvalidImageError as error:
        raise InvalidImageError(f"{case.image}: {error}") from error


def _check_pair(case: _Case, truth: Labels, prediction: Labels) -> None:
    other = case.prediction or case.image
    if truth.shape != prediction.shape:
        raise InvalidLabelsError(
            f"{case.truth} has {truth.shape[0]} x {truth.shape[1]} pixels, {other} {prediction.shape[0]} x "
            f"{prediction.shape[1]}; compare files of the same image at the same magnification"
        )
    if prediction.min() < 0:
        raise InvalidLabelsError(
            f"{other} holds -1 (not annotated), as only annotated masks may; are --labels and --predictions exchanged?"
        )


def _draw(panels: Sequence[Panel], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if len(panels) == 1:
        draw_overlay(panels[0].image, panels[0].truth, panels[0].prediction, path)
    else:
        draw_panels([panels], path)
