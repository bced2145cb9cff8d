"""Who may speak to the server: the token printed at start, and one for each running job."""

from __future__ import annotations

import hmac
import threading


class Tokens:
    """A set of secrets, kept in memory only."""

    def __init__(self) -> None:
        self._tokens: frozenset[bytes] = frozenset()
        self._lock = threading.Lock()

    def add(self, token: str) -> None:
        """Accept a token from now on."""
        with self._lock:
            self._tokens |= {token.encode()}

    def discard(self, token: str) -> None:
        """Accept a token no longer."""
        with self._lock:
            self._tokens -= {token.encode()}

    def accept(self, token: str) -> bool:
        """Say whether a token is known, in a time that tells nothing about the ones that are."""
        given = token.encode("utf-8", "replace")
        known = False
        for secret in self._tokens:
            known |= hmac.compare_digest(given, secret)
        return known
