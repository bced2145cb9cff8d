"""`external-modules run-pipeline`: image files through the steps that a YAML file names."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path

from external_modules.command_line.common import (
    ProgressDisplay,
    Verbs,
    absolute_path,
    add_modules_option,
    add_verb,
    complain,
    count_noun,
    find_entry,
    one_line,
    say,
    usable_folder,
)
from external_modules.environments.store import EnvironmentStore
from external_modules.errors import PipelineError, WorkerError
from external_modules.external_module import ExternalModule
from external_modules.image_files import find_images, prepare_to_read_images
from external_modules.module_folder import ModuleFolder
from external_modules.optional_packages import PIPELINE_PACKAGES
from external_modules.pipeline.definition import read_pipeline
from external_modules.pipeline.running import Outcome, run_pipeline


def add_parsers(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "run-pipeline",
        run_run_pipeline,
        summary="run the steps of a YAML file over image files",
        description="Run a pipeline over TIFF and PNG files. The pipeline is checked as a whole first. What was\n"
        "finished by an earlier run, from the same image, pipeline and module, is not done again.",
        examples="  external-modules run-pipeline nuclei.yaml images --output results",
    )
    parser.add_argument("pipeline", type=absolute_path, metavar="PIPELINE.yaml", help="see README.md for what it holds")
    parser.add_argument(
        "image", nargs="+", type=absolute_path, metavar="INPUT", help="TIFF or PNG file, or a folder of them"
    )
    parser.add_argument("--output", type=absolute_path, required=True, metavar="FOLDER", help="for results; is made")
    add_modules_option(parser)


def run_run_pipeline(arguments: argparse.Namespace) -> int:
    """Run a pipeline and print what became of each image."""
    prepare_to_read_images("Running a pipeline", PIPELINE_PACKAGES)
    path: Path = arguments.pipeline

    def find_module(text: str) -> ModuleFolder:
        is_path = any(separator in text for separator in (os.sep, os.altsep) if separator)
        return usable_folder(
            find_entry(
                os.fspath(path.parent / Path(text).expanduser()) if is_path else text, arguments, EnvironmentStore()
            )
        )

    try:
        pipeline = read_pipeline(path, find_module)
    except PipelineError as error:
        for problem in error.problems:
            complain(problem)
        return 1
    images = find_images(arguments.image, results=pipeline.endings)
    skipped = failed = 0
    with (
        ExternalModule(pipeline.folder.path) as module,
        ProgressDisplay(pipeline.name) as progress,
        contextlib.closing(run_pipeline(pipeline, images, arguments.output, module, progress)) as outcomes,
    ):
        for number, outcome in enumerate(outcomes, 1):
            progress.clear()
            skipped += outcome.skipped
            if outcome.error is None:
                print(f"[{number}/{len(images)}] {outcome.image.name}: {_in_words(outcome)}", flush=True)
            else:
                failed += 1
                log = f" (more in {module.log_file})" if isinstance(outcome.error, WorkerError) else ""
                text = one_line(outcome.error)
                complain(f"{'' if str(outcome.image) in text else f'{outcome.image}: '}{text}{log}")
    done = len(images) - skipped - failed
    counts = f"{count_noun(done, 'image')} done, {skipped:,} finished before, {failed:,} failed"
    say(f"{pipeline.name}: {counts}; results in {arguments.output}")
    return 1 if failed else 0


def _in_words(outcome: Outcome) -> str:
    if outcome.skipped:
        return "finished before"
    return ", ".join(f"{name}: {count_noun(count, 'object')}" for name, count in outcome.objects.items()) or "done"
