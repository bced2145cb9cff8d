"""From an image to instances in one call: normalise, run the network, group the pixels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from condensatenet.devices import get_device
from condensatenet.errors import InvalidModelError, InvalidOptionError, ModelNotFoundError
from condensatenet.files.model_directory import CONFIG_FILE, load_network, read_config
from condensatenet.files.pretrained import MODELS_DIR, PRETRAINED, find_pretrained
from condensatenet.inference.instances import (
    FLOW_STEPS,
    MAX_SIZE,
    MIN_SIZE,
    PROB_THRESHOLD,
    STEP_SCALE,
    Grouping,
    flow_to_instances,
)
from condensatenet.inference.normalize import HIGH_PERCENTILE, LOW_PERCENTILE, check_image, normalize_image

if TYPE_CHECKING:
    from condensatenet.inference.tiles import ProgressCallback
    from condensatenet.network.model import CondensateNet

SMALLEST_TILE = 64


@dataclass(frozen=True)
class SegmentationSettings:
    """How an image is segmented; every value can be given to the pipeline or to one call of `segment`.

    Attributes:
        low_percentile, high_percentile: percentiles (0 to 100) of the image's intensities that become 0 and 1.
        prob_threshold: pixels with a higher foreground probability belong to instances.
        min_size, max_size: smallest and largest area in pixels of an instance.
        flow_steps, step_scale: see `flow_to_instances`; of the exact grouping only.
        grouping: "merged" joins neighbouring end points and splits fewer objects; "exact" repeats the original
            CondensateNet.
        tile_size: side in pixels of the tiles in which large frames are computed; None computes any frame in one piece.
        overlap: part of a tile (0 to 0.5) that it shares with the next one; at least 64 pixels are shared.
    """

    low_percentile: float = LOW_PERCENTILE
    high_percentile: float = HIGH_PERCENTILE
    prob_threshold: float = PROB_THRESHOLD
    min_size: int = MIN_SIZE
    max_size: int = MAX_SIZE
    flow_steps: int = FLOW_STEPS
    step_scale: float = STEP_SCALE
    grouping: Grouping = "merged"
    tile_size: int | None = 1024
    overlap: float = 0.1

    def __post_init__(self) -> None:
        for name in (entry.name for entry in fields(self) if entry.name != "grouping"):
            value, whole = getattr(self, name), name in ("flow_steps", "tile_size")
            if value is None and name == "tile_size":
                continue
            if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
                raise InvalidOptionError(f"{name} must be a {'whole ' if whole else ''}number, not {value!r}")
        if not 0 <= self.low_percentile < self.high_percentile <= 100:
            raise InvalidOptionError(
                f"percentiles must satisfy 0 <= low < high <= 100, not {self.low_percentile} and {self.high_percentile}"
            )
        if not 0 <= self.prob_threshold <= 1:
            raise InvalidOptionError(f"prob_threshold must be from 0 to 1, not {self.prob_threshold}")
        if not 0 <= self.min_size <= self.max_size:
            raise InvalidOptionError(
                f"sizes must satisfy 0 <= min_size <= max_size, not {self.min_size} and {self.max_size}"
            )
        if self.flow_steps < 0 or not self.step_scale > 0:
            raise InvalidOptionError(
                "flow_steps must not be negative and step_scale must be positive, "
                f"not {self.flow_steps} and {self.step_scale}"
            )
        if self.grouping not in ("merged", "exact"):
            raise InvalidOptionError(f"grouping must be 'merged' or 'exact', not {self.grouping!r}")
        if self.tile_size is not None and self.tile_size < SMALLEST_TILE:
            raise InvalidOptionError(f"tile_size must be at least {SMALLEST_TILE} pixels, not {self.tile_size}")
        if not 0 <= self.overlap <= 0.5:
            raise InvalidOptionError(f"overlap must be from 0 to 0.5, not {self.overlap}")

    def with_options(self, options: dict[str, Any]) -> SegmentationSettings:
        """Return these settings with some of them replaced; None leaves a value as it is, except for `tile_size`."""
        unknown = sorted(options.keys() - {entry.name for entry in fields(self)})
        if unknown:
            raise InvalidOptionError(
                f"unknown option {unknown[0]!r}; there are {', '.join(entry.name for entry in fields(self))}"
            )
        return replace(
            self, **{name: value for name, value in options.items() if value is not None or name == "tile_size"}
        )


class CondensateNetPipeline:
    """A network on a device with its segmentation settings.

    A model that was trained here carries its own `min_size` and `max_size`, which are the defaults for it.
    """

    def __init__(self, network: CondensateNet, config: dict[str, Any], **options: Any) -> None:
        self.network = network
        self.config = config
        self.settings = _settings_of(config, options)

    @classmethod
    def from_local(
        cls, model_path: str | os.PathLike[str], device: str | None = None, **options: Any
    ) -> CondensateNetPipeline:
        """Load a model directory (`config.json`, `model.safetensors`); `options` are fields of `SegmentationSettings`.

        Raises:
            ModelNotFoundError, InvalidModelError: there is no usable model in the directory.
            InvalidOptionError: an option is unknown or out of range, or the device is not there.
        """
        _settings_of(read_config(model_path), options)  # what is wrong with the options is said before torch is loaded
        network, config = load_network(model_path, get_device(device))
        return cls(network, config, **options)

    @classmethod
    def from_pretrained(
        cls, repo_id: str | os.PathLike[str] = PRETRAINED, device: str | None = None, **options: Any
    ) -> CondensateNetPipeline:
        """Load a model by name: "pretrained", a downloaded model, a directory, or a repository of the Hugging Face hub.

        A repository ("owner/name") that is not here yet is downloaded first.

        Raises:
            ModelNotFoundError, InvalidModelError, InvalidOptionError: see `from_local`.
            DownloadError: the repository could not be downloaded.
        """
        return cls.from_local(find_or_download(repo_id), device, **options)

    @property
    def device(self) -> str:
        """Name of the device that the network is on."""
        return str(next(self.network.parameters()).device)

    def preprocess(self, image: ArrayLike, **options: Any) -> NDArray[np.float32]:
        """Return the network's input (H, W) float32 in [0, 1] for an image."""
        settings = self.settings.with_options(options)
        return normalize_image(image, settings.low_percentile, settings.high_percentile)

    def predict(
        self, normalized: NDArray[np.float32], *, progress_callback: ProgressCallback | None = None, **options: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return foreground probabilities (H, W) and flows (2, H, W), both float32, of a normalised image (H, W)."""
        from condensatenet.inference.tiles import predict_frame

        settings = self.settings.with_options(options)
        return predict_frame(
            self.network,
            normalized,
            tile_size=settings.tile_size,
            overlap=settings.overlap,
            progress_callback=progress_callback,
        )

    def postprocess(
        self, mask_probs: NDArray[np.float32], flows: NDArray[np.float32], **options: Any
    ) -> NDArray[np.int32]:
        """Return the instances (H, W) int32 that probabilities (H, W) and flows (2, H, W) stand for."""
        settings = self.settings.with_options(options)
        return flow_to_instances(
            mask_probs,
            flows,
            settings.prob_threshold,
            settings.min_size,
            settings.max_size,
            settings.flow_steps,
            settings.step_scale,
            grouping=settings.grouping,
        )

    @overload
    def segment(
        self,
        image: ArrayLike,
        full_output: Literal[False] = False,
        skip_preprocessing: bool = False,
        *,
        progress_callback: ProgressCallback | None = None,
        **options: Any,
    ) -> NDArray[np.int32]: ...

    @overload
    def segment(
        self,
        image: ArrayLike,
        full_output: Literal[True],
        skip_preprocessing: bool = False,
        *,
        progress_callback: ProgressCallback | None = None,
        **options: Any,
    ) -> dict[str, Any]: ...

    def segment(
        self,
        image: ArrayLike,
        full_output: bool = False,
        skip_preprocessing: bool = False,
        *,
        progress_callback: ProgressCallback | None = None,
        **options: Any,
    ) -> NDArray[np.int32] | dict[str, Any]:
        """Find the instances in an image.

        Args:
            image: (H, W) or (H, W, 1), any integer or floating dtype and any size.
            full_output: return a dictionary with `instances`, `mask_probs` (H, W), `flows` (2, H, W) and
                `num_instances`.
            skip_preprocessing: the image is normalised to [0, 1] already.
            progress_callback: called with the finished fraction and a message.
            options: fields of `SegmentationSettings` for this call.

        Returns:
            (H, W) int32 label mask, 0 on background, or the dictionary.

        Raises:
            InvalidImageError: the image is empty, is not one 2-D channel, or holds NaN or infinity.
            InvalidOptionError: an option is unknown or out of range.
            OutOfMemoryError: the device's memory does not suffice.
        """
        settings = self.settings.with_options(options)
        if skip_preprocessing:
            normalized = np.clip(check_image(image), 0, 1, dtype=np.float32)
        else:
            normalized = normalize_image(image, settings.low_percentile, settings.high_percentile)
        if normalized.min() == normalized.max():  # a constant image shows nothing, whatever the network makes of it
            mask_probs, flows = np.zeros_like(normalized), np.zeros((2, *normalized.shape), np.float32)
        else:
            mask_probs, flows = self.predict(normalized, progress_callback=progress_callback, **options)
        del normalized
        instances = self.postprocess(mask_probs, flows, **options)
        if not full_output:
            return instances
        return {
            "instances": instances,
            "mask_probs": mask_probs,
            "flows": flows,
            "num_instances": int(instances.max(initial=0)),
        }


def _settings_of(config: Mapping[str, Any], options: dict[str, Any]) -> SegmentationSettings:
    """Return the settings of a model under a user's options."""
    try:
        learnt = SegmentationSettings().with_options({name: config.get(name) for name in ("min_size", "max_size")})
    except InvalidOptionError as error:
        raise InvalidModelError(f"{CONFIG_FILE}: {error}; copy the model again") from error
    return learnt.with_options(options)


def find_or_download(source: str | os.PathLike[str]) -> Path:
    """Return the directory of a model, named as in `CondensateNetPipeline.from_pretrained`; download it if need be."""
    from condensatenet.files.pretrained import find_model

    try:
        return find_pretrained() if source == PRETRAINED else find_model(source)
    except ModelNotFoundError:
        if not isinstance(source, str) or source.count("/") != 1 or source.startswith((".", "/", "~")):
            raise
    from condensatenet.files.download import download_model

    return download_model(MODELS_DIR / source.split("/")[1], source)
