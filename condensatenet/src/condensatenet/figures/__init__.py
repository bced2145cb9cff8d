"""Pictures for people. matplotlib and PIL are imported when something is drawn."""

from condensatenet.figures.curves import draw_training_curves
from condensatenet.figures.overlays import Panel, draw_overlay, draw_panels

__all__ = ["Panel", "draw_overlay", "draw_panels", "draw_training_curves"]
