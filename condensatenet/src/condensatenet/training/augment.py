"""Changes that make one annotated crop into many: flips and rotations, zoom, and intensities.

Geometry acts on image, labels and flows together, and on flows as on vectors; intensity changes act on the image alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

DIHEDRAL_COUNT = 8


def transform_dihedral(array: NDArray[Any], element: int) -> NDArray[Any]:
    """Apply one of the eight flips and rotations to the last two axes of a scalar array.

    `element` 0-3 rotates counter-clockwise by that many quarter turns; 4-7 mirrors left-right first.
    """
    if element >= 4:
        array = array[..., ::-1]
    return np.rot90(array, element % 4, axes=(-2, -1))


def transform_flows(flows: NDArray[np.float32], element: int) -> NDArray[np.float32]:
    """Apply one of the eight flips and rotations to a flow field (2, H, W): pixels move, and vectors turn with them."""
    dy, dx = transform_dihedral(flows, element)
    if element >= 4:
        dx = -dx
    for _ in range(element % 4):
        # A counter-clockwise quarter turn takes "to the right" to "up" and "down" to "to the right".
        dy, dx = -dx, dy
    return np.stack([dy, dx])


def resample(array: NDArray[Any], size: int) -> NDArray[Any]:
    """Resize the last two (equal) axes to `size` pixels; each takes the value of the pixel that its centre lies in."""
    index = ((np.arange(size) + 0.5) * (array.shape[-1] / size)).astype(np.intp)
    return array[..., index[:, None], index]


def resample_image(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Resize a square image to `size` pixels, linearly, averaging over pixels where it shrinks."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def vary_intensity(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a normalised image as another exposure, focus or detector might have shown it; values stay in [0, 1]."""
    if rng.random() < 0.3:
        image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.2))
    if rng.random() < 0.7:
        image = image ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    gain, offset = np.exp(rng.uniform(-0.5, 0.4)), rng.uniform(-0.08, 0.08)
    image = image * np.float32(gain) + np.float32(offset)
    if rng.random() < 0.5:
        noise = rng.standard_normal(image.shape, np.float32)
        image = image + noise * np.float32(rng.uniform(0.0, 0.06))
    return np.clip(image, 0, 1)
