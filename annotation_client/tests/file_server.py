"""The file routes of the platform, for tests."""

from __future__ import annotations

from typing import Any

from scripted_server import Answer, Request, ScriptedServer, error


class FileServer:
    """The platform's file routes over a dictionary: chunks are appended, the last one makes or changes the file."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.pending: dict[str, dict[str, Any]] = {}
        self.started = 0
        self.cancelled = 0
        server.on("POST", "/file", self.start_new)
        server.on("POST", "/file/chunk", self.chunk)
        server.on("GET", "/file/offset", self.offset)
        server.on(
            "GET",
            "/item",
            lambda request: [
                {"_id": file["itemId"], "name": file["itemName"], "created": file["_id"]}
                for file in sorted(self.files.values(), key=lambda file: file["_id"], reverse=True)
            ],
        )

    def add(self, name: str, content: bytes) -> str:
        number = len(self.files)
        file_id = f"file{number}"
        item_name = name if all(file["itemName"] != name for file in self.files.values()) else f"{name} ({number})"
        file = {"_id": file_id, "itemId": f"item{number}", "itemName": item_name, "name": name, "_modelType": "file"}
        self.files[file_id] = file
        self.server.on("GET", f"/file/{file_id}", lambda request: file)
        self.server.on("GET", f"/file/{file_id}/download", lambda request: Answer(self.contents[file_id]))
        self.server.on("PUT", f"/file/{file_id}/contents", lambda request: self.start(request, file_id))
        self.server.on("GET", f"/item/item{number}/files", lambda request: [file])
        self.put(file_id, content)
        return file_id

    def put(self, file_id: str, content: bytes) -> dict[str, Any]:
        self.contents[file_id] = content
        self.files[file_id]["size"] = len(content)
        return self.files[file_id]

    def start_new(self, request: Request) -> Any:
        assert (
            request.body == b"" and request.query["parentType"] == "folder" and request.query["parentId"] == "folder1"
        )
        return self.start(request, None)

    def start(self, request: Request, file_id: str | None) -> Any:
        self.started += 1
        upload = {"_id": f"upload{self.started}", "size": int(request.query["size"]), "received": 0, "name": "x"}
        if upload["size"] == 0:
            return self.finish({**upload, "data": b"", "fileId": file_id, "name": request.query.get("name")})
        self.pending[upload["_id"]] = {**upload, "data": b"", "fileId": file_id, "name": request.query.get("name")}
        self.server.on("DELETE", f"/file/upload/{upload['_id']}", lambda request: self.cancel(upload["_id"]))
        return upload

    def chunk(self, request: Request) -> Any:
        assert "Content-Type" not in request.headers
        upload = self.pending.get(request.query["uploadId"])
        if upload is None:
            return error(400, "No such upload")
        if int(request.query["offset"]) != len(upload["data"]):
            return error(400, f"Server has received {len(upload['data'])} bytes, but client sent offset.")
        upload["data"] += request.body
        if len(upload["data"]) < upload["size"]:
            return {"_id": upload["_id"], "size": upload["size"], "received": len(upload["data"])}
        del self.pending[upload["_id"]]
        return self.finish(upload)

    def finish(self, upload: dict[str, Any]) -> Any:
        if upload["fileId"] is None:
            upload["fileId"] = self.add(upload["name"], upload["data"])
            return self.files[upload["fileId"]]
        return self.put(upload["fileId"], upload["data"])

    def offset(self, request: Request) -> Any:
        upload = self.pending.get(request.query["uploadId"])
        return {"offset": len(upload["data"])} if upload else error(400, "No such upload")

    def cancel(self, upload_id: str) -> Any:
        if self.pending.pop(upload_id, None) is None:
            return error(400, "No such upload")
        self.cancelled += 1
        return {"message": "Upload canceled."}
