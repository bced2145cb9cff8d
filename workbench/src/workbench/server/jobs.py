"""Routes of jobs and of the workers that they run."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from starlette.responses import PlainTextResponse, Response

from workbench.errors import RestError
from workbench.jobs.folders import JobFolder
from workbench.jobs.log import read_log
from workbench.jobs.runner import JobRunner
from workbench.server.endpoint import Call, route
from workbench.server.strict_json import list_response
from workbench.store.documents import Document
from workbench.store.folders import is_dataset
from workbench.store.jobs import ENDED


def list_workers(call: Call) -> dict[str, Mapping[str, str]]:
    """The labels of every worker that can be run, by the name of its image."""
    if call.runner is None:
        return {}
    return {image: worker.labels for image, worker in call.runner.registry.workers().items()}


def request_interface(call: Call) -> list[Document]:
    """Asks a worker for its interface, which it stores itself, and gives the job."""
    image = call.required_text("image")
    title = f"Pulled worker interface for {image}"
    return [
        _runner(call).submit(image=image, request="interface", params={"image": image}, dataset_id=None, title=title)
    ]


def compute(call: Call) -> list[Document]:
    """Runs a worker on a dataset with the body as its parameters, and gives the job."""
    dataset = call.store.folders.load(call.required_text("datasetId"))
    if not is_dataset(dataset):
        raise RestError(400, f"The folder {dataset['name']!r} is not a dataset.", "validation")
    params = call.json_object()
    image, name = params.get("image"), params.get("name")
    if not isinstance(image, str) or not image:
        raise RestError(400, "The request body must name the worker: its key 'image' is missing.")
    title = name if isinstance(name, str) and name.strip() else "compute"
    return [_runner(call).submit(image=image, request="compute", params=params, dataset_id=dataset["_id"], title=title)]


def list_jobs(call: Call) -> Response:
    """Jobs without their logs, the newest first."""
    paging = call.paging("_id")
    if call.text("sortdir") is None:
        paging = replace(paging, descending=True)
    return list_response(call.store.jobs.list(paging), call.store.jobs.count())


def get_job(call: Call) -> Document:
    """A job; with the end of its log as a list of one text, unless `log` is false."""
    job = _job(call)
    if not call.boolean("log", default=True):
        return job
    _, content = read_log(_log_path(call, job), 0)
    return {**job, "log": [content.decode(errors="replace")]}


def get_log(call: Call) -> Response:
    """What a worker printed from the position `offset` on; the header says where the next text begins."""
    job = _job(call)
    start, content = read_log(_log_path(call, job), max(0, call.integer("offset") or 0))
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(content, final=job["status"] in ENDED)
    unfinished, _ = decoder.getstate()  # a character whose rest comes later
    return PlainTextResponse(text, headers={"Log-Next-Offset": str(start + len(content) - len(unfinished))})


def cancel_job(call: Call) -> Document:
    """Cancels a job that has not ended."""
    return _runner(call).cancel(_job(call)["_id"])


def _job(call: Call) -> Document:
    return call.document("job", call.store.jobs.get)


def _log_path(call: Call, job: Document) -> Path:
    return JobFolder(call.store.jobs_folder, job["_id"]).log


def _runner(call: Call) -> JobRunner:
    if call.runner is None:
        raise RestError(503, "This server runs no tools. Start it with `workbench serve`.")
    return call.runner


ROUTES = [
    route("GET", "worker_interface/available", list_workers),
    route("POST", "worker_interface/request", request_interface),
    route("POST", "upenn_annotation/compute", compute),
    route("GET", "job", list_jobs),
    route("GET", "job/all", list_jobs),
    route("GET", "job/{id}", get_job),
    route("GET", "job/{id}/log", get_log),
    route("PUT", "job/{id}/cancel", cancel_job),
]
