"""Finds tools and datasets by what a person calls them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.command_line.client import Client
from workbench.errors import WorkbenchError


@dataclass(frozen=True)
class Tool:
    """A worker that makes annotations."""

    image: str
    name: str
    description: str


@dataclass(frozen=True)
class Dataset:
    """A dataset, with what a tool is told about it.

    Attributes:
        id: identifier of its folder.
        name: its name.
        channels: names of its channels, at least one.
        pixel_size_mm: side of a pixel, if it is known.
    """

    id: str
    name: str
    channels: tuple[str, ...]
    pixel_size_mm: float | None


def list_tools(client: Client) -> list[Tool]:
    """Return the tools that can be run on a dataset."""
    available: dict[str, dict[str, str]] = client.get("worker_interface/available")
    return [
        Tool(image, labels.get("interfaceName") or image, labels.get("description", ""))
        for image, labels in available.items()
        if "isAnnotationWorker" in labels
    ]


def find_tool(client: Client, text: str) -> Tool:
    """Return the tool whose name or image is, or else alone contains, a text.

    Raises:
        WorkbenchError: there is none, or several; the message lists them.
    """
    tools = list_tools(client)
    wanted = text.casefold()
    exact = [tool for tool in tools if wanted in (tool.image.casefold(), tool.name.casefold())]
    found = exact or [tool for tool in tools if wanted in tool.image.casefold() or wanted in tool.name.casefold()]
    if len(found) == 1:
        return found[0]
    if found:
        raise WorkbenchError(f"{text!r} may mean {_names(found)}. Give more of the name.")
    if not tools:
        raise WorkbenchError("There are no tools. Say where they are with --workers FOLDER.")
    raise WorkbenchError(f"There is no tool {text!r}. The tools are {_names(tools)}.")


def find_dataset(client: Client, text: str) -> Dataset:
    """Return the dataset of a name or identifier.

    Raises:
        WorkbenchError: there is none, or several of that name, or it has no image.
    """
    datasets = list(_datasets(client, "user", client.get("user/me")["_id"]))
    found = [folder for folder in datasets if text in (folder["_id"], folder["name"])]
    if not found:
        known = ", ".join(folder["name"] for folder in datasets) or "none; add one with `workbench import`"
        raise WorkbenchError(f"There is no dataset {text!r}. The datasets are: {known}")
    if len(found) > 1:
        ids = ", ".join(folder["_id"] for folder in found)
        raise WorkbenchError(f"Several datasets are called {text!r}. Name one by its identifier: {ids}")
    (folder,) = found
    tiles = client.get(f"item/{_image(client, folder)}/tiles")
    return Dataset(folder["_id"], folder["name"], _channels(tiles), tiles.get("mm_x"))


def _datasets(client: Client, parent_type: str, parent_id: str) -> Iterator[dict[str, Any]]:
    for folder in client.get("folder", parentType=parent_type, parentId=parent_id, limit=0):
        if folder.get("meta", {}).get("subtype") == "contrastDataset":
            yield folder
        else:
            yield from _datasets(client, "folder", folder["_id"])


def _image(client: Client, folder: dict[str, Any]) -> str:
    images = [item["_id"] for item in client.get("item", folderId=folder["_id"], limit=0) if "largeImage" in item]
    selected = folder.get("meta", {}).get("selectedLargeImageId")
    if not images:
        raise WorkbenchError(f"The dataset {folder['name']!r} has no image")
    return selected if selected in images else images[0]


def _channels(tiles: dict[str, Any]) -> tuple[str, ...]:
    count = tiles.get("IndexRange", {}).get("IndexC", 1)
    names = tiles.get("channels") or []
    return tuple(names) if len(names) == count else tuple(f"channel {number}" for number in range(1, count + 1))


def _names(tools: Sequence[Tool]) -> str:
    return ", ".join(f"{tool.name} ({tool.image})" for tool in tools)
