"""The course of a training as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from condensatenet.errors import InvalidOptionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_training_curves(
    history: Sequence[Mapping[str, Any]],
    path: str | PathLike[str],
    *,
    best_epoch: int | None = None,
    start_ap: float | None = None,
) -> None:
    """Draw the score on held-out images, the losses and the learning rate over the epochs.

    Args:
        history: One entry per epoch with ``epoch``, ``loss``, ``mask_loss``, ``flow_loss`` and ``learning_rate``, and
            with ``ap50`` (AP at IoU 0.5 on the held-out images) where it was measured.
        path: Where to write the picture; the suffix tells the format, such as ``.png`` or ``.pdf``.
        best_epoch: The epoch whose model was kept.
        start_ap: AP at IoU 0.5 of the model before training.

    Raises:
        InvalidOptionError: If the history is empty.
    """
    if not history:
        raise InvalidOptionError("There is no training to draw: the history holds no epoch.")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [entry["epoch"] for entry in history]
    measured = {entry["epoch"]: entry["ap50"] for entry in history if entry.get("ap50") is not None}
    figure = Figure(figsize=(7, 7.5), layout="constrained")
    score, loss, rate = figure.subplots(3, sharex=True, height_ratios=(4, 4, 1.5))
    marker = "o" if len(history) == 1 else ""  # a line through one point is invisible

    if measured:
        label = "held-out images"
        score.plot(list(measured), list(measured.values()), color="#0072b2", marker="o", markersize=3.5, label=label)
    else:
        score.text(0.5, 0.5, "not measured on held-out images", transform=score.transAxes, ha="center")
    if start_ap is not None:
        score.axhline(start_ap, color="#666666", linestyle="--", label=f"start model ({start_ap:.3f})")
    if best_epoch in measured:
        label = f"best: epoch {best_epoch} ({measured[best_epoch]:.3f})"
        score.plot(best_epoch, measured[best_epoch], "*", color="#d55e00", markersize=16, zorder=3, label=label)
    for key, name, color in (
        ("loss", "total", "#222222"),
        ("mask_loss", "mask", "#cc79a7"),
        ("flow_loss", "flow", "#009e73"),
    ):
        loss.plot(epochs, [entry[key] for entry in history], color=color, marker=marker, label=name)
    rate.plot(epochs, [entry["learning_rate"] for entry in history], color="#888888", marker=marker)

    _label(score, "Average precision\n(IoU 0.5)", legend=bool(measured) or start_ap is not None)
    _label(loss, "Training loss", legend=True)
    _label(rate, "Learning\nrate", legend=False)
    score.set_ylim(0, 1.05)  # the star fits in
    loss.set_ylim(bottom=0)
    rate.set_ylim(bottom=0)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    rate.set_xlabel("Epoch")
    figure.savefig(path, dpi=150)


def _label(axes: Axes, name: str, *, legend: bool) -> None:
    axes.set_ylabel(name)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if legend:
        axes.legend(frameon=False)
