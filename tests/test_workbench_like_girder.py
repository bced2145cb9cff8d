"""The workbench answers as a Girder server does, except where it says otherwise, and the clients get on with both."""

from __future__ import annotations

import io
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest
import tifffile
from cutting_proxy import CuttingProxy
from model_files import contents, make_model
from requests_like_girder import BODY, NEW_FILE, SAME
from running_workbench import RunningWorkbench
from two_servers import MINE, MISSING, NONE, OTHER, WRONG, Ask, Server, TwoServers

import utils
from annotation_client import uploads
from annotation_client.connection import Connection, connect
from annotation_client.pixels import load_array

PLANES = np.arange(3 * 40 * 50, dtype=np.uint16).reshape(3, 40, 50)
ONLY_GIRDER_HAS = ("content.field", "content.assetstoreId", "content.sha512state", "content.tempFile")
REGION = "GET item/<image_item>/tiles/region"


def tiff() -> bytes:
    content = io.BytesIO()
    tifffile.imwrite(content, PLANES, ome=True, metadata={"axes": "ZYX"}, tile=(16, 16))
    return content.getvalue()


@dataclass(frozen=True)
class Difference:
    """Where the workbench answers otherwise.

    Attributes:
        reason: why that is right, or does not matter.
        ask: a request that shows it.
        places: what differs, (Girder's, the workbench's) by place in the answer.
        before: is asked first.
        only_status: the places hold the status only, because the two answer with different documents.
    """

    reason: str
    ask: Ask
    places: dict[str, tuple[Any, Any]]
    before: Ask | None = None
    only_status: bool = False


def lacks(*places: str) -> dict[str, tuple[Any, Any]]:
    return {place: (ANY, MISSING) for place in places}


def status(girder: int, workbench: int) -> dict[str, tuple[Any, Any]]:
    return {"status": (girder, workbench)}


DIFFERENCES = [
    Difference(
        "the one user owns the machine, and has neither a quota nor one-time passwords",
        Ask(200, "GET user/me"),
        {
            **{f"content.{key}": (ANY, ANY) for key in ("email", "firstName")},
            "content.admin": (False, True),
            "content.emailVerified": (False, True),
            "content.public": (True, False),
            **lacks("content.otp", "content.size"),
        },
    ),
    Difference(
        "there is one user: another's token is nobody's",
        Ask(403, "GET folder/<folder>", token=OTHER),
        {**status(403, 401), "content.message": (ANY, "Read access denied for folder <folder> (user None).")},
    ),
    Difference(
        "nothing can be read without the token, public folders neither",
        Ask(200, "GET folder?parentType=user&parentId=<me>", token=NONE),
        status(200, 401),
        only_status=True,
    ),
    Difference(
        "there are no collections",
        Ask(400, "POST folder?parentId=<folder>&parentType=q&name=x"),
        {
            "content.message": tuple(
                f'Invalid value for parentType: "q". Allowed values: folder, user{more}.'
                for more in (", collection", "")
            )
        },
    ),
    Difference(
        "an invalid document is told by its message, without the field's name",
        Ask(400, "POST folder?parentId=<folder>&name=%20"),
        lacks("content.field"),
    ),
    Difference(
        "where the bytes of an upload lie is nobody's business",
        Ask(200, f"{NEW_FILE}&name=x&size=10"),
        lacks("content.assetstoreId", "content.sha512state", "content.tempFile"),
    ),
    Difference(
        "a range beyond the end of a file is refused",
        Ask(206, "GET file/<file>/download", headers={"Range": "bytes=99-"}),
        {
            **status(206, 416),
            "kind": ("text/plain", ""),
            "headers.content-range": ("bytes 0-9/10", "bytes */10"),
            "headers.accept-ranges": ("bytes", MISSING),
            "content": (BODY, b""),
        },
    ),
    Difference(
        "a folder is gone when the request is answered; Girder leaves that to a worker, and there is none here",
        Ask(503, "DELETE folder/<folder>"),
        status(503, 200),
        only_status=True,
    ),
    Difference(
        "an integer of more than 64 bits is refused before the database fails on it",
        Ask(500, "PUT item/<item>/metadata", body=f'{{"a":{2**64}}}'),
        {
            **status(500, 400),
            "content.type": ("internal", "validation"),
            "content.message": (ANY, "The data holds an integer that does not fit into 64 bits."),
            **lacks("content.uid"),
        },
    ),
    Difference(
        "pixels that are pickled are no JPEG",
        Ask(200, f"{REGION}?encoding=pickle:5"),
        {"kind": ("image/jpeg", "application/octet-stream")},
    ),
    Difference(
        "large_image has learnt to write TIFFs with 16 bits since the version that Girder has here",
        Ask(200, f"{REGION}?encoding=TIFF&frame=2&left=45&top=39&right=46&bottom=40"),
        {"content[0][0]": (int(PLANES[2, 39, 45]) // 256, int(PLANES[2, 39, 45]))},
    ),
    Difference(
        "the range of a band is told in numbers, not in texts",
        Ask(200, "GET item/<image_item>/tiles/bands"),
        {"content.1.min": ("0", 0.0), "content.1.max": ("1999", 1999.0)},
    ),
    Difference(
        "an error is no picture",
        Ask(400, "GET item/<item>/tiles/region?encoding=PNG"),
        {"kind": ("image/png", "application/json")},
    ),
    Difference(
        "a frame that does not exist is named, with what there is",
        Ask(400, f"{REGION}?encoding=PNG&frame=9"),
        {
            "kind": ("image/png", "application/json"),
            "content.message": ("Frame does not exist", "Frame 9 does not exist; the image has 3 (counted from 0)."),
        },
    ),
    Difference(
        "an empty region is an error, not an empty picture",
        Ask(200, f"{REGION}?encoding=PNG&left=10&right=5"),
        status(200, 400),
        only_status=True,
    ),
    Difference(
        "a file becomes an image when that is asked for, not by being uploaded",
        Ask(400, "POST item/<raw_item>/tiles"),
        status(400, 200),
        before=Ask(200, f"{NEW_FILE}&name=raw.tif&size={len(tiff())}", body=tiff(), keep="raw"),
        only_status=True,
    ),
    Difference("when it started is in its log", Ask(200, "GET system/version"), lacks("content.serverStartDate")),
    Difference(
        "a resource that is not there is told in JSON, too",
        Ask(404, "GET nothing/x"),
        {
            "kind": ("text/html", "application/json"),
            "content": (ANY, {"message": 'No matching route for "GET x"', "type": "rest"}),
        },
    ),
]


@pytest.fixture(scope="module")
def both(girder: dict[str, str], workbench: RunningWorkbench) -> TwoServers:
    strangers = {WRONG: "x", NONE: None}
    platform = workbench.platform
    servers = TwoServers(
        Server(girder["apiUrl"], {MINE: girder["token"], OTHER: girder["otherToken"], **strangers}),
        Server(platform.api_url, {MINE: platform.token, OTHER: girder["otherToken"], **strangers}),
    )
    for server in (servers.girder, servers.workbench):
        server.ids["unknown"] = "0123456789abcdef01234567"
        server.answer(Ask(200, "GET user/me", keep="me"))
        (private,) = server.answer(Ask(200, "GET folder?parentType=user&parentId=<me>&name=Private")).json()
        server.ids["private"] = private["_id"]
    return servers


@pytest.fixture
def servers(both: TwoServers) -> TwoServers:
    """Both, each with an own `<folder>` in which there are an `<item>`, a `<file>` and an `<image>`."""
    own = both.with_own_names()
    folder, image = uuid.uuid4(), tiff()
    for server in (own.girder, own.workbench):
        for ask in (
            Ask(200, f"POST folder?parentId=<private>&name={folder}", keep="folder"),
            Ask(200, "POST item?folderId=<folder>&name=item", keep="item"),
            Ask(200, f"{NEW_FILE}&name=file.txt&size=10", body=BODY, keep="file"),
            Ask(200, f"{NEW_FILE}&name=image.ome.tif&size={len(image)}", body=image, keep="image"),
        ):
            response = server.answer(ask)
            assert response.status_code == ask.status, response.text
    own.workbench.answer(Ask(200, "POST item/<image_item>/tiles"))
    return own


@pytest.mark.parametrize("asks", SAME.values(), ids=SAME.keys())
def test_same_answers(servers: TwoServers, asks: list[Ask]) -> None:
    for ask in asks:
        status, differences = servers.compare(ask)
        assert status == ask.status, ask
        for place in ONLY_GIRDER_HAS:
            if differences.get(place, (None, None))[1] == MISSING:
                del differences[place]
        assert differences == {}, ask


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.reason)
def test_deliberate_differences(servers: TwoServers, difference: Difference) -> None:
    if difference.before is not None:
        assert servers.compare(difference.before) == (difference.before.status, {})
    status, differences = servers.compare(difference.ask)
    assert status == difference.ask.status
    if difference.only_status:
        differences = {"status": differences["status"]}
    assert differences == difference.places


@pytest.mark.parametrize("protocol", ["pickle", "pickle:3", "pickle:5"])
def test_pixels_are_exact(servers: TwoServers, protocol: str) -> None:
    for part, expected in (
        ("frame=0", PLANES[0]),
        ("frame=2", PLANES[2]),
        ("frame=1&left=5&top=7&right=31&bottom=22", PLANES[1, 7:22, 5:31]),
        ("frame=1&left=-9&top=-8", PLANES[1, -8:, -9:]),
        ("frame=1&left=40&top=30&right=99&bottom=99", PLANES[1, 30:, 40:]),
    ):
        for server in (servers.girder, servers.workbench):
            found = load_array(server.answer(Ask(200, f"{REGION}?encoding={protocol}&{part}")).content)
            assert found.dtype == np.uint16
            np.testing.assert_array_equal(found, expected[..., None])


@pytest.mark.parametrize("name", ["girder", "workbench"])
def test_files_and_models_of_the_clients(
    both: TwoServers, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(utils, "MODELS_DIR", tmp_path / "models")
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 2**16)
    server: Server = getattr(both, name)
    token = server.tokens[MINE] or ""
    gc = connect(server.api_url, token)
    folder = utils.mkdir(gc, server.ids["private"], f"files {uuid.uuid4()}")
    assert utils.mkdir(gc, utils.mkdir(gc, folder, "a"), "b") == utils.mkdir(gc, utils.mkdir(gc, folder, "a"), "b")

    source, target = tmp_path / "source", tmp_path / "target"
    ids = set()
    for seed in (1, 2):
        source.write_bytes(np.random.default_rng(seed).bytes(5 * 2**16 + 7))
        with CuttingProxy(server.api_url, cut_after=3 * 2**16 + 500) as proxy:
            connection = Connection(proxy.api_url, token, retry_delays_s=(0.1, 0.5, 1, 2))
            if seed == 1:
                file = uploads.upload_file(connection, folder, source, name="file")
            else:
                file = uploads.replace_contents(connection, file["_id"], source)
            assert proxy.was_cut
            connection._session.close()
        ids.add((file["_id"], file["itemId"]))
        assert uploads.download_file(gc, file["_id"], target, max_bytes=2**20)["size"] == source.stat().st_size
        assert target.read_bytes() == source.read_bytes()
    assert len(ids) == 1
    assert [item["name"] for item in gc.listItem(folder)] == ["file"]

    model = f"model {uuid.uuid4().hex[:8]}"
    for seed in (1, 2):
        directory = make_model(tmp_path / str(seed), seed=seed, weights_bytes=200_000)
        item = utils.upload_girder_model(gc, directory, model, base_model="pretrained")
        assert item["meta"]["base_model"] == "pretrained"
        found = utils.download_girder_model(gc, model)
        assert contents(found) == contents(directory)
        assert utils.resolve_model(gc, model) == found
    assert utils.model_names(gc)[:2] == ["pretrained", model]
    models, models_folder = utils.list_girder_models(gc)
    assert [entry["_id"] for entry in models if entry["model_name"] == model] == [item["_id"]]
    assert models_folder == utils.get_condensatenet_dir(gc) == item["folderId"]
    with pytest.raises(utils.ModelStoreError, match="There is no model 'none such'"):
        utils.download_girder_model(gc, "none such")
    gc._session.close()
    ended = connect(server.api_url, "x")
    with pytest.raises(utils.ModelStoreError, match="log in again"):
        utils.list_girder_models(ended)
    ended._session.close()
