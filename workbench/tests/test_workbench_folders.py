"""Routes of folders, items, users and worker interfaces, and who may ask at all."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
import requests
from workbench_http import TOKEN, UNKNOWN_ID, Http, annotation, serving

from workbench.store.store import Store


def names(documents: list[dict[str, str]]) -> list[str]:
    return [document["name"] for document in documents]


# Who may ask.


def test_the_token_goes_into_the_header_or_the_query(http: Http, stranger: Http) -> None:
    assert http.get("user/me")["login"] == "user"
    assert stranger.get("user/me", token=TOKEN)["login"] == "user"
    # The query wins.
    assert http.get("user/me", token="wrong") is None


def test_without_a_token(http: Http, stranger: Http, folder: str) -> None:
    assert stranger.ask("GET", "user/me").status_code == 200
    assert stranger.get("user/me") is None
    assert stranger.get("system/version")["release"] == "5.0.21"
    user, dataset, file = http.get("user/me")["_id"], http.new_dataset(), http.upload(folder, "a", b"1")
    first, second = (http.post("upenn_annotation", json=annotation(dataset))["_id"] for _ in range(2))
    made = {"datasetId": dataset, "parentId": first, "childId": second, "tags": []}
    link = http.post("annotation_connection", json=made)["_id"]
    for path, parameters, named in (
        (f"folder/{folder}", {}, f"folder {folder}"),
        ("folder", {"parentType": "user", "parentId": user}, f"user {user}"),
        ("item", {"folderId": folder}, f"folder {folder}"),
        ("upenn_annotation", {"datasetId": folder}, f"folder {folder}"),
        (f"item/{file['itemId']}", {}, f"folder {folder}"),
        (f"file/{file['_id']}/download", {}, f"folder {folder}"),
        (f"upenn_annotation/{first}", {}, f"folder {dataset}"),
        (f"annotation_connection/{link}", {}, f"folder {dataset}"),
    ):
        message = f"Read access denied for {named} (user None)."
        assert stranger.refused("GET", path, **parameters) == (401, message)
    logged_out = (401, "You must be logged in.")
    assert stranger.refused("POST", "folder", parentId=folder, name="a") == logged_out
    assert stranger.refused("DELETE", f"folder/{folder}") == logged_out
    assert stranger.refused("POST", "upenn_annotation/multiple", json=[]) == logged_out
    assert stranger.refused("GET", "worker_interface", image="a") == logged_out
    assert stranger.refused("POST", "worker_interface", image="a", json={}) == logged_out


def test_a_refused_body_is_read_so_that_the_answer_is_seen(http: Http) -> None:
    with closing(HTTPConnection("127.0.0.1", http.port, timeout=20)) as connection:
        connection.request("POST", "/api/v1/file/chunk?uploadId=a", bytes(2**26))
        assert connection.getresponse().status == 401


def test_a_token_of_a_job_works_while_it_is_known(served: tuple[Store, Http]) -> None:
    store, http = served
    with closing(Http(http.port, "of a job").session) as session:
        session.headers["Girder-Token"] = "of a job"
        assert session.get(f"{http.url}user/me").json() is None
        store.tokens.add("of a job")
        assert session.get(f"{http.url}user/me").json()["login"] == "user"
        store.tokens.discard("of a job")
        assert session.get(f"{http.url}user/me").json() is None


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:80", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8080", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:80", 403),
        ("[::2]", 403),
        ("", 403),
    ],
)
def test_host_must_be_a_loopback_name(http: Http, host: str, status: int) -> None:
    response = http.ask("GET", "system/version", headers={"Host": host})
    assert response.status_code == status
    if status == 403:
        assert response.json()["type"] == "access"


def test_no_other_site_is_let_in(http: Http) -> None:
    response = http.ask("GET", "user/me", headers={"Origin": "http://evil.example"})
    assert not [name for name in response.headers if name.lower().startswith("access-control")]


def test_a_server_for_the_network_answers_to_its_names(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "data")) as store:
        for hosts, status in ((None, 200), (frozenset({"lab.example"}), 200), (frozenset({"127.0.0.1"}), 403)):
            with serving(store, hosts=hosts) as http:
                asked = http.ask("GET", "system/version", headers={"Host": "lab.example:80"})
                assert asked.status_code == status


def test_empty_parts_of_a_path_do_not_count(http: Http, folder: str) -> None:
    assert http.get(f"/folder//{folder}/")["_id"] == folder


def test_unknown_routes(http: Http) -> None:
    assert http.refused("GET", "no_such/route") == (404, 'No matching route for "GET route"')
    assert http.refused("PATCH", "folder/a") == (400, 'No matching route for "PATCH a"')
    assert http.refused("PATCH", "folder") == (400, 'No matching route for "PATCH "')
    assert http.refused("GET", "folder/a/b/c") == (400, 'No matching route for "GET a/b/c"')
    assert http.refused("GET", "user/me", a=["1", "2"])[1] == 'Parameter "a" must not be specified multiple times.'


def test_an_unexpected_problem_is_an_error_in_json(
    served: tuple[Store, Http], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, http = served

    def fail(_: str) -> None:
        raise failure

    monkeypatch.setattr(store.folders, "find", fail)
    failure: Exception = RuntimeError("secret detail")
    response = http.ask("GET", f"folder/{folder}")
    assert (response.status_code, response.json()["type"]) == (500, "internal")
    assert "secret" not in response.text
    failure = OSError(28, "No space left on device")
    status, message = http.refused("GET", f"folder/{folder}")
    assert status == 507
    assert "disk" in message


# Folders.


def test_folder_as_the_platform_shows_it(http: Http, folder: str) -> None:
    made = http.post("folder", parentId=folder, name="  cells ", description="of mice", public="true")
    assert made["name"] == "cells"
    assert made["description"] == "of mice"
    assert made["_modelType"] == "folder"
    assert made["parentId"] == folder
    assert made["parentCollection"] == "folder"
    assert made["public"] is True
    assert made["meta"] == {}
    assert made["created"].endswith("+00:00")
    assert http.get(f"folder/{made['_id'].upper()}") == made
    http.upload(made["_id"], "a", b"12345")
    assert http.get(f"folder/{made['_id']}")["size"] == 5


def test_folder_from_a_form(http: Http, folder: str) -> None:
    form = {"parentId": folder, "name": "é & co", "metadata": json.dumps({"a": [1]})}
    made = http.post("folder", data=form)
    assert made["name"] == "é & co"
    assert made["meta"] == {"a": [1]}
    # A parameter may not be in both places.
    assert http.refused("POST", "folder", data=form, name="x") == (
        400,
        'Parameter "name" must not be specified multiple times.',
    )


def test_a_folder_name_is_taken_once(http: Http, folder: str) -> None:
    first = http.post("folder", parentId=folder, name="a")
    taken = (400, "A folder with that name already exists here.")
    assert http.refused("POST", "folder", parentId=folder, name="a") == taken
    again = http.post("folder", parentId=folder, name="a", reuseExisting="true", metadata='{"b": 1}')
    assert again["_id"] == first["_id"]
    assert again["meta"] == {"b": 1}
    http.upload(folder, "item", b"1")
    assert http.refused("POST", "folder", parentId=folder, name="item") == (
        400,
        "An item with that name already exists here.",
    )


@pytest.mark.parametrize("reuse", [True, False])
def test_eight_threads_make_one_folder(http: Http, folder: str, reuse: bool) -> None:
    def create(_: int) -> requests.Response:
        client = Http(http.port)
        with client.session:
            return client.ask("POST", "folder", parentId=folder, name=".condensatenet", reuseExisting=str(reuse))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(create, range(8)))
    (only,) = http.get("folder", parentType="folder", parentId=folder)
    assert sorted(answer.status_code for answer in answers) == ([200] * 8 if reuse else [200] + [400] * 7)
    assert {answer.json()["_id"] for answer in answers if answer.status_code == 200} == {only["_id"]}


def test_folder_lists(http: Http, folder: str) -> None:
    for name in ("b", "A", "c"):
        http.post("folder", parentId=folder, name=name)
    listed = {"parentType": "folder", "parentId": folder}
    response = http.ask("GET", "folder", **listed)
    assert names(response.json()) == ["A", "b", "c"]
    assert response.headers["Girder-Total-Count"] == "3"
    assert names(http.get("folder", **listed, limit=1, offset=1)) == ["b"]
    assert names(http.get("folder", **listed, sort="name", sortdir=-1)) == ["c", "b", "A"]
    assert names(http.get("folder", **listed, name="A")) == ["A"]
    assert http.get("folder", **listed, name="a") == []
    assert http.refused("GET", "folder", parentId=folder) == (400, "Invalid search mode.")
    for name, value in (("limit", "x"), ("offset", "1.5"), ("limit", str(10**30)), ("sortdir", "up")):
        message = f"Invalid value for integer parameter {name}: {value}."
        assert http.refused("GET", "folder", **listed, **{name: value}) == (400, message)
    assert "negative" in http.refused("GET", "folder", **listed, limit=-1)[1]
    assert http.refused("GET", "folder", **listed, sortdir=2) == (
        400,
        'Invalid value for sortdir: "2". Allowed values: 1, -1.',
    )


def test_lists_have_fifty_unless_told(http: Http, folder: str) -> None:
    for number in range(52):
        http.post("folder", parentId=folder, name=f"{number:02}")
    listed = {"parentType": "folder", "parentId": folder}
    assert len(http.get("folder", **listed)) == 50
    assert len(http.get("folder", **listed, limit=0)) == 52
    assert http.ask("GET", "folder", **listed).headers["Girder-Total-Count"] == "52"


def test_missing_and_malformed_identifiers(http: Http, folder: str) -> None:
    assert http.refused("GET", f"folder/{UNKNOWN_ID}") == (400, f"Invalid folder id ({UNKNOWN_ID}).")
    assert http.refused("GET", "folder/zzz") == (400, "Invalid ObjectId: zzz")
    assert http.refused("POST", "folder", parentId=UNKNOWN_ID, name="a") == (400, f"No such folder: {UNKNOWN_ID}")
    assert http.refused("POST", "folder", parentId="zzz", name="a") == (400, "Invalid ObjectId: zzz")
    assert http.refused("POST", "folder", parentType="user", parentId=UNKNOWN_ID, name="a")[0] == 400
    assert http.refused("GET", "folder", parentType="user", parentId=UNKNOWN_ID)[0] == 400
    assert http.refused("GET", "item", folderId=UNKNOWN_ID) == (400, f"No such folder: {UNKNOWN_ID}")
    assert http.refused("GET", f"user/{folder}")[0] == 400
    assert http.refused("POST", "folder", parentId=folder) == (400, 'Parameter "name" is required.')
    assert http.refused("POST", "folder", parentId=folder, name="   ") == (400, "Folder name must not be empty.")
    assert http.refused("POST", "folder", parentId=folder, name="a", parentType="x")[1] == (
        'Invalid value for parentType: "x". Allowed values: folder, user.'
    )


def test_folder_metadata(http: Http, folder: str) -> None:
    path = f"folder/{folder}/metadata"
    assert http.put(path, json={"a": 1, "b": {"c": [None]}})["meta"] == {"a": 1, "b": {"c": [None]}}
    assert http.put(path, json={"a": None, "d": "é"})["meta"] == {"b": {"c": [None]}, "d": "é"}
    assert http.put(path, json={"a": None}, allowNull="true")["meta"]["a"] is None
    assert http.refused("PUT", path, json=[1]) == (400, "Parameter metadata must be a JSON object.")
    assert http.refused("PUT", path) == (400, "JSON parameter metadata must be passed in request body.")
    assert http.refused("PUT", path, data=b"{") == (400, "Invalid JSON passed in request body.")
    assert http.refused("PUT", path, data=b"\xff") == (400, "Invalid JSON passed in request body.")
    assert http.refused("PUT", path, data=b'{"a": NaN}') == (400, 'Error: "NaN" is not valid JSON.')
    assert http.refused("PUT", path, data=b'{"a": 1e999}')[0] == 400
    assert http.refused("PUT", path, data=b'{"a": "\\ud800"}')[0] == 400
    assert http.refused("PUT", path, data=b'{"a":' * 5000 + b"1" + b"}" * 5000)[0] == 400
    assert http.refused("PUT", path, data=b'{"a":' * 150 + b"1" + b"}" * 150) == (400, "The data is nested too deeply.")
    assert http.refused("PUT", path, json={"a.b": 1})[1] == 'Invalid key a.b: keys must not contain the "." character.'
    assert http.get(f"folder/{folder}")["meta"] == {"a": None, "b": {"c": [None]}, "d": "é"}


def test_folder_name_and_description_change(http: Http, folder: str) -> None:
    made = http.post("folder", parentId=folder, name="a")
    http.post("folder", parentId=folder, name="b")
    changed = http.put(f"folder/{made['_id']}", name="c", description="d", metadata='{"e": 1}')
    assert (changed["name"], changed["description"], changed["meta"]) == ("c", "d", {"e": 1})
    assert http.put(f"folder/{made['_id']}", name="c")["description"] == "d"
    assert http.refused("PUT", f"folder/{made['_id']}", name="b")[0] == 400
    assert http.refused("PUT", f"folder/{made['_id']}", name="")[0] == 400
    # A refused change is refused whole.
    assert http.refused("PUT", f"folder/{made['_id']}", name="f", metadata='{"a.b": 1}')[0] == 400
    assert http.get(f"folder/{made['_id']}")["name"] == "c"


def test_deleted_folders_are_gone(http: Http, folder: str) -> None:
    made = http.post("folder", parentId=folder, name="a")
    file = http.upload(made["_id"], "file", b"1")
    assert "message" in http.delete(f"folder/{made['_id']}")
    assert http.refused("GET", f"folder/{made['_id']}")[0] == 400
    assert http.refused("GET", f"file/{file['_id']}")[0] == 400
    assert http.refused("DELETE", f"folder/{made['_id']}")[0] == 400


# Items.


@pytest.fixture
def item(http: Http, folder: str) -> Iterator[str]:
    yield http.post("item", folderId=folder, name="image")["_id"]


def test_item_as_the_platform_shows_it(http: Http, folder: str, item: str) -> None:
    made = http.get(f"item/{item}")
    assert made["_modelType"] == "item"
    assert (made["name"], made["folderId"], made["size"], made["meta"]) == ("image", folder, 0, {})
    assert "largeImage" not in made
    assert http.refused("POST", "item", folderId=folder, name=" ") == (400, "Item name must not be empty.")
    assert http.refused("POST", "item", folderId=UNKNOWN_ID, name="a") == (400, f"Invalid folder id ({UNKNOWN_ID}).")
    assert http.refused("GET", f"item/{UNKNOWN_ID}") == (400, f"Invalid item id ({UNKNOWN_ID}).")


def test_item_names_get_numbers(http: Http, folder: str, item: str) -> None:
    http.post("folder", parentId=folder, name="image (1)")
    assert http.post("item", folderId=folder, name="image")["name"] == "image (2)"
    assert http.post("item", folderId=folder, name="image", reuseExisting="true")["_id"] == item
    other = http.post("item", folderId=folder, name="other", metadata='{"a": 1}')
    assert other["meta"] == {"a": 1}
    assert http.put(f"item/{other['_id']}", name="image")["name"] == "image (3)"
    assert http.put(f"item/{other['_id']}", name="free", description="d")["name"] == "free"
    assert http.get(f"item/{other['_id']}")["description"] == "d"
    assert http.refused("PUT", f"item/{other['_id']}", name="")[0] == 400


def test_item_lists(http: Http, folder: str, item: str) -> None:
    for name in ("B", "a"):
        http.post("item", folderId=folder, name=name)
    response = http.ask("GET", "item", folderId=folder, limit=0)
    assert names(response.json()) == ["a", "B", "image"]
    assert response.headers["Girder-Total-Count"] == "3"
    assert names(http.get("item", folderId=folder, limit=1, offset=2)) == ["image"]
    assert [found["_id"] for found in http.get("item", folderId=folder, name="image")] == [item]
    assert http.refused("GET", "item") == (400, "Invalid search mode.")


def test_item_metadata(http: Http, item: str) -> None:
    assert http.put(f"item/{item}/metadata", json={"sha256": "1", "ap": 0.5})["meta"] == {"sha256": "1", "ap": 0.5}
    assert http.put(f"item/{item}/metadata", json={"ap": None})["meta"] == {"sha256": "1"}
    assert http.refused("PUT", f"item/{item}/metadata", json="text")[0] == 400
    assert http.refused("PUT", f"item/{item}", metadata="[]") == (400, "Parameter metadata must be a JSON object.")
    assert http.refused("PUT", f"item/{item}", metadata="{") == (400, "Parameter metadata must be valid JSON.")


def test_metadata_of_many_writers_is_merged(http: Http, item: str) -> None:
    def write(number: int) -> None:
        client = Http(http.port)
        with client.session:
            client.put(f"item/{item}/metadata", json={f"key {number}": number})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(24)))
    assert http.get(f"item/{item}")["meta"] == {f"key {number}": number for number in range(24)}


def test_deleted_items_are_gone(http: Http, folder: str, item: str) -> None:
    assert http.delete(f"item/{item}") == {"message": "Deleted item image."}
    assert http.get("item", folderId=folder) == []
    assert http.refused("DELETE", f"item/{item}")[0] == 400


# Worker interfaces.


def test_worker_interfaces_are_one_per_image(http: Http) -> None:
    image = "annotations/condensatenet_predict:latest"
    assert http.get("worker_interface", image=image) is None
    first = http.post("worker_interface", image=image, json={"Model": {"type": "select", "items": ["a"]}})
    assert first["image"] == image
    assert http.get("worker_interface", image=image) == {"Model": {"type": "select", "items": ["a"]}}
    second = http.post("worker_interface", image=image, json={"Model": {"type": "text"}})
    assert second["_id"] == first["_id"]
    assert http.get("worker_interface", image=image) == second["interface"] == {"Model": {"type": "text"}}
    assert http.refused("GET", "worker_interface") == (400, "Missing 'image' parameter")
    assert http.refused("POST", "worker_interface", json={}) == (400, "Missing 'image' parameter")
    assert http.refused("POST", "worker_interface", image=image, data=b"{")[0] == 400


def test_a_body_has_a_limit(http: Http) -> None:
    request = (
        f"POST /api/v1/worker_interface?image=a HTTP/1.1\r\nHost: localhost\r\nGirder-Token: {TOKEN}\r\n"
        f"Content-Length: {10**12}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", http.port), timeout=10) as connection:
        connection.sendall(request.encode())
        connection.shutdown(socket.SHUT_WR)
        connection.recv(2**16)  # nobody waits for a terabyte
    status, message = http.refused("POST", "worker_interface", image="a", data=bytes(64 * 2**20 + 1))
    assert status == 413
    assert "64 MiB" in message
    status, _ = http.refused("POST", "worker_interface", image="a", data=(bytes(2**20) for _ in range(65)))
    assert status == 413
