"""Makes models of Cellpose 3, in the environment of cellpose_module: `python cellpose_models_for_tests.py FOLDER`.

A real one is trained here on simulated discs, small and with few steps, so that nothing binary needs to be kept. What
Cellpose itself finds with it is stored beside it.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np


def simulate_discs(size: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (size, size) uint16 with bright discs that do not touch, and their labels."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    while labels.max() < count:
        distance = np.hypot(y - random.uniform(8, size - 8), x - random.uniform(8, size - 8))
        radius = random.uniform(6, 10)
        if not labels[distance <= radius + 2].any():
            labels[distance <= radius] = labels.max() + 1
    brightness = np.r_[200, 200 + 1000 * random.uniform(0.6, 1.4, count)]
    return random.poisson(brightness[labels]).astype(np.uint16), labels


class _Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.marker, "w")


def _main(folder: Path) -> None:
    import torch
    from cellpose.models import CellposeModel
    from cellpose.resnet_torch import CPnet
    from cellpose.train import train_seg

    torch.manual_seed(0)
    np.random.seed(0)  # Cellpose draws from it
    model = CellposeModel(pretrained_model=False, diam_mean=16.0)
    for layer in model.net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.3  # its averages must be right after a few steps
    images, labels = zip(*(simulate_discs(112, 12, seed) for seed in range(16)), strict=True)
    # It learns what to do with a second channel in half of them.
    pairs = [np.stack([image, images[n - 1] * (n % 2)], axis=-1) for n, image in enumerate(images)]
    train_seg(
        model.net,
        pairs,
        list(labels),
        channels=[1, 2],
        n_epochs=10,
        learning_rate=0.01,
        batch_size=2,
        bsize=48,
        rescale=False,
        scale_range=0.2,
        nimg_per_epoch=16,
        save_path=str(folder),
        model_name="my cells ü",
    )
    trained = folder / "models" / "my cells ü"
    state = torch.load(trained, weights_only=True)

    def changed(**tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        return {**state, **tensors}

    torch.save(changed(**{"output.2.bias": state["output.2.bias"] - torch.tensor([0, 0, 2.0])}), folder / "stricter")
    torch.save({name: tensor for name, tensor in state.items() if "res_up_1" not in name}, folder / "incomplete")
    torch.save(changed(W2=torch.eye(3)), folder / "cellpose 4")
    torch.save(CPnet([1, 32, 64, 128, 256], 3, sz=3).state_dict(), folder / "one channel")
    torch.save(CPnet([1, 32, 64, 128, 256], 1, sz=3).state_dict(), folder / "denoise")
    torch.save(changed(evil=_Evil(folder / "executed")), folder / "malicious")
    (folder / "malicious pickle").write_bytes(pickle.dumps(_Evil(folder / "executed"), protocol=2))
    (folder / "text").write_text("no model")
    (folder / "damaged").write_bytes(trained.read_bytes()[:1_000_000])

    image, nuclei = (np.load(folder / f"{name}.npy") for name in ("image", "nuclei"))
    options = json.loads((folder / "options.json").read_text())
    stricter = CellposeModel(pretrained_model=str(folder / "stricter"))
    model = CellposeModel(pretrained_model=str(trained))
    found = {
        "usual": model.eval(image, channels=[0, 0])[0],
        "options": model.eval(image, channels=[0, 0], **options)[0],
        "nuclei": model.eval(np.stack([image, nuclei], axis=-1), channels=[1, 2])[0],
        "stricter": stricter.eval(image, channels=[0, 0])[0],
    }
    for name in options:
        others = {other: value for other, value in options.items() if other != name}
        found[f"options without {name}"] = model.eval(image, channels=[0, 0], **others)[0]
    np.savez(folder / "found.npz", **found)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
