"""The network over whole frames: the tile grid, the blend of outputs, and what happens when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deeptile
import numpy as np
import pytest
import torch
from deeptile.extensions.stitch import stitch_image
from numpy.typing import NDArray
from scipy.special import expit
from thin_network import random_network

from condensatenet.errors import OutOfMemoryError
from condensatenet.inference import tiles
from condensatenet.inference.tiles import blending_taper, predict_array, predict_frame, tile_grid
from condensatenet.network.model import CondensateNet

Float32 = NDArray[np.float32]


def frame(shape: tuple[int, int], seed: int = 0) -> Float32:
    return np.random.default_rng(seed).random(shape, np.float32)


class Answer(torch.nn.Module):
    """A network that answers with a function of its input, where a test is about tiles and not about networks."""

    def __init__(self, answer: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.answer = answer
        self.device = torch.nn.Parameter(torch.zeros(1))
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        self.sizes.append(tuple(x.shape[-2:]))
        value = self.answer(x)
        return {"mask": value, "flows": torch.cat([-value, 2 * value], 1)}


# ---- the grid


GRIDS = [
    ((1, 1), 64, 0.1),
    ((33, 5), 64, 0.1),
    ((64, 64), 64, 0.1),
    ((65, 65), 64, 0.1),
    ((200, 300), 64, 0.0),
    ((200, 300), 64, 0.5),
    ((129, 128), 64, 0.25),
    ((1025, 40), 1024, 0.1),  # narrower than the overlap
    ((3, 700), 256, 0.33),
    ((700, 1100), 500, 0.1),
]


@pytest.mark.parametrize(("shape", "tile_size", "overlap"), GRIDS)
def test_grid_covers_the_frame_and_nothing_else(shape: tuple[int, int], tile_size: int, overlap: float) -> None:
    covered = np.zeros(shape, int)
    for rows, columns in tile_grid(shape, tile_size, overlap):
        assert 0 <= rows.start < rows.stop <= shape[0] and 0 <= columns.start < columns.stop <= shape[1]
        assert rows.stop - rows.start <= tile_size and columns.stop - columns.start <= tile_size
        covered[rows, columns] += 1
    assert covered.min() == 1
    assert covered.max() == (1 if overlap == 0 else 2 ** sum(length > tile_size for length in shape))


def test_grid_is_deeptiles() -> None:
    image = frame((150, 210))
    theirs = deeptile.load(image).get_tiles((64, 64), (0.1, 0.1))
    ours = [image[rows, columns] for rows, columns in tile_grid((150, 210), 64, 0.1)]
    assert len(ours) == theirs.size == 12
    for mine, expected in zip(ours, theirs.ravel(), strict=True):
        np.testing.assert_array_equal(mine, expected)


# ---- the blend


@pytest.mark.parametrize(("tile_size", "overlap"), [(64, 0.5), (160, 0.4), (201, 0.35), (128, 0.5)])
def test_blend_is_deeptiles(network: CondensateNet, tile_size: int, overlap: float) -> None:
    image = frame((150, 270))
    tiled = deeptile.load(image).get_tiles((tile_size, tile_size), (overlap, overlap))
    # DeepTile stitches tiles of one size, so those at the far borders are filled up.
    outputs = np.empty(tiled.shape, object)
    for index, tile in np.ndenumerate(np.asarray(tiled)):
        output = predict_array(network, np.ascontiguousarray(tile))
        margins = [(0, tile_size - length) for length in output.shape[1:]]
        outputs[index] = np.pad(output, [(0, 0), *margins], constant_values=np.nan)
    lifted = deeptile.lift(lambda tile: outputs[tuple(np.argwhere([[t is tile for t in row] for row in tiled])[0])])
    stitched = stitch_image(lifted(tiled), blend=True, sigma=tile_size * overlap / 6)
    probabilities, flows = predict_frame(network, image, tile_size=tile_size, overlap=overlap)
    # The relative tolerance is for the frame's corners: the weights there are small, and DeepTile adds 1e-7 to them.
    np.testing.assert_allclose(probabilities, expit(stitched[0]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(flows, stitched[1:], rtol=1e-4, atol=1e-5)
    assert flows.std() > 0.1


@pytest.mark.parametrize(("shape", "tile_size", "overlap"), GRIDS)
def test_what_is_the_same_in_all_tiles_is_the_same_in_the_frame(
    shape: tuple[int, int], tile_size: int, overlap: float
) -> None:
    image = frame(shape)
    probabilities, flows = predict_frame(Answer(torch.Tensor.clone), image, tile_size=tile_size, overlap=overlap)
    np.testing.assert_allclose(probabilities, expit(image), rtol=1e-5)
    np.testing.assert_allclose(flows, np.stack([-image, 2 * image]), rtol=1e-5)
    assert probabilities.dtype == flows.dtype == np.float32


def test_seam_is_smooth() -> None:
    # Every tile answers with its own mean: left of the overlap 0, right of it 1, between them a slope.
    image = np.zeros((64, 120), np.float32)
    image[:, 64:] = 1
    network = Answer(lambda x: x.mean((2, 3), keepdim=True).expand_as(x).clone())
    _, flows = predict_frame(network, image, tile_size=64, overlap=0.125)
    step = np.diff(flows[1, 0])
    assert (step >= -1e-6).all()
    assert flows[1, 0, 0] < 0.01 and flows[1, 0, -1] > 1.5
    assert step.max() < 0.35 * (flows[1, 0, -1] - flows[1, 0, 0])


@pytest.mark.parametrize(("tile_size", "least"), [(64, 0.5), (128, 0.5), (160, 0.4)])
def test_tiles_share_at_least_64_pixels(network: CondensateNet, tile_size: int, least: float) -> None:
    image = frame((60, 270))
    expected = predict_frame(network, image, tile_size=tile_size, overlap=least)
    for overlap in (0.0, 0.1, least):
        found = predict_frame(network, image, tile_size=tile_size, overlap=overlap)
        np.testing.assert_array_equal(found[1], expected[1])
    if least < 0.5:
        assert not np.array_equal(predict_frame(network, image, tile_size=tile_size, overlap=0.5)[1], expected[1])


@pytest.mark.parametrize("overlap", [0.0, 0.001, 0.1, 0.5])
@pytest.mark.parametrize("tile_size", [64, 65, 1024])
def test_weights_never_vanish(tile_size: int, overlap: float) -> None:
    taper = blending_taper(tile_size, overlap)
    np.testing.assert_allclose(taper, taper[::-1])
    assert taper.min() > 0.01 and taper.max() <= 1
    assert taper[tile_size // 2] > 0.9


# ---- any size


@pytest.mark.parametrize("shape", [(1, 1), (33, 5), (5, 33), (1, 200), (32, 64), (31, 33), (64, 97)])
def test_frame_of_any_size_is_padded_and_cut(network: CondensateNet, shape: tuple[int, int]) -> None:
    image = frame(shape)
    for tile_size in (None, 64, 1024):
        probabilities, flows = predict_frame(network, image, tile_size=tile_size)
        assert probabilities.shape == shape and flows.shape == (2, *shape)
        assert np.isfinite(probabilities).all() and np.isfinite(flows).all()
        assert probabilities.min() >= 0 and probabilities.max() <= 1
    padded = np.pad(image, [(0, -length % 32) for length in shape], mode="reflect")
    with torch.inference_mode():
        plain = network(torch.from_numpy(padded)[None, None])["flows"][0, :, : shape[0], : shape[1]]
    np.testing.assert_allclose(predict_array(network, image)[1:], plain, atol=1e-4)


def test_whole_frame_goes_through_the_network_once() -> None:
    for tile_size in (None, 70):
        network = Answer(torch.Tensor.clone)
        predict_frame(network, frame((70, 65)), tile_size=tile_size)
        assert network.sizes == [(96, 96)]


# ---- progress


def test_progress_is_told_after_every_tile(network: CondensateNet) -> None:
    calls: list[tuple[float, str]] = []
    predict_frame(
        network, frame((90, 110)), tile_size=64, overlap=0.5, progress_callback=lambda *call: calls.append(call)
    )
    assert [fraction for fraction, _ in calls] == pytest.approx([k / 6 for k in range(1, 7)])
    assert calls[1][1] == "tile 2 of 6"
    calls.clear()
    predict_frame(network, frame((40, 40)), tile_size=64, progress_callback=lambda *call: calls.append(call))
    assert calls == [(1.0, "tile 1 of 1")]


def test_what_the_callback_raises_stops_the_prediction() -> None:
    network = Answer(torch.Tensor.clone)

    def stop(fraction: float, message: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_frame(network, frame((100, 150)), tile_size=64, progress_callback=stop)
    assert len(network.sizes) == 1


# ---- memory. The test machines have no GPU to fill up, so a network stands in that fails as torch does on one.


def failing_above(pixels: int, error: Exception) -> Answer:
    def answer(x: torch.Tensor) -> torch.Tensor:
        if x.numel() > pixels:
            raise error
        return x.clone()

    return Answer(answer)


OUT_OF_MEMORY: list[Any] = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB). Tried to allocate 1 GB"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "mps"])
@pytest.mark.parametrize("tile_size", [None, 512, 1024])
def test_tiles_are_halved_until_they_fit(error: Exception, tile_size: int | None) -> None:
    image = frame((600, 500))
    network = failing_above(160 * 160, error)
    probabilities, _ = predict_frame(network, image, tile_size=tile_size)
    np.testing.assert_allclose(probabilities, expit(image), rtol=1e-5)
    tried = list(dict.fromkeys(max(size) for size in network.sizes))
    assert tried[:3] == ([512, 256, 128] if tile_size == 512 else [608, 288, 128])
    assert max(max(size) for size in network.sizes[3:]) == tiles.SMALLEST_TILE


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "mps"])
@pytest.mark.parametrize(("shape", "tile_size"), [((600, 500), None), ((600, 500), 64), ((90, 100), 1024)])
def test_too_little_memory_for_small_tiles_is_an_error(
    error: Exception, shape: tuple[int, int], tile_size: int | None
) -> None:
    with pytest.raises(OutOfMemoryError, match="close other programs that use it, or compute on the CPU"):
        predict_frame(failing_above(0, error), frame(shape), tile_size=tile_size)


def test_other_errors_are_not_taken_for_memory() -> None:
    network = failing_above(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        predict_frame(network, frame((64, 64)))
    assert len(network.sizes) == 1


def test_network_is_left_as_it_was(network: CondensateNet) -> None:
    before = random_network().state_dict()
    predict_frame(network, frame((40, 40)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not network.training
