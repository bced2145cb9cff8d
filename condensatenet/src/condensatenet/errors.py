"""Every error that this package raises on purpose; the text of each says what to do next."""

from __future__ import annotations


class CondensateNetError(Exception):
    """Base of all errors below, so that a caller can catch them together."""


class InvalidImageError(CondensateNetError, ValueError):
    """An image cannot be segmented or trained on as it is."""


class InvalidLabelsError(CondensateNetError, ValueError):
    """A label mask does not fit its image or holds values that mean nothing."""


class InvalidOptionError(CondensateNetError, ValueError):
    """A number or name that the user chose is outside what is allowed."""


class InvalidModelError(CondensateNetError, ValueError):
    """A model directory is damaged, incomplete or of an unknown kind."""


class ModelNotFoundError(CondensateNetError, FileNotFoundError):
    """There is no model where one was asked for."""


class TrainingError(CondensateNetError):
    """Training cannot start or go on."""


class TrainingStopped(CondensateNetError):
    """Training was asked to stop and left a state from which it can be resumed."""


class DownloadError(CondensateNetError):
    """A model could not be downloaded completely."""


class OutOfMemoryError(CondensateNetError):
    """The device ran out of memory even with the smallest tiles."""
