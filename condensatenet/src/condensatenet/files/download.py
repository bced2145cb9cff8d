"""Downloading a published model from the Hugging Face hub with the standard library alone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from condensatenet.errors import DownloadError, InvalidOptionError
from condensatenet.files.fetch import ProgressCallback, fetch_file
from condensatenet.files.model_directory import CONFIG_FILE, WEIGHTS_FILE
from condensatenet.files.pretrained import MODELS_DIR
from condensatenet.files.safetensors_header import read_header


def download_model(
    output_dir: str | os.PathLike[str] | None = None,
    repo_id: str = "rajlab/condensatenet",
    force: bool = False,
    *,
    progress_callback: ProgressCallback | None = None,
) -> Path:
    """Download `config.json` and `model.safetensors` of a published model, and nothing else of it.

    A complete model that is already there is kept, unless `force` is given; then it is replaced when the new one is
    complete. An interrupted download leaves `model.safetensors.incomplete` and goes on from there at the next call.
    Sizes and checksums that the server states are checked. The server is `https://huggingface.co` or the environment
    variable `HF_ENDPOINT`.

    Args:
        output_dir: the model directory to fill; `~/.condensatenet/models/<name>` if not given.
        repo_id: `<owner>/<name>` on the hub.
        force: download even if a complete model is there.
        progress_callback: called with a fraction from 0 to 1 and a message. What it raises stops the download.

    Returns:
        The model directory.

    Raises:
        InvalidOptionError: `repo_id` or `HF_ENDPOINT` is malformed.
        DownloadError: the model could not be downloaded completely; the text says why and what to do.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}", repo_id):
        raise InvalidOptionError(f"{repo_id!r} is no model name of the hub; it has the form 'owner/name'.")
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    if urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).hostname:
        raise InvalidOptionError(f"HF_ENDPOINT is {endpoint!r}; it must be an address such as https://huggingface.co.")
    report = progress_callback or _report_nothing
    folder = MODELS_DIR / repo_id.split("/")[1] if output_dir is None else Path(output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            if not force and _is_complete(folder):
                report(1.0, f"The model is already in {folder}")
                return folder
            _download_files(f"{endpoint}/{repo_id}/resolve/main", folder, report)
    except OSError as error:
        raise DownloadError(
            f"Cannot write to {folder} ({error}). Free some space there or give another output directory."
        ) from error
    report(1.0, f"The model is in {folder}")
    return folder


def _download_files(base_url: str, folder: Path, report: ProgressCallback) -> None:
    config, weights = (folder / f"{name}.incomplete" for name in (CONFIG_FILE, WEIGHTS_FILE))
    config.unlink(missing_ok=True)  # small: a rest of it is not worth resuming
    config_remote = fetch_file(f"{base_url}/{CONFIG_FILE}", config, lambda _, message: report(0.0, message))
    _check(config, _read_json_object)
    weights_remote = fetch_file(f"{base_url}/{WEIGHTS_FILE}", weights, report)
    _check(weights, read_header)
    if len({config_remote.commit, weights_remote.commit} - {None}) > 1:
        raise DownloadError("The model was changed on the server during the download. Download it again.")
    os.replace(weights, folder / WEIGHTS_FILE)
    os.replace(config, folder / CONFIG_FILE)


def _check(path: Path, parse: Callable[[Path], object]) -> None:
    try:
        parse(path)
    except (ValueError, RecursionError) as error:
        path.unlink()
        raise DownloadError(
            f"What the server sent as {path.name.removesuffix('.incomplete')} is none ({error}). It may be the login "
            "page of a network, or the repository holds another kind of model. Check the name and HF_ENDPOINT, then "
            "try again."
        ) from error


def _read_json_object(path: Path) -> None:
    if not isinstance(json.loads(path.read_bytes()), dict):
        raise ValueError("not a JSON object")


def _is_complete(folder: Path) -> bool:
    try:
        _read_json_object(folder / CONFIG_FILE)
        read_header(folder / WEIGHTS_FILE)
    except (OSError, ValueError, RecursionError):
        return False
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time download into a folder; a second one waits and then finds the model."""
    try:
        import fcntl
    except ImportError:  # Windows: it refuses to replace a file that another process has open
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _report_nothing(fraction: float, message: str) -> None:
    pass
