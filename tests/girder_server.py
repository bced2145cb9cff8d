"""A real Girder server on a free port, for tests: run by the Python of .cache/girder_server/venv, not imported.

Its database lives in this process's memory (mongomock), its files in a temporary folder; both end with it. When it is
ready it prints one line of JSON: `apiUrl`, and `token` and `otherToken` of the two ordinary users whose ids are `user`
and `otherUser`. It ends on SIGTERM, or when its standard input closes, so that it never outlives the tests.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import tempfile
import threading
from typing import Any


def put_mongomock_in_place() -> None:
    """Let Girder's `pymongo` be a database in memory; to be called before girder is imported."""
    import mongomock.codec_options
    import mongomock.collection
    import mongomock.command_cursor
    import pymongo
    import pymongo.command_cursor
    import pymongo.cursor

    class CodecOptions(mongomock.codec_options.CodecOptions):
        def __new__(cls, *args: Any, tzinfo: object = None, **kwargs: Any) -> CodecOptions:
            return super().__new__(cls, *args, **kwargs)  # Girder asks for UTC, mongomock knows nothing else

    def count(cursor: Any, with_limit_and_skip: bool = False) -> int:
        return len(cursor._compute_results(with_limit_and_skip))

    mongomock.codec_options.CodecOptions = CodecOptions
    mongomock.collection.Cursor.count = count
    pymongo.cursor.Cursor = mongomock.collection.Cursor
    pymongo.command_cursor.CommandCursor = mongomock.command_cursor.CommandCursor
    pymongo.MongoClient = mongomock.MongoClient


def create_users() -> dict[str, str]:
    """Return id and token of two users; an administrator exists besides them, because the first user always is one."""
    from girder.models.token import Token
    from girder.models.user import User

    create = User().createUser
    create("administrator", "password", "Anna", "Admin", "admin@example.org", admin=True)
    user = create("user", "password", "Uma", "User", "user@example.org")
    other = create("other", "password", "Otto", "Other", "other@example.org")
    return {
        "user": str(user["_id"]),
        "token": str(Token().createToken(user)["_id"]),
        "otherUser": str(other["_id"]),
        "otherToken": str(Token().createToken(other)["_id"]),
    }


def main() -> None:
    """Serve until told to stop."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    os.environ["GIRDER_MONGO_URI"] = "mongodb://localhost/girder"  # names the database in memory; nothing connects
    os.environ["GIRDER_FILESYSTEMASSETSTORE_RESERVED_MBYTES"] = "1"  # it would not fill the last 10 GiB of a disk
    put_mongomock_in_place()

    import uvicorn
    from girder.asgi import app
    from girder.models.assetstore import Assetstore
    from girder.models.setting import Setting
    from girder.settings import SettingKey

    with tempfile.TemporaryDirectory(prefix="girder_server_", ignore_cleanup_errors=True) as files:
        Assetstore().createFilesystemAssetstore("files", files)
        Setting().set(SettingKey.UPLOAD_MINIMUM_CHUNK_SIZE, 0)  # so that tests can send many chunks in little time
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, lifespan="off", log_level="warning", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)

        def end_with_standard_input() -> None:
            sys.stdin.read()
            server.should_exit = True

        threading.Thread(target=end_with_standard_input, daemon=True).start()
        # The listening socket keeps early requests until uvicorn takes them.
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1"
        print(json.dumps({"apiUrl": address, **create_users()}), flush=True)
        server.run(sockets=[listener])


if __name__ == "__main__":
    main()
