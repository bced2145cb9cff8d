"""Simulated fluorescence frames of condensates with exact label masks (numpy and scipy only).

The model behind a frame is physical: bodies with a given outline and brightness lie in cells of diffuse signal; the
scene is unevenly lit and blurred by the point spread function, photons are counted (Poisson), and a camera adds read
noise and an offset before it digitises. Brightness is relative: a typical body adds 1.0 to the diffuse signal there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from condensatenet.errors import InvalidOptionError

MIN_AREA = 15  # a body that shows fewer pixels (frame border, other bodies) is left out of the image and of the labels
BIT_DEPTHS = (8, 12, 16)

_HARMONICS = np.arange(2, 7)  # the first would only shift the outline
_PATCH_PIXELS = 1 << 20  # per batch of outlines that are worked out together
_TEXTURE_SIZE = 192
_SHARP_EDGE = 0.12  # cells with a sharper edge than this hold the bodies; softer ones are haze anywhere
_MAX_HIDDEN = 0.35  # a body that is hidden more than this is dropped rather than left as a sliver

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]
GreyImage = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class FrameStyle:
    """What all bodies of a frame, and the frame as a whole, have in common.

    Lengths are in pixels, areas in square pixels, levels relative to the brightness of a typical body.
    """

    median_area: float
    area_spread: float  # standard deviation of the logarithm of the area
    largest_area: float
    coverage: (
        float  # share of the frame, if no bodies overlapped; 0 for no bodies, otherwise at least one per sharp cell
    )
    clustering: float  # share of the bodies that touch one placed before them
    elongation: float  # typical ratio of the long to the short axis, minus 1
    irregularity: float  # relative amplitude of the outline's harmonics
    fused_share: float  # share of the bodies that are dumbbells: two that fused, now one instance
    brightness_spread: float  # standard deviation of the logarithm of the brightness
    rim: float  # brightness at the outline relative to the middle: 1 for a flat disk, 0 for a dome
    hollowness: float  # how much of the brightness is missing in the middle, as in a body with a vacuole
    texture: float  # relative brightness variations within a body
    texture_scale: float
    cell_radius: float
    cell_coverage: float  # share of the frame in cells or nuclei of diffuse signal, which are no instances; 0 for none
    cell_level: float
    cell_edge: float  # width of the edge relative to the radius; below 0.12 the bodies lie in the cells, else anywhere
    cell_void: float  # how much of the diffuse signal is missing in the middle of a cell, where its nucleus lies
    defocused_share: float  # number of out-of-focus spots, which are no instances, relative to the number of bodies
    background: float
    vignetting: float
    psf_sigma: float
    photons: float  # per pixel in a typical body
    read_noise: float  # in photons
    noise_blur: float  # sigma of a smoothing after detection, as resampled or denoised files have it; 0 for none
    bit_depth: int
    exposure: float  # grey value of a typical body relative to the largest; towards 1 and above, bodies are saturated
    offset: float  # grey value without light relative to that of a typical body; negative if black is cut off


def draw_style(rng: np.random.Generator) -> FrameStyle:
    """Draw the properties of a frame: condensates of 15-600 px or, in one frame of five, bodies of up to 4000 px."""

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    def sometimes(share: float, value: float) -> float:
        return value if rng.random() < share else 0.0

    large = rng.random() < 0.2
    median_area = log_uniform(250, 2200) if large else log_uniform(26, 420)
    radius = np.sqrt(median_area / np.pi)
    coverage = log_uniform(0.04, 0.7) if large else log_uniform(0.015, 0.5)
    in_cells = not large and rng.random() < 0.5
    soft_haze = not in_cells and rng.random() < 0.5
    cell_radius = log_uniform(max(13, 2.2 * radius), max(90, 6 * radius)) if in_cells else log_uniform(40, 150)
    cell_coverage = rng.uniform(0.05, 0.6) if in_cells or soft_haze else 0.0
    cell_level = log_uniform(0.06, 0.5) if in_cells else log_uniform(0.03, 0.12 if large else 0.6)
    if in_cells:
        cell_area = np.pi * cell_radius**2
        per_cell = log_uniform(2.5, max(4.0, 0.3 * cell_area / median_area))
        coverage = per_cell * median_area * cell_coverage / cell_area
    elif rng.random() < 0.08:
        coverage = float(rng.choice([0.0, 0.004]))
    bit_depth = int(rng.choice(BIT_DEPTHS))
    photons = log_uniform(15 + 60 * cell_level, 2500)
    return FrameStyle(
        median_area=median_area,
        area_spread=rng.uniform(0.1, 0.65),
        largest_area=4000.0 if large else 600.0,
        coverage=float(coverage),
        clustering=float(rng.choice([0.0, 0.2, 0.5, 0.8])),
        elongation=log_uniform(0.05, 0.8),
        irregularity=log_uniform(0.02, 0.2),
        fused_share=sometimes(0.5, rng.uniform(0.02, 0.2)),
        brightness_spread=rng.uniform(0.05, 0.8 if large else 0.6),
        rim=rng.uniform(0.35, 0.85),
        hollowness=sometimes(0.15, rng.uniform(0.1, 0.5)),
        texture=log_uniform(0.02, 0.3),
        texture_scale=rng.uniform(1.0, 2.0) * (1.6 if large else 1.0),
        cell_radius=cell_radius,
        cell_coverage=cell_coverage,
        cell_level=cell_level,
        cell_edge=rng.uniform(0.02, 0.1) if in_cells else rng.uniform(0.15, 0.3),
        cell_void=sometimes(0.2, rng.uniform(0.2, 0.7)) if cell_radius > 4 * radius else 0.0,
        defocused_share=sometimes(0.4, rng.uniform(0.05, 0.5)),
        background=log_uniform(0.005, 0.4),
        vignetting=sometimes(0.6, rng.uniform(0.1, 0.7)),
        psf_sigma=min(log_uniform(0.5, 2.5), 0.45 * float(radius)),
        photons=photons,
        read_noise=min(rng.uniform(0.3, 4), 0.08 * photons),
        noise_blur=sometimes(0.4, rng.uniform(0.4, 0.9)),
        bit_depth=bit_depth,
        exposure=log_uniform({8: 0.08, 12: 0.05, 16: 0.006}[bit_depth], 1.3),
        offset=rng.uniform(-0.03, 0.3),
    )


def simulate_frame(
    shape: tuple[int, int] = (256, 256),
    *,
    rng: np.random.Generator,
    style: FrameStyle | None = None,
    bit_depth: int | None = None,
) -> tuple[GreyImage, Labels]:
    """Simulate one frame and its label mask.

    Args:
        shape: Height and width in pixels.
        rng: Source of everything that is random; the same state gives the same frame.
        style: Properties of the frame; drawn by `draw_style` if not given.
        bit_depth: 8, 12 or 16, in place of the style's own.

    Returns:
        The image (H, W), uint8 for 8 bits and uint16 for 12 and 16, and the label mask (H, W) int32: 0 background, then
        1, 2, ... without gaps. A label holds the pixels of the body's own, unblurred outline; where bodies overlap, the
        one placed first keeps the pixels. Every instance is 4-connected and has at least `MIN_AREA` pixels.

    Raises:
        InvalidOptionError: The shape or the bit depth is not possible.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise InvalidOptionError(f"The frame shape {tuple(shape)} is not possible: give a height and a width above 0.")
    style = style or draw_style(rng)
    style = style if bit_depth is None else replace(style, bit_depth=bit_depth)
    if style.bit_depth not in BIT_DEPTHS:
        raise InvalidOptionError(f"A bit depth of {style.bit_depth} is not known: choose 8, 12 or 16.")

    scene = np.full(shape, style.background, np.float32)
    cells = _place_cells(shape, style, rng)
    _draw_cells(scene, cells, style, rng)
    bodies = _place_bodies(shape, style, cells, rng)
    _draw_defocused(scene, len(bodies.radius), style, rng)
    labels = _draw_bodies(scene, bodies, style, rng)
    _light_unevenly(scene, style, rng)
    ndimage.gaussian_filter(scene, style.psf_sigma, output=scene, mode="nearest")
    return _detect(scene, style, rng), labels


def simulate_dataset(
    count: int, shape: tuple[int, int] = (256, 256), *, seed: int = 0
) -> Iterator[tuple[GreyImage, Labels]]:
    """Simulate `count` frames, each as `simulate_frame` returns it; frame i depends on the seed, the shape and i only.

    Raises:
        InvalidOptionError: The count or the seed is negative.
    """
    if count < 0 or seed < 0:
        raise InvalidOptionError(f"Give a count and a seed of 0 or more, not {count} and {seed}.")
    return (simulate_frame(shape, rng=np.random.default_rng([seed, index])) for index in range(count))


@dataclass(frozen=True)
class _Outlines:
    """Closed curves: an ellipse (n,) whose radius is modulated by harmonics of the polar angle (n, 5)."""

    y: Float64
    x: Float64
    radius: Float64
    stretch: Float64
    angle: Float64
    harmonics: npt.NDArray[np.complex128]


def _draw_outlines(
    y: Float64,
    x: Float64,
    radius: Float64,
    rng: np.random.Generator,
    elongation: float,
    bumps: float,
    fused: float = 0.0,
) -> _Outlines:
    """Random outlines that enclose the areas of disks of the given radii."""
    count = len(radius)
    stretch = np.sqrt(1 + elongation * np.minimum(rng.gamma(2.0, 0.5, count), 3))
    # Steeply falling harmonics make a droplet; flat ones would make a star.
    amplitude = bumps * rng.rayleigh(1.0, (count, len(_HARMONICS))) * (2.5 / _HARMONICS) ** 2
    amplitude[:, 0] *= 0.5  # the ellipse has it already
    amplitude *= np.minimum(1, 0.45 / np.maximum(amplitude.sum(axis=1, keepdims=True), 1e-9))
    dumbbells = rng.random(count) < fused
    amplitude[dumbbells, 0] = rng.uniform(0.22, 0.38, dumbbells.sum())
    stretch[dumbbells] = np.minimum(stretch[dumbbells], 1.1)
    harmonics = amplitude * np.exp(2j * np.pi * rng.random(amplitude.shape))
    radius = radius / np.sqrt(1 + (amplitude**2).sum(axis=1) / 2)
    return _Outlines(y, x, radius, stretch, rng.uniform(0, np.pi, count), harmonics)


def _polar_patches(
    outlines: _Outlines, shape: tuple[int, int], margin: float = 1.0
) -> Iterator[tuple[int, tuple[slice, slice], Float32]]:
    """For each outline that meets the frame: its number, where its patch lies, and the scaled distances there.

    The distance is 0 at the centre and 1 on the outline; a patch reaches at least as far as `margin`.
    """
    farthest = outlines.radius * outlines.stretch * (1 + np.abs(outlines.harmonics).sum(axis=1))
    half = np.ceil(farthest * margin).astype(int) + 1
    chunk = max(1, min(512, _PATCH_PIXELS // int((2 * half.max(initial=1) + 1) ** 2)))
    centre_y, centre_x = np.rint(outlines.y).astype(int), np.rint(outlines.x).astype(int)
    for start in range(0, len(half), chunk):
        numbers = np.arange(start, min(start + chunk, len(half)))
        # Patches of one size are worked out together; sizes are rounded up so that there are few of them.
        size = np.ceil(half[numbers] / 4).astype(int) * 4
        patches: dict[int, Float32] = {}
        for common in np.unique(size):
            members = numbers[size == common]
            grid = np.arange(-common, common + 1)
            dy = (grid[None, :] - (outlines.y - centre_y)[members, None]).astype(np.float32)
            dx = (grid[None, :] - (outlines.x - centre_x)[members, None]).astype(np.float32)
            turned = (dx[:, None, :] + 1j * dy[:, :, None]) * np.exp(-1j * outlines.angle[members])[:, None, None]
            radius, stretch = outlines.radius[members, None, None], outlines.stretch[members, None, None]
            position = ((turned.real / stretch + 1j * turned.imag * stretch) / radius).astype(np.complex64)
            distance = np.abs(position)
            direction = position / np.maximum(distance, np.float32(1e-6))
            outline, power = np.ones_like(distance), direction
            for column in range(len(_HARMONICS)):
                power = power * direction
                outline += (power * outlines.harmonics[members, column, None, None].astype(np.complex64)).real
            patches.update(zip(members.tolist(), distance / outline, strict=True))
        for number in numbers.tolist():
            patch = patches[number]
            top, left = int(centre_y[number]) - len(patch) // 2, int(centre_x[number]) - len(patch) // 2
            y0, y1 = max(top, 0), min(top + len(patch), shape[0])
            x0, x1 = max(left, 0), min(left + len(patch), shape[1])
            if y0 < y1 and x0 < x1:
                yield number, (slice(y0, y1), slice(x0, x1)), patch[y0 - top : y1 - top, x0 - left : x1 - left]


class _Texture:
    """Smooth periodic noise around 1, of which every patch takes a piece from a random place."""

    def __init__(self, strength: float, scale: float, rng: np.random.Generator) -> None:
        noise = rng.standard_normal((_TEXTURE_SIZE, _TEXTURE_SIZE), dtype=np.float32)
        noise = ndimage.gaussian_filter(noise, scale, mode="wrap")
        self._noise: Float32 = np.clip(1 + noise * (strength / noise.std()), 0.3, 1.7)
        self._rng = rng

    def piece(self, shape: tuple[int, ...]) -> Float32:
        rows, columns = (np.arange(side) + self._rng.integers(_TEXTURE_SIZE) for side in shape)
        piece: Float32 = self._noise[np.ix_(rows % _TEXTURE_SIZE, columns % _TEXTURE_SIZE)]
        return piece


def _place_cells(shape: tuple[int, int], style: FrameStyle, rng: np.random.Generator) -> _Outlines:
    """Cells on a jittered grid of random direction, which keeps them apart without looking regular."""
    radius = style.cell_radius
    if style.cell_coverage <= 0:
        return _draw_outlines(np.zeros(0), np.zeros(0), np.zeros(0), rng, 0, 0)
    kept = rng.uniform(0.6, 1.0)
    spacing = max(radius * np.sqrt(np.pi * kept / style.cell_coverage), 2.0 * radius)
    steps = np.arange(-0.5 * np.hypot(*shape) - spacing, 0.5 * np.hypot(*shape) + 2 * spacing, spacing)
    position = (steps[:, None] - spacing * rng.random()) + 1j * (steps - spacing * rng.random())
    position[1::2] += 0.5j * spacing
    position = position.ravel() * np.exp(2j * np.pi * rng.random()) + (shape[0] + 1j * shape[1]) / 2
    jitter = 0.6 * (spacing - 2 * radius) + 0.25 * radius
    y = position.real + rng.uniform(-jitter, jitter, position.shape)
    x = position.imag + rng.uniform(-jitter, jitter, position.shape)
    radii = radius * np.exp(rng.normal(0, 0.12, y.shape))
    visible = (y > -radii) & (y < shape[0] + radii) & (x > -radii) & (x < shape[1] + radii)
    visible &= rng.random(y.shape) < kept
    elongation = 0.5 if style.cell_edge < _SHARP_EDGE else 1.5
    return _draw_outlines(y[visible], x[visible], radii[visible], rng, elongation, 0.06)


def _draw_cells(scene: Float32, cells: _Outlines, style: FrameStyle, rng: np.random.Generator) -> None:
    texture = _Texture(0.4 * style.texture, style.texture_scale * 1.5, rng)
    levels = style.background + style.cell_level * np.exp(rng.normal(0, 0.3, len(cells.radius)))
    for number, where, distance in _polar_patches(cells, scene.shape, 1 + 4 * style.cell_edge):
        signal = levels[number] / (1 + np.exp(np.minimum((distance - 1) / style.cell_edge, 30)))
        if style.cell_void:
            signal *= 1 - style.cell_void / (1 + np.exp(np.minimum((distance - 0.45) / 0.06, 30)))
        scene[where] = np.maximum(scene[where], signal * texture.piece(signal.shape))


def _place_bodies(shape: tuple[int, int], style: FrameStyle, cells: _Outlines, rng: np.random.Generator) -> _Outlines:
    mean_area = style.median_area * np.exp(style.area_spread**2 / 2)
    count = int(rng.poisson(style.coverage * shape[0] * shape[1] / mean_area))
    in_cells = len(cells.radius) > 0 and style.cell_edge < _SHARP_EDGE
    if in_cells and style.coverage > 0:
        count = max(count, len(cells.radius))
    area = style.median_area * np.exp(rng.normal(0, style.area_spread, count))
    radius = np.sqrt(np.clip(area, 1.1 * MIN_AREA, style.largest_area) / np.pi)
    settled = 0
    if in_cells:
        # One body for each cell first: an empty nucleus, sharp and evenly bright, could as well be a large body.
        home = rng.integers(0, len(cells.radius), count)
        settled = min(count, len(cells.radius))
        home[:settled] = np.arange(settled)
        outer = np.clip(1 - 1.1 * radius / cells.radius[home], 0.05, 0.85)
        inner = np.minimum(0.5, 0.9 * outer) if style.cell_void else 0 * outer
        distance = np.sqrt(rng.uniform(inner**2, outer**2)) * cells.radius[home]
        spot = distance * np.exp(2j * np.pi * rng.random(count))
        spot = (spot.real * cells.stretch[home] + 1j * spot.imag / cells.stretch[home]) * np.exp(1j * cells.angle[home])
        y, x = cells.y[home] + spot.imag, cells.x[home] + spot.real
        clustering = 0.5 * style.clustering
    else:
        y, x = (rng.uniform(-radius, side + radius) for side in shape)
        clustering = style.clustering
    # Each clustered body touches one placed before it, so clusters grow to very different sizes.
    clustered = settled + np.flatnonzero(rng.random(count - settled) < clustering)
    partner = (rng.random(len(clustered)) * clustered).astype(int)
    contact = rng.uniform(0.85, 1.08, len(clustered)) * (radius[clustered] + radius[partner])
    heading = np.exp(2j * np.pi * rng.random(len(clustered)))
    for child, parent, step in zip(clustered.tolist(), partner.tolist(), (contact * heading).tolist(), strict=True):
        y[child], x[child] = y[parent] + step.imag, x[parent] + step.real
    return _draw_outlines(y, x, radius, rng, style.elongation, style.irregularity, style.fused_share)


def _draw_defocused(scene: Float32, bodies: int, style: FrameStyle, rng: np.random.Generator) -> None:
    """Add wide, faint spots: bodies far above or below the focal plane, which nobody would outline."""
    count = int(rng.poisson(min(style.defocused_share * bodies, scene.size / 1600)))
    y, x = (rng.uniform(0, side, count) for side in scene.shape)
    radius = np.maximum(8.0, np.sqrt(style.median_area / np.pi) * rng.uniform(2, 4.5, count))
    peak = rng.uniform(0.04, 0.25, count)
    for number, where, distance in _polar_patches(_draw_outlines(y, x, radius, rng, 0.3, 0), scene.shape, 1.8):
        scene[where] += (peak[number] * np.exp(-2 * distance**2)).astype(np.float32)


def _draw_bodies(scene: Float32, bodies: _Outlines, style: FrameStyle, rng: np.random.Generator) -> Labels:
    """Add the bodies to the scene, first come first served, and return their labels."""
    labels = np.zeros(scene.shape, np.int32)
    count = len(bodies.radius)
    texture = _Texture(style.texture, style.texture_scale, rng)
    # A body not much wider than the point spread function would fade away; annotators outline those that did not.
    faded = 1 - np.exp(-(bodies.radius**2) / (2 * style.psf_sigma**2))
    faintest = max(0.3, 0.7 * style.cell_level if style.cell_coverage > 0 else 0.0)
    brightness = np.maximum(np.exp(rng.normal(0, style.brightness_spread, count)), faintest) / np.maximum(faded, 0.3)
    placed = 0
    for number, where, distance in _polar_patches(bodies, scene.shape):
        inside = distance <= 1
        own = _largest_part(inside & (labels[where] == 0))
        if np.count_nonzero(own) < max(MIN_AREA, (1 - _MAX_HIDDEN) * np.count_nonzero(inside)):
            continue
        placed += 1
        labels[where][own] = placed
        square = distance[own] ** 2
        profile = style.rim + (1 - style.rim) * (1 - square) - style.hollowness * np.exp(-6 * square)
        scene[where][own] += brightness[number] * profile * texture.piece(own.shape)[own]
    return labels


def _largest_part(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    parts, count = ndimage.label(mask)
    return mask if count < 2 else parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1


def _light_unevenly(scene: Float32, style: FrameStyle, rng: np.random.Generator) -> None:
    rows, columns = (
        (np.linspace(0, 1, side, dtype=np.float32) - np.float32(rng.uniform(0.1, 0.9))) ** 2 for side in scene.shape
    )
    scene /= 1 + np.float32(1.5 * style.vignetting) * (rows[:, None] + columns)


def _detect(scene: Float32, style: FrameStyle, rng: np.random.Generator) -> GreyImage:
    """Turn the expected signal, in place, into what a camera reads and a file holds."""
    for start in range(0, len(scene), 256):  # in parts, because the photon counts come as 64-bit integers
        block = scene[start : start + 256]
        counts = rng.poisson(block * np.float32(style.photons)).astype(np.float32)
        counts += style.read_noise * rng.standard_normal(block.shape, dtype=np.float32)
        block[...] = counts / np.float32(style.photons)
    if style.noise_blur:
        ndimage.gaussian_filter(scene, style.noise_blur, output=scene, mode="nearest")
    largest = (1 << style.bit_depth) - 1
    scene += np.float32(style.offset)
    scene *= np.float32(style.exposure * largest)
    np.clip(np.rint(scene, out=scene), 0, largest, out=scene)
    return scene.astype(np.uint8) if style.bit_depth == 8 else scene.astype(np.uint16)
