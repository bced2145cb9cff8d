"""Models of the two workers: the ones in their container images, and the user's own in `Private/.condensatenet/models`.

A user's model is one item `<name>.tar.gz` there (see `model_archive`). Its metadata, for lists and to know a model
without fetching it, are `sha256` and `size` of the archive, `base_model`, `metrics`, `package_version`, and
`describes`, the state of the file that they describe.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

from girder_client import HttpError

from annotation_client.connection import Connection
from annotation_client.uploads import ProgressCallback
from model_archive import ModelStoreError, is_model
from model_transfer import download_model, upload_model

__all__ = [
    "BAKED_MODELS_DIR",
    "MODELS_DIR",
    "PRETRAINED",
    "ModelStoreError",
    "baked_model_names",
    "download_girder_model",
    "get_condensatenet_dir",
    "list_girder_models",
    "mkdir",
    "model_names",
    "resolve_model",
    "upload_girder_model",
    "validate_model_name",
]

MODELS_DIR = Path.home() / ".condensatenet" / "models"
"""Models on this machine; those that were fetched from a server lie below `downloaded`."""

BAKED_MODELS_DIR = Path("/models")
"""Models that come with the container image, one directory each."""

PRETRAINED = "pretrained"
PUBLISHED_MODELS = ("condensatenet-v1", "condensatenet")

MAX_NAME_CHARACTERS = 64
MAX_NAME_BYTES = 200  # file systems allow 255 with the suffix

# A second item of one name gets a number from Girder. Names made here hold no brackets, so the two cannot be mixed up.
_ITEM_NAME = re.compile(r"(.+?)\.tar\.gz(?: \(\d+\))?", re.DOTALL)


def validate_model_name(name: str) -> str:
    """Return the name under which a new model is stored: stripped, with letters in their composed form (NFC).

    A name has 1 to 64 letters and digits of any script, spaces, and . _ - with dots only inside, so that it is one
    file name everywhere, cannot lead into another folder and looks like no other name.

    Raises:
        ModelStoreError: it cannot be used; the text says why.
    """
    name = unicodedata.normalize("NFC", name).strip()
    if not name:
        raise ModelStoreError("Enter a name for the new model.")
    for character in name:
        # Marks are parts of letters in many scripts.
        if not (unicodedata.category(character)[0] in "LM" or character.isdecimal() or character in " ._-"):
            shown = f'"{character}"' if character.isprintable() else "an invisible character"
            raise ModelStoreError(
                f"The model name {name!r} contains {shown}. Use letters, digits, spaces and . _ - only."
            )
    if name.startswith(".") or name.endswith("."):
        raise ModelStoreError(f"The model name {name!r} starts or ends with a dot. Dots may stand inside a name only.")
    if len(name) > MAX_NAME_CHARACTERS or len(name.encode()) > MAX_NAME_BYTES:
        raise ModelStoreError(
            f"The model name {name[:20]!r}... is too long. Use at most {MAX_NAME_CHARACTERS} characters."
        )
    if name.casefold() in (PRETRAINED, *PUBLISHED_MODELS, *map(str.casefold, baked_model_names())):
        raise ModelStoreError(f"{name!r} is the name of a model that comes with CondensateNet. Choose another name.")
    return name


def mkdir(gc: Connection, parent_id: str, name: str, *, parent_type: str = "folder") -> str:
    """Return the id of a folder, which is made if it does not exist; several jobs may do so at the same time.

    Args:
        gc: connection to the server.
        parent_id: folder, or user, in which it lies.
        name: the folder's name.
        parent_type: "folder" or "user".
    """
    folders = _folders(gc, parent_id, name, parent_type)
    if not folders:
        parameters = {"parentId": parent_id, "parentType": parent_type, "name": name}
        try:
            # Sent twice it still makes one folder.
            gc.sendRestRequest(
                "POST", "folder", {**parameters, "reuseExisting": "true", "public": "false"}, retry_post=True
            )
        except HttpError as error:
            if error.status != 400:  # another job made it in this very moment
                raise
        folders = _folders(gc, parent_id, name, parent_type)
    if not folders:
        raise ModelStoreError(f"The folder {name} could not be made on the server. Make it by hand and rerun.")
    return folders[0]


def get_condensatenet_dir(gc: Connection) -> str:
    """Return the id of the folder `Private/.condensatenet/models` of the connection's user, made if need be.

    Raises:
        ModelStoreError: the session has ended.
    """
    private = mkdir(gc, _user_id(gc), "Private", parent_type="user")
    return mkdir(gc, mkdir(gc, private, ".condensatenet"), "models")


def list_girder_models(gc: Connection) -> tuple[list[dict[str, Any]], str | None]:
    """List the user's models, the last changed first.

    Returns:
        The items, each with its `model_name` and each name once, and the id of the models' folder (None if there is
        none yet; asking makes no folders).

    Raises:
        ModelStoreError: the session has ended.
    """
    items, folders = _all_items(gc)
    items.sort(key=lambda item: (item.get("updated") or item["created"], item["_id"]), reverse=True)
    newest: dict[str, dict[str, Any]] = {}
    for item in items:
        newest.setdefault(item["model_name"], item)
    return list(newest.values()), folders[0] if folders else None


def baked_model_names() -> list[str]:
    """Return the names of the models that come with the container image."""
    return sorted(path.name for path in BAKED_MODELS_DIR.glob("*/") if is_model(path))


def model_names(gc: Connection) -> list[str]:
    """Return every name that `resolve_model` understands: pretrained, those of the image, the user's newest first."""
    items, _ = list_girder_models(gc)
    return list(dict.fromkeys([PRETRAINED, *baked_model_names(), *(item["model_name"] for item in items)]))


def resolve_model(gc: Connection, name: str, *, progress: ProgressCallback | None = None) -> Path:
    """Return the directory of a model, fetched from the user's folder if need be.

    Args:
        gc: connection to the server.
        name: "pretrained" for the best one that comes with the worker, or a name from `model_names`.
        progress: of `download_girder_model`.

    Raises:
        ModelStoreError: there is no such model, or it cannot be used; the text says what there is.
    """
    if name == PRETRAINED:
        from condensatenet.files.pretrained import find_pretrained

        published = (BAKED_MODELS_DIR / model for model in PUBLISHED_MODELS)
        return next((path for path in published if is_model(path)), None) or find_pretrained()
    if name in baked_model_names():
        return BAKED_MODELS_DIR / name
    return download_girder_model(gc, name, progress=progress)


def download_girder_model(gc: Connection, name: str, *, progress: ProgressCallback | None = None) -> Path:
    """Return a directory with a model of the user; a copy that is here already and still right is used again.

    The directory is made complete or not at all, is never changed afterwards, and lies in a folder of its own for each
    state of the model, so that other jobs can go on using an older one.

    Args:
        gc: connection to the server.
        name: the model's name.
        progress: called with the bytes done and in total.

    Raises:
        ModelStoreError: there is no such model (the text lists what exists), or its archive is damaged.
    """

    def find() -> dict[str, Any]:
        items, _ = list_girder_models(gc)
        item = next((item for item in items if item["model_name"] == name), None)
        if item is None:
            names = dict.fromkeys([PRETRAINED, *baked_model_names(), *(item["model_name"] for item in items)])
            raise ModelStoreError(
                f"There is no model {name!r}; it may have been removed or renamed. There are: {', '.join(names)}. "
                "Choose one of them (Reload worker shows the current list)."
            )
        return item

    return download_model(gc, find, MODELS_DIR / "downloaded", progress=progress)


def upload_girder_model(
    gc: Connection,
    model_directory: Path,
    name: str,
    *,
    base_model: str = "",
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Store a model in the user's folder; one that has the name already is whole until the new one is.

    Where two trainings store the same name at the same time, one model stays: whole, and under its own description.

    Args:
        gc: connection to the server.
        model_directory: as written by `condensatenet.training.train_model`.
        name: the new model's name.
        base_model: name of the model from which it was trained.
        progress: called with the bytes done and in total.

    Returns:
        The item, with its metadata.

    Raises:
        ModelStoreError: the name or the directory cannot be used, or the server did not keep the model as it was sent.
    """
    name = validate_model_name(name)

    def find() -> list[dict[str, Any]]:
        items = [item for item in _all_items(gc)[0] if item["model_name"] == name]
        return sorted(items, key=_age)

    return upload_model(gc, model_directory, name, find, lambda: get_condensatenet_dir(gc), base_model, progress)


def _user_id(gc: Connection) -> str:
    user = gc.get("user/me")  # answers null, not 401, to a token that has ended
    if not user:
        raise ModelStoreError("The session has ended: log in again and rerun.")
    return str(user["_id"])


def _all_items(gc: Connection) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the items that are models by their name, with their `model_name`, and the ids of the models' folders."""
    folders = [_user_id(gc)]
    for name, kind in (("Private", "user"), (".condensatenet", "folder"), ("models", "folder")):
        folders = [found for parent in folders for found in _folders(gc, parent, name, kind)]
    items = []
    for folder in folders:
        for item in gc.listItem(folder):
            match = _ITEM_NAME.fullmatch(item["name"])
            if match and match[1] != PRETRAINED:
                items.append({**item, "model_name": match[1]})
    return items, folders


def _folders(gc: Connection, parent_id: str, name: str, parent_type: str) -> list[str]:
    """Return the ids of the folders of a name, oldest first; Girder makes two if it is asked twice in one moment."""
    return [folder["_id"] for folder in sorted(gc.listFolder(parent_id, parent_type, name=name), key=_age)]


def _age(document: dict[str, Any]) -> tuple[str, str]:
    return document["created"], document["_id"]
