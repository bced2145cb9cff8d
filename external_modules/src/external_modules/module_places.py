"""Where modules are looked for that are only named."""

from __future__ import annotations

import os
from pathlib import Path

from external_modules.errors import InvalidModuleError
from external_modules.home import default_home

PATH_VARIABLE = "EXTERNAL_MODULES_PATH"


_PACKAGE = Path(__file__).resolve().parent


def module_places() -> list[Path]:
    """Return the folders that may hold modules: `modules` below the folder that $EXTERNAL_MODULES_PATH names, `modules`
    of the tree that this package lies in, the user's own, and those that came with an installed package. They need not
    be there.
    """
    return list(dict.fromkeys(root / "modules" for root in [*_named(), _PACKAGE.parents[1], default_home(), _PACKAGE]))


def place_for_new_modules() -> Path:
    """Return the first of `module_places` for a user's own modules; it need not be there.

    It is never that of an installed package, with which they would go.
    """
    tree = _PACKAGE.parents[1]
    root = next(iter(_named()), tree if (tree / "modules").is_dir() else default_home())
    return root / "modules"


def _named() -> list[Path]:
    named = os.environ.get(PATH_VARIABLE)
    return [Path(os.path.abspath(named))] if named else []


def find_module_folder(name: str | Path) -> Path:
    """Return the folder of a module.

    Args:
        name: a path of the folder, or only its name; then it is looked for in `module_places`.

    Raises:
        InvalidModuleError: it is in neither place.
    """
    path = Path(name).expanduser()
    places = [path] if len(path.parts) > 1 else [folder / path for folder in module_places()]
    for place in places:
        if place.is_dir():
            return place
    raise InvalidModuleError(
        f"There is no module {str(name)!r}. Looked for: {', '.join(str(place) for place in places)}. Check MODULE_NAME "
        f"of the node, and that {PATH_VARIABLE} is the folder that holds the folder 'modules'."
    )
