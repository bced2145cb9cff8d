"""A node: a class that names a module and says how an image goes to its worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from external_modules.calls.connection import ProgressCallback
from external_modules.external_module import ExternalModule, Mode
from external_modules.module_places import find_module_folder

# A wish to stop belongs to one run of a host, which may run several nodes at once in threads.
_should_abort: ContextVar[Callable[[], bool] | None] = ContextVar("should_abort", default=None)


class ExternalModuleNode:
    """Base of the nodes. A subclass names its module and writes `process_image`.

    Making one costs nothing: the environment is looked for at the first call, so it can stand at the top of a script
    that a host loads often.

    Attributes:
        MODULE_NAME: name of the module's folder, which `find_module_folder` finds in the folders `modules` below
            $EXTERNAL_MODULES_PATH and beside this package; or its path.
        WORKER_SCRIPT: file name of the worker's script in it.
    """

    MODULE_NAME: ClassVar[str]
    WORKER_SCRIPT: ClassVar[str] = "worker.py"

    def __init__(
        self,
        *,
        mode: Mode = "server",
        timeout: float = 300.0,
        home: Path | None = None,
        progress: ProgressCallback | None = None,
        keep_folder: Path | None = None,
    ) -> None:
        """Remember the options; nothing is started.

        Args:
            mode: "server" keeps the worker alive between calls; "one-shot" starts one for every call.
            timeout: seconds that one call may take; making the environment does not count.
            home: where environments and logs are kept; None for the usual place.
            progress: is called with a fraction (0 to 1) and a text while an environment is made and a call computed,
                for example to print them: GA3 has no other place for it.
            keep_folder: where the files of a one-shot call stay, for a look at what went wrong; the next call
                replaces them.
        """
        self._options: dict[str, Any] = {
            "mode": mode,
            "timeout": timeout,
            "progress": progress,
            "keep_folder": keep_folder,
        }
        self._home = home
        self._module: ExternalModule | None = None

    @property
    def module(self) -> ExternalModule:
        """The module, found at the first use."""
        if self._module is None:
            self._module = ExternalModule(find_module_folder(self.MODULE_NAME), home=self._home)
        return self._module

    def process_image(self, image: NDArray[Any], **params: Any) -> Any:
        """Hand one image to the worker and return what comes back; a subclass writes it."""
        raise NotImplementedError(f"{type(self).__name__} needs a method process_image(self, image, **params)")

    def call_worker(self, script: str, /, **arguments: Any) -> Any:
        """Call the worker and wait for its result.

        Args:
            script: the worker's script, usually `self.WORKER_SCRIPT`.
            **arguments: what the worker's function takes: arrays, or values that JSON can hold.

        Returns:
            What the worker's function returned.

        Raises:
            ExternalModuleError: the kinds of it that `ExternalModule.call` raises.
        """
        return self.module.call_with(script, arguments, should_abort=_should_abort.get(), **self._options)

    def validate_environment(self, report: Callable[[str], Any] = print, **arguments: Any) -> bool:
        """Tell line by line what works: see `ExternalModule.validate_environment`."""
        return self.module.validate_environment(report, **arguments)

    def close(self) -> None:
        """End the worker, if there is one. The next call starts another."""
        if self._module is not None:
            self._module.close()


@contextmanager
def watching(should_abort: Callable[[], bool]) -> Iterator[None]:
    """Within it, `ExternalModuleNode.call_worker` gives a call up when `should_abort` returns True."""
    token = _should_abort.set(should_abort)
    try:
        yield
    finally:
        _should_abort.reset(token)
