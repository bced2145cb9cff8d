"""Where modules are looked for that are only named."""

from __future__ import annotations

import os
from pathlib import Path

from external_modules.errors import InvalidModuleError

PATH_VARIABLE = "EXTERNAL_MODULES_PATH"


def module_places() -> list[Path]:
    """Return the folders that may hold modules: `modules` below the folder that $EXTERNAL_MODULES_PATH names, `modules`
    of the tree that this package lies in, and those that came with an installed package. They need not be there.
    """
    named = os.environ.get(PATH_VARIABLE)
    package = Path(__file__).resolve().parent
    roots = ([Path(os.path.abspath(named))] if named else []) + [package.parents[1], package]
    return list(dict.fromkeys(root / "modules" for root in roots))


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
