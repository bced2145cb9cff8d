"""The workbench answers as a Girder server does, byte for byte where a client can see it, except where it says not to."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from running_workbench import RunningWorkbench
from two_servers import MINE, NONE, OTHER, WRONG, Ask, Server, TwoServers

BODY = b"0123456789"
NEW_FILE = "POST file?parentType=folder&parentId=<folder>"
PART_OF = "GET folder?parentType=folder&parentId=<folder>"
JSON = {"Content-Type": "application/json"}
UPLOAD_KEYS = ("assetstoreId", "sha512state", "tempFile")

SAME: dict[str, list[Ask]] = {
    "users": [
        Ask(200, "GET user/me", token=WRONG),
        Ask(200, "GET user/me", token=NONE),
        Ask(400, "GET user/<unknown>"),
    ],
    "folders are made": [
        Ask(200, "POST folder?parentId=<folder>&name= a &description= b ", keep="a"),
        Ask(400, "POST folder?parentId=<folder>&name=a"),
        Ask(200, "POST folder?parentId=<folder>&name=a&reuseExisting=true"),
        Ask(200, 'POST folder?parentId=<folder>&name=a&reuseExisting=true&metadata={"n":1}'),
        Ask(200, 'POST folder?parentId=<folder>&name=c&metadata={"k":{"a":[1,null]}}'),
        Ask(200, "POST folder?parentId=<folder>&name=é/\\%23", keep="d"),
        Ask(400, "POST folder?parentId=<folder>&name=%20"),
        Ask(400, "POST folder?parentId=<folder>"),
        Ask(400, "POST folder?name=x"),
        Ask(400, "POST folder?parentId=<unknown>&name=x"),
        Ask(400, "POST folder?parentId=zzz&name=x"),
        Ask(400, "POST folder?parentId=<unknown>&parentType=user&name=x"),
        Ask(400, "POST folder?parentId=<folder>&name=m&metadata=[1]"),
        Ask(400, "POST folder?parentId=<folder>&name=m&metadata={"),
        Ask(400, "POST folder", body=b"no form", headers=JSON),
        Ask(200, "GET folder/<a>"),
        Ask(200, "GET folder//<a>/"),
        Ask(400, "GET folder/<unknown>"),
        Ask(400, "GET folder/zzz"),
    ],
    "folders change": [
        Ask(200, "POST folder?parentId=<folder>&name=a", keep="a"),
        Ask(200, "POST folder?parentId=<folder>&name=taken"),
        Ask(200, "PUT folder/<a>?name=b&description=x"),
        Ask(400, "PUT folder/<a>?name="),
        Ask(400, "PUT folder/<a>?name=taken"),
        Ask(200, 'PUT folder/<a>?metadata={"z":1}'),
        Ask(200, "GET folder/<a>"),
    ],
    "folders are listed": [
        *(Ask(200, f"POST folder?parentId=<folder>&name={name}") for name in ("b", "A", "c", "ä", "B2")),
        Ask(200, PART_OF),
        Ask(200, f"{PART_OF}&limit=2&offset=1"),
        Ask(200, f"{PART_OF}&limit=0"),
        Ask(200, f"{PART_OF}&offset=99"),
        Ask(200, f"{PART_OF}&sort=name&sortdir=-1"),
        Ask(200, f"{PART_OF}&sort=created&sortdir=-1&limit=2"),
        Ask(200, f"{PART_OF}&name=A"),
        Ask(200, f"{PART_OF}&name=a"),
        Ask(400, f"{PART_OF}&limit=x"),
        Ask(400, f"{PART_OF}&sortdir=5"),
        Ask(400, f"{PART_OF}&name=a&name=b"),
        Ask(400, "GET folder?parentId=<folder>"),
        Ask(400, "GET folder?parentId=<unknown>&parentType=folder"),
        Ask(400, "GET folder?parentId=zzz&parentType=folder"),
        Ask(200, "GET folder?parentType=user&parentId=<me>&name=Private"),
    ],
    "metadata": [
        Ask(200, "PUT folder/<folder>/metadata", body='{"a":1,"b":null,"c":{"d":2}}'),
        Ask(200, "PUT folder/<folder>/metadata", body='{"a":null,"é":"ü"}'),
        Ask(200, "PUT folder/<folder>/metadata?allowNull=true", body='{"c":null}'),
        Ask(200, "GET folder/<folder>"),
        Ask(200, "PUT item/<item>/metadata", body='{"sha256":"1","metrics":{"ap50":0.5}}'),
        Ask(200, "GET item/<item>"),
        *(Ask(400, "PUT item/<item>/metadata", body=body) for body in ('{"a.b":1}', '{"$a":1}', "[1]", "1", "{")),
        *(Ask(400, "PUT folder/<folder>/metadata", body=body) for body in ('{"a":NaN}', "", None)),
        Ask(400, "PUT folder/<unknown>/metadata", body="{}"),
        Ask(200, "GET item/<item>"),
    ],
    "items": [
        Ask(200, "POST item?folderId=<folder>&name=a.tif&description=d", keep="a"),
        Ask(200, "POST item?folderId=<folder>&name=a.tif", keep="second"),
        Ask(200, "POST item?folderId=<folder>&name=a.tif", keep="third"),
        Ask(200, "POST item?folderId=<folder>&name=a.tif&reuseExisting=true"),
        Ask(200, "POST folder?parentId=<folder>&name=shared"),
        Ask(200, "POST item?folderId=<folder>&name=shared"),
        Ask(400, "POST folder?parentId=<folder>&name=a.tif"),
        Ask(400, "POST item?folderId=<folder>&name=%20"),
        Ask(400, "POST item?folderId=<unknown>&name=x"),
        Ask(400, "POST item?folderId=zzz&name=x"),
        Ask(400, "POST item?name=x"),
        Ask(200, "GET item?folderId=<folder>"),
        Ask(200, "GET item?folderId=<folder>&limit=2&offset=1"),
        Ask(200, "GET item?folderId=<folder>&sort=created&sortdir=-1"),
        Ask(200, "GET item?folderId=<folder>&name=a.tif"),
        Ask(400, "GET item?folderId=<unknown>"),
        Ask(400, "GET item"),
        Ask(200, "PUT item/<a>?name=a.tif (1)"),
        Ask(400, "PUT item/<a>?name="),
        Ask(200, "GET item/<a>/files"),
        Ask(200, "DELETE item/<a>"),
        Ask(400, "DELETE item/<a>"),
        Ask(400, "GET item/<a>"),
        Ask(400, "GET item/zz"),
    ],
    "a body makes a file": [
        Ask(200, f"{NEW_FILE}&name=model.tar.gz&size=10", body=BODY, keep="file"),
        Ask(200, f"{NEW_FILE}&name=model.tar.gz&size=3", body=b"abc", keep="second"),
        Ask(200, "GET item/<second_item>"),
        Ask(200, "GET item/<second_item>/files?limit=50&offset=0"),
        Ask(200, "GET file/<file>"),
        Ask(200, "GET item/<file_item>"),
        Ask(200, "GET folder/<folder>"),
        Ask(200, "POST file?parentType=item&parentId=<file_item>&name=beside&size=3", body=b"123"),
        Ask(200, "GET item/<file_item>/files"),
        Ask(200, f"{NEW_FILE}&name=empty&size=0"),
        Ask(400, f"{NEW_FILE}&name=x"),
        Ask(400, f"{NEW_FILE}&size=3"),
        Ask(400, f"{NEW_FILE}&name=x&size=-1"),
        Ask(400, f"{NEW_FILE}&name=x&size=q"),
        Ask(400, f"{NEW_FILE}&name=x&size=1", body=b"123"),
        Ask(400, "POST file?parentType=user&parentId=<me>&name=x&size=1"),
        Ask(400, "POST file?parentType=folder&parentId=<unknown>&name=x&size=1"),
        Ask(400, "POST file?parentType=item&parentId=<unknown>&name=x&size=1"),
        Ask(200, "PUT file/<file>?name=b.TIF&mimeType=image/tiff"),
        Ask(200, "DELETE file/<file>"),
        Ask(400, "DELETE file/<file>"),
        Ask(400, "GET file/<file>"),
        Ask(400, "GET file/zz"),
        Ask(400, "GET file/<unknown>/download"),
    ],
    "chunks make a file": [
        Ask(200, f"{NEW_FILE}&name=b&size=10&mimeType=x/y", keep="upload"),
        Ask(200, "GET file/offset?uploadId=<upload>"),
        Ask(200, "POST file/chunk?uploadId=<upload>&offset=0", body=BODY[:5]),
        Ask(400, "POST file/chunk?uploadId=<upload>&offset=4", body=b"4"),
        Ask(400, "POST file/chunk?uploadId=<upload>&offset=6", body=b"6"),
        Ask(400, "POST file/chunk?uploadId=<upload>&offset=5", body=b"56789 and more"),
        Ask(400, "POST file/chunk?uploadId=<upload>&offset=x", body=b"5"),
        Ask(200, "GET file/offset?uploadId=<upload>"),
        Ask(200, "GET item?folderId=<folder>&name=b"),
        Ask(200, "POST file/chunk?uploadId=<upload>&offset=5", body=BODY[5:], keep="file"),
        Ask(400, "POST file/chunk?uploadId=<upload>&offset=5", body=BODY[5:]),
        Ask(400, "GET file/offset?uploadId=<upload>"),
        Ask(200, "GET file/<file>/download"),
        Ask(400, "POST file/chunk?offset=0", body=b"1"),
        Ask(400, "POST file/chunk?uploadId=<unknown>&offset=0", body=b"1"),
        Ask(400, "GET file/offset?uploadId=zz"),
        Ask(400, "GET file/offset"),
    ],
    "contents are replaced": [
        Ask(200, "PUT file/<file>/contents?size=4", keep="upload"),
        Ask(200, "POST file/chunk?uploadId=<upload>&offset=0", body=b"ne"),
        Ask(200, "GET file/<file>"),
        Ask(200, "GET file/<file>/download"),
        Ask(200, "POST file/chunk?uploadId=<upload>&offset=2", body=b"w!"),
        Ask(200, "GET file/<file>"),
        Ask(200, "GET file/<file>/download"),
        Ask(200, "GET item/<file_item>"),
        Ask(200, "PUT file/<file>/contents?size=7", keep="upload"),
        Ask(200, "DELETE file/upload/<upload>"),
        Ask(400, "DELETE file/upload/<upload>"),
        Ask(400, "DELETE file/upload/zz"),
        Ask(200, "GET file/<file>/download"),
        Ask(200, "PUT file/<file>/contents?size=0"),
        Ask(200, "GET file/<file>/download"),
        Ask(400, "PUT file/<file>/contents"),
        Ask(400, "PUT file/<unknown>/contents?size=3"),
    ],
    "downloads": [
        Ask(200, "GET file/<file>/download"),
        Ask(200, "GET item/<file_item>/download"),
        Ask(206, "GET file/<file>/download", headers={"Range": "bytes=2-4"}),
        Ask(206, "GET file/<file>/download", headers={"Range": "bytes=-2"}),
        Ask(206, "GET file/<file>/download", headers={"Range": "bytes=7-"}),
        Ask(206, "GET file/<file>/download?offset=3"),
        Ask(206, "GET file/<file>/download?offset=3&endByte=5"),
        Ask(200, f'{NEW_FILE}&name=Größe "3" µ 測.txt&size=1', body=b"1", keep="odd"),
        Ask(200, "GET file/<odd>/download"),
    ],
    "rights": [
        *(Ask(401, f"GET {kind}/<{kind}>", token=WRONG) for kind in ("folder", "item", "file")),
        *(Ask(401, f"GET {kind}/<{kind}>", token=NONE) for kind in ("folder", "item", "file")),
        Ask(401, "GET file/<file>/download", token=WRONG),
        Ask(401, "GET item/<item>/files", token=WRONG),
        Ask(401, "GET item?folderId=<folder>", token=WRONG),
        Ask(401, f"{PART_OF}", token=WRONG),
        Ask(401, "GET item/<image_item>/tiles", token=WRONG),
        Ask(401, "POST folder?parentId=<folder>&name=x", token=WRONG),
        Ask(401, "POST item?folderId=<folder>&name=x", token=NONE),
        Ask(401, f"{NEW_FILE}&name=x&size=3", token=WRONG, body=b"123"),
        Ask(401, "PUT file/<file>/contents?size=3", token=WRONG),
        Ask(401, "PUT folder/<folder>/metadata", token=WRONG, body="{}"),
        *(Ask(401, f"DELETE {kind}/<{kind}>", token=WRONG) for kind in ("folder", "item", "file")),
        Ask(400, "GET file/<unknown>", token=WRONG),
    ],
    "images": [
        Ask(200, "GET item/<image_item>"),
        Ask(200, "GET item/<image_item>/tiles"),
        Ask(200, "GET item/<image_item>/tiles/internal_metadata"),
        Ask(400, "POST item/<image_item>/tiles"),
        *(Ask(200, f"GET item/<image_item>/tiles/region?encoding=PNG&frame={frame}") for frame in range(3)),
        Ask(200, "GET item/<image_item>/tiles/region?encoding=PNG&left=5&top=-9&right=31&bottom=-2"),
        Ask(200, "GET item/<image_item>/tiles/region?encoding=TIFF&width=20&height=20"),
        Ask(200, 'GET item/<image_item>/tiles/region?encoding=PNG&style={"min":0,"max":5000}'),
        Ask(200, "GET item/<image_item>/tiles/zxy/0/0/0"),
        Ask(404, "GET item/<image_item>/tiles/zxy/9/0/0"),
        Ask(200, "GET item/<image_item>/tiles/thumbnail"),
        Ask(200, "GET item/<image_item>/tiles/bands"),
        Ask(200, "GET item/<image_item>/tiles/histogram?frame=1&bins=4"),
        Ask(200, "GET item/<image_item>/tiles/histogram?bins=7&left=3&top=4&right=20&bottom=9"),
        Ask(200, "GET item/<image_item>/tiles/histogram?frame=1&bins=65536&rangeMin=0&rangeMax=65536&resample=0"),
        Ask(200, "GET item/<image_item>/tiles/histogram?bins=8&density=true&roundRange=true"),
        Ask(400, "GET item/<item>/tiles"),
        Ask(400, "GET item/<item>/tiles/region?encoding=PNG"),
        Ask(400, "POST item/<item>/tiles"),
        Ask(400, "GET item/<unknown>/tiles"),
        Ask(200, "DELETE item/<image_item>/tiles"),
        Ask(200, "DELETE item/<image_item>/tiles"),
        Ask(400, "GET item/<image_item>/tiles"),
        Ask(200, "GET item/<image_item>"),
    ],
    "no such route": [
        Ask(400, "GET folder/x/y/z"),
        Ask(400, "GET item/<item>/nothing"),
        Ask(400, "PATCH folder"),
        Ask(400, "POST user/me"),
    ],
}


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
def servers(both: TwoServers, request: pytest.FixtureRequest) -> TwoServers:
    """Both, each with an own `<folder>` in which there are an `<item>`, a `<file>` and an `<image>`."""
    own = both.with_own_names()
    content = io.BytesIO()
    planes = np.arange(3 * 40 * 50, dtype=np.uint16).reshape(3, 40, 50)
    tifffile.imwrite(content, planes, ome=True, metadata={"axes": "ZYX"}, tile=(16, 16))
    image = content.getvalue()
    for server in (own.girder, own.workbench):
        for ask in (
            Ask(200, f"POST folder?parentId=<private>&name={request.node.name}", keep="folder"),
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
        d = servers.differences(ask)
        if d: print(ask.line, ask.token, ask.body); [print("     ", k, *v, sep="  |  ") for k,v in d.items()]
