"""What cannot be imported, and what an import leaves behind, opens, holds and says."""

from __future__ import annotations

import sys
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from workbench_image_examples import values, write_all
from workbench_image_server import files_in, open_files_in

from workbench.command_line import main
from workbench.errors import InvalidImageError, RestError, WorkbenchError
from workbench.images.importing import import_dataset
from workbench.store.store import Store

# What cannot be imported


def broken(folder: Path, kind: str) -> list[Path]:
    """Write files that cannot be imported."""
    path = folder / "image.tif"
    good = values(6, 40, 50)
    plane = {"photometric": "minisblack", "metadata": None}
    if kind == "type":
        tifffile.imwrite(path, good.astype(np.uint32), **plane)
    elif kind == "negative":
        tifffile.imwrite(path, -good[0].astype(np.int16), **plane)
    elif kind in ("nan", "infinite"):
        tifffile.imwrite(path, np.stack([good[0], good[1] * float(kind[:3])]).astype(np.float32), **plane)
    elif kind == "cut off":
        tifffile.imwrite(path, good, photometric="minisblack", metadata={"axes": "ZYX"})
        path.write_bytes(path.read_bytes()[:-20000])
    elif kind == "pages lost":
        with tifffile.TiffWriter(path) as writer:
            for page in good:
                writer.write(page, contiguous=False, **plane)
        with tifffile.TiffFile(path) as tiff:
            end = tiff.pages[4].offset
        path.write_bytes(path.read_bytes()[:end])
    elif kind == "last page damaged":
        tifffile.imwrite(path, good, compression="zlib", rowsperstrip=40, **plane)
        with tifffile.TiffFile(path) as tiff:
            offset = tiff.pages[5].dataoffsets[0]
        content = bytearray(path.read_bytes())
        content[offset + 100 : offset + 200] = bytes(100)
        path.write_bytes(content)
    elif kind == "text":
        path.write_text("no image")
    elif kind == "empty":
        path.touch()
    elif kind == "png cut off":
        path = folder / "image.png"
        Image.fromarray(good[0]).save(path)
        path.write_bytes(path.read_bytes()[:-500])
    elif kind == "no png":
        path = folder / "image.png"
        path.write_bytes(b"GIF89a")
    elif kind == "transparent":
        path = folder / "image.png"
        Image.fromarray(values(8, 9, 4, dtype="uint8")).save(path)
    elif kind == "gif":
        path = folder / "image.gif"
        Image.fromarray(values(8, 9, dtype="uint8")).save(path)
    elif kind == "series":
        with tifffile.TiffWriter(path) as writer:
            writer.write(good[0], **plane)
            writer.write(good[0, :20], **plane)
    elif kind == "axes":
        tifffile.imwrite(path, good.reshape(2, 3, 40, 50), photometric="minisblack", metadata={"axes": "QQYX"})
    elif kind == "other axes":
        tifffile.imwrite(path, good, photometric="minisblack", metadata={"axes": "EYX"})
    elif kind == "empty folder":
        return [folder]
    else:
        other = {"size": good[0, 1:], "values": good[0].astype(np.uint8), "planes": good[:2]}.get(kind)
        names = {"place": ("a_z1", "b_z1"), "missing": ("a_z1_c1", "a_z2_c2")}.get(kind, ("a", "b"))
        tifffile.imwrite(folder / f"{names[0]}.tif", good[0], **plane)
        tifffile.imwrite(folder / f"{names[1]}.tif", good[0] if other is None else other, **plane)
        if kind == "place":
            Image.fromarray(good[0]).save(folder / "a_z1.png")
        if kind == "colour":
            tifffile.imwrite(folder / "b.tif", values(40, 50, 3), photometric="rgb")
        if kind == "numbered twice":
            for name in ("a_z1", "a_z2"):
                tifffile.imwrite(folder / f"{name}.tif", good, imagej=True, metadata={"axes": "ZYX"})
            return [folder / "a_z1.tif", folder / "a_z2.tif"]
        return [folder]
    return [path]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("type", "image.tif: has values of type uint32.*32-bit float"),
        ("negative", "image.tif: has negative values"),
        ("nan", "image.tif: has pixels that are no numbers"),
        ("infinite", "image.tif: has pixels that are no numbers"),
        ("cut off", "image.tif: cannot be read; it is damaged"),
        ("pages lost", "image.tif: cannot be read; it is damaged.*the file ends after page 4"),
        ("last page damaged", "image.tif: cannot be read; it is damaged"),
        ("text", "image.tif: cannot be read"),
        ("empty", "image.tif: cannot be read"),
        ("png cut off", "image.png: cannot be read"),
        ("no png", "image.png: cannot be read"),
        ("transparent", "image.png: is transparent"),
        ("gif", "image.gif: files of this type cannot be imported"),
        ("series", "image.tif: holds images of different kinds"),
        ("axes", "image.tif: does not say what its axes .of 2, 3 planes. mean"),
        ("other axes", "image.tif: has an axis .E, of 6 planes."),
        ("empty folder", "has no images in it"),
        ("size", "b.tif: has another size than .*a.tif .50 x 39 pixels and 50 x 40."),
        ("values", "b.tif: has another kind of values than .*a.tif .uint8 and uint16."),
        ("planes", "b.tif: has another number of planes than .*a.tif .Z 2 and one plane."),
        ("colour", "a.tif: is grey, while others"),
        ("place", "a_z1.* and .*a_z1.* have the same place"),
        ("missing", "the one for Z 1, channel 2 is missing"),
        ("numbered twice", "a_z1.tif: holds 6 planes on the Z axis"),
        ("no file", "nothing.tif: there is no such file"),
        ("no paths", "No images were named"),
    ],
)
def test_what_cannot_be_imported_leaves_nothing_behind(store: Store, tmp_path: Path, kind: str, message: str) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    paths = {"no file": [folder / "nothing.tif"], "no paths": []}.get(kind)
    with pytest.raises(InvalidImageError, match=message):
        import_dataset(store, broken(folder, kind) if paths is None else paths)
    assert store.folders.datasets() == [] and files_in(store) == []


def test_an_interrupted_import_leaves_nothing_behind(store: Store, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", values(6, 40, 50), photometric="minisblack", metadata=None)
    seen = []

    def interrupt(done: int, total: int) -> None:
        seen.append((done, total, len(files_in(store))))
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_dataset(store, tmp_path / "stack.tif", progress=interrupt)
    assert seen == [(done, 6, 1) for done in range(1, 5)]
    assert store.folders.datasets() == [] and files_in(store) == []


def test_names_and_folders_of_datasets(store: Store, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "cells.ome.tif", values(8, 9))
    first = import_dataset(store, str(tmp_path / "cells.ome.tif"))
    private = store.folders.load(first["parentId"])
    assert (first["name"], private["name"], private["parentId"]) == ("cells", "Private", store.users.user["_id"])
    kept = files_in(store)
    with pytest.raises(RestError, match="already something called cells"):
        import_dataset(store, tmp_path / "cells.ome.tif")
    with pytest.raises(RestError, match="No such folder"):
        import_dataset(store, tmp_path / "cells.ome.tif", folder="0" * 24)
    with pytest.raises(RestError, match="name must not be empty"):
        import_dataset(store, tmp_path / "cells.ome.tif", name=" ")
    with pytest.raises(InvalidImageError, match="pixel size"):
        import_dataset(store, tmp_path / "cells.ome.tif", name="other", pixel_size=0)
    assert files_in(store) == kept
    inside = store.folders.create(private["_id"], "inside")
    second = import_dataset(store, tmp_path / "cells.ome.tif", folder=inside["_id"])
    assert (second["name"], second["parentId"]) == ("cells", inside["_id"])


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/fd")
def test_few_files_are_open_at_a_time(store: Store, tmp_path: Path) -> None:
    write_all(tmp_path / "many", " ".join(f"position{number}" for number in range(25)))

    def count(done: int, total: int) -> None:
        counts.append(open_files_in(tmp_path / "many"))

    counts: list[int] = []
    import_dataset(store, tmp_path / "many", progress=count)
    assert len(counts) == 25 and max(counts) <= 16


def test_memory_holds_a_few_planes(store: Store, tmp_path: Path) -> None:
    plane = values(512, 512)
    options: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib", "compressionargs": {"level": 1}}
    tifffile.imwrite(tmp_path / "long.tif", (plane for _ in range(40)), shape=(40, 512, 512), dtype="uint16", **options)
    import_dataset(store, tmp_path / "long.tif", name="first")  # imports, caches
    tracemalloc.start()
    try:
        import_dataset(store, tmp_path / "long.tif")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * plane.nbytes


# The command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, _ = write_all(tmp_path / "plate", "A1_c1 A1_c2 A2_c1 A2_c2")
    data = str(tmp_path / "data")
    assert main(["import", *map(str, paths), "--data", data, "--name", "Plate", "--pixel-size", "0.1"]) == 0
    identifier, name, text = capsys.readouterr().out.strip().split("\t")
    assert (name, text) == ("Plate", "6 x 5 pixels, uint16, 2 positions, 2 channels")
    with closing(Store(data)) as store:
        (dataset,) = store.folders.datasets()
    assert dataset["_id"] == identifier
    assert main(["import", str(tmp_path / "nothing.tif"), "--data", data]) == 1
    error = capsys.readouterr().err
    assert error.startswith("workbench: error: ") and "nothing.tif: there is no such file" in error


def test_long_imports_say_how_far_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.command_line.progress._SECONDS_BETWEEN_LINES", 0.0)
    tifffile.imwrite(tmp_path / "stack.tif", values(4, 8, 9), photometric="minisblack", metadata=None)
    assert main(["import", str(tmp_path / "stack.tif"), "--data", str(tmp_path / "data")]) == 0
    assert capsys.readouterr().err.splitlines() == [f"{25 * done} %: {done} of 4 planes" for done in (1, 2, 3, 4)]


def test_every_refusal_is_an_error_of_this_package() -> None:
    assert issubclass(InvalidImageError, WorkbenchError) and issubclass(RestError, WorkbenchError)
