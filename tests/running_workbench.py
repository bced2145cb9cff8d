"""A workbench in a process of its own, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from platform_driver import ROOT, Platform

from annotation_client.uploads import upload_file
from annotation_utilities.geometry import geometry_to_coordinates, labels_to_geometries

_START_SECONDS = 30


@dataclass
class RunningWorkbench:
    """A started workbench.

    Attributes:
        data: its data folder.
        process: the server.
        platform: drives it with the user's token.
    """

    data: Path
    process: subprocess.Popen[bytes]
    platform: Platform

    @classmethod
    def start(cls, data: Path) -> RunningWorkbench:
        """Start a server on a free port and wait until it answers."""
        command = [sys.executable, "-m", "workbench", "serve", "--port", "0", "--data", str(data)]
        process = subprocess.Popen([*command, "--workers", str(ROOT / "workers")], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            assert process.poll() is None, "the workbench did not start"
            if (data / "server.json").exists():
                server = json.loads((data / "server.json").read_text(encoding="utf-8"))
                if server["pid"] == process.pid:
                    return cls(data, process, Platform(f"{server['url']}/api/v1", server["token"]))
            time.sleep(0.05)
        raise AssertionError("the workbench did not become ready")

    def stop(self) -> None:
        """End the server."""
        self.process.terminate()
        assert self.process.wait(20) == 0

    def import_array(self, name: str, array: NDArray[Any], axes: str) -> str:
        """Import an array as a TIFF with these axes (of XYZCT and Y, X) and return the dataset's id."""
        folder = self.data.parent / "to import"
        folder.mkdir(exist_ok=True)
        file = folder / f"{name}.ome.tif"
        tifffile.imwrite(file, array, ome=True, metadata={"axes": axes})
        return self.import_files(name, [file])

    def import_files(self, name: str, files: list[Path]) -> str:
        """Import files on the command line and return the dataset's id."""
        command = [sys.executable, "-m", "workbench", "import", *map(str, files), "--name", name]
        subprocess.run(
            [*command, "--data", str(self.data)], check=True, stdout=subprocess.DEVNULL, env=dict(os.environ)
        )
        connection = self.platform.connection
        user = connection.get("user/me")
        (private,) = connection.get("folder", {"parentType": "user", "parentId": user["_id"], "name": "Private"})
        (dataset,) = connection.get("folder", {"parentType": "folder", "parentId": private["_id"], "name": name})
        return str(dataset["_id"])

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
