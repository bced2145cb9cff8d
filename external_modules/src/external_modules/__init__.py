"""Heavy Python packages, each in a locked environment of its own, called from a host that must stay as it is.

The host is NIS-Elements or any other program with a Python of its own; nothing is installed into it.
"""

from __future__ import annotations

__version__ = "0.1.0"
