"""A data folder, opened: all tables, the contents, and order after a kill."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from workbench.errors import DataFolderError
from workbench.store import annotations as annotation_table
from workbench.store import connections, files, folders, interfaces, items, jobs, users
from workbench.store.contents import Contents
from workbench.store.database import Database
from workbench.store.lock import FolderLock
from workbench.store.tokens import Tokens
from workbench.store.uploads import Uploads

_SCHEMAS = [module.SCHEMA for module in (users, folders, items, files, annotation_table, connections, interfaces, jobs)]


class Store:
    """Everything in a data folder.

    Several processes may have it open (the server and an import beside it), but only one may serve it. Whoever opens it
    while nobody else has it open removes what a killed process left: partial files and contents without a row.

    Args:
        data_folder: made if it is missing.
        serve: be the one process that serves it.

    Raises:
        DataFolderError: it cannot be used, or another process serves it.
    """

    def __init__(self, data_folder: str | Path, *, serve: bool = False) -> None:
        self.data_folder = Path(data_folder).expanduser().resolve()
        self.files_folder = self.data_folder / "files"
        self.jobs_folder = self.data_folder / "jobs"
        with ExitStack() as stack:
            try:
                self._open(stack, serve)
            except OSError as error:
                raise DataFolderError(
                    f"The data folder {self.data_folder} cannot be used ({error}). Choose one that you may write to."
                ) from error
            self._resources = stack.pop_all()
        self.tokens = Tokens()

    def _open(self, stack: ExitStack, serve: bool) -> None:
        self.data_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if serve and not stack.enter_context(closing(FolderLock(self.data_folder / "server.lock"))).hold_alone():
            raise DataFolderError(
                f"A workbench is already serving {self.data_folder}. Use that one, stop it, or choose another data "
                "folder."
            )
        lock = stack.enter_context(closing(FolderLock(self.data_folder / "lock")))
        alone = lock.hold_alone()
        self.contents = Contents(self.files_folder)
        self.database = stack.enter_context(closing(Database(self.data_folder / "workbench.sqlite", _SCHEMAS)))
        if alone:
            self.contents.clean({row[0] for row in self.database.read("SELECT content_id FROM files")})
        lock.share()
        self.users = users.Users(self.database)
        user_id = self.users.user["_id"]
        self.folders = folders.Folders(self.database, self.contents, user_id)
        self.items = items.Items(self.database, self.contents, user_id)
        self.files = files.Files(self.database, self.contents, user_id)
        self.uploads = Uploads(self.database, self.contents, self.items, self.files, user_id)
        self.annotations = annotation_table.Annotations(self.database)
        self.connections = connections.Connections(self.database)
        self.interfaces = interfaces.Interfaces(self.database)
        self.jobs = jobs.Jobs(self.database)
        for name in ("Public", "Private"):
            self.folders.create(user_id, name, parent_type="user", public=name == "Public", reuse_existing=True)

    def close(self) -> None:
        """Close the database and give the folder up; nothing may use the store any more."""
        self._resources.close()
