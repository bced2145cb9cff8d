"""A workbench in a process of its own, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from platform_driver import ROOT, Platform

from annotation_client.uploads import upload_file
from annotation_utilities.geometry import geometry_to_coordinates, labels_to_geometries
from workbench.server_process import import_files, started_server


@dataclass
class RunningWorkbench:
    """A started workbench.

    Attributes:
        data: its data folder.
        platform: drives it with the user's token.
    """

    data: Path
    platform: Platform

    def import_array(self, name: str, array: NDArray[Any], axes: str) -> str:
        """Import an array as a TIFF with these axes (of XYZCT and Y, X) and return the dataset's id."""
        folder = self.data.parent / "to import"
        folder.mkdir(exist_ok=True)
        file = folder / f"{name}.ome.tif"
        tifffile.imwrite(file, array, ome=True, metadata={"axes": axes})
        return self.import_files(name, [file])

    def import_files(self, name: str, files: list[Path]) -> str:
        """Import files on the command line and return the dataset's id."""
        return import_files(self.data, files, name=name)

    def annotate_labels(
        self, dataset_id: str, labels: NDArray[np.int32], tag: str, location: tuple[int, int, int] = (0, 0, 0)
    ) -> None:
        """Add the outline of every instance of a label mask."""
        self.platform.annotations.createMultipleAnnotations(
            [
                {
                    "datasetId": dataset_id,
                    "shape": "polygon",
                    "channel": 0,
                    "location": dict(zip(("XY", "Z", "Time"), location, strict=True)),
                    "tags": [tag],
                    "coordinates": geometry_to_coordinates(geometry),
                }
                for geometry in labels_to_geometries(labels).values()
            ]
        )

    def upload_model_archive(self, name: str, content: bytes) -> None:
        """Put any bytes under a model's name into the user's models folder."""
        import utils

        connection = self.platform.connection
        _, folder_id = utils.list_girder_models(connection)
        path = self.data.parent / f"{name}.tar.gz"
        path.write_bytes(content)
        upload_file(connection, folder_id, path, name=path.name)

    def fetch_model(self, name: str, folder: Path) -> Path:
        """Download a model of the user into a folder, check it, and return its directory."""
        import model_archive
        import utils

        connection = self.platform.connection
        (item,) = [item for item in utils.list_girder_models(connection)[0] if item["model_name"] == name]
        (file,) = connection.listFile(item["_id"])
        folder.mkdir()
        connection.downloadFile(file["_id"], str(folder / "archive"))
        model_archive.extract_archive(folder / "archive", folder)
        return folder


@contextmanager
def running_workbench(data: Path) -> Iterator[RunningWorkbench]:
    """Run a server with this repository's workers while the block runs."""
    with started_server(data, workers=[ROOT / "workers"]) as server:
        yield RunningWorkbench(data, Platform(server.api_url, server.token))
