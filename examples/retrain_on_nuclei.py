"""The main job on a real image: retrain the shipped model on one part of it, and measure both models on the other part.

The image shows fluorescent nuclei, 512x512 px, with 125 of them outlined by hand. The left part plays the annotations
that a user made, the right part is never seen in training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from condensatenet import CondensateNetPipeline
from condensatenet.evaluation import Evaluation, compare_table, evaluate_instances
from condensatenet.figures import Panel, draw_panels
from condensatenet.files.images import read_image, read_labels, write_labels
from condensatenet.inference.normalize import intensity_range
from condensatenet.training import prepare_training_data, train_model
from nuclei_sample import fetch_nuclei_sample

ROOT = Path(__file__).resolve().parent.parent
SEEN_COLUMNS = 320
"""Columns left of this are trained on."""


def main() -> None:
    """Train, measure, and say where to look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "nuclei", help="folder for the results")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the training part (default: 40)")
    arguments = parser.parse_args()
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)

    image_path, labels_path = fetch_nuclei_sample(ROOT / ".cache" / "nuclei_sample")
    image, labels = read_image(image_path), read_labels(labels_path)
    dataset = prepare_training_data(
        [image[:, :SEEN_COLUMNS]],
        [labels[:, :SEEN_COLUMNS]],
        patch_size=256,
        intensity_ranges=[intensity_range(image)],
    )
    with tqdm(total=1.0, bar_format="{percentage:3.0f}% |{bar:20}| {desc}") as bar:

        def show(fraction: float, message: str) -> None:
            bar.n = fraction
            bar.set_description_str(message)

        model = train_model(
            dataset, None, output / "model", epochs=arguments.epochs, learning_rate=1e-3, progress_callback=show
        )

    unseen = labels.copy()
    unseen[np.isin(labels, labels[:, :SEEN_COLUMNS])] = -1
    unseen[:, :SEEN_COLUMNS] = -1
    max_size = json.loads((output / "model" / "config.json").read_text(encoding="utf-8"))["max_size"]
    pipelines = {
        "before": CondensateNetPipeline.from_pretrained(max_size=max_size),
        "after": CondensateNetPipeline.from_local(model),
    }
    predictions = {title: pipeline.segment(image) for title, pipeline in pipelines.items()}
    evaluations: dict[str, Evaluation] = {
        title: evaluate_instances([unseen], [prediction]) for title, prediction in predictions.items()
    }
    for title, prediction in predictions.items():
        write_labels(output / f"labels_{title}.tif", prediction)
    picture = output / "unseen_part.png"
    right = np.s_[:, SEEN_COLUMNS:]
    panels = [Panel(title, image[right], unseen[right], prediction[right]) for title, prediction in predictions.items()]
    draw_panels([panels], picture)

    print(json.loads((output / "model" / "training_report.json").read_text(encoding="utf-8"))["message"])
    print("\nOn the part of the image that training never saw:\n")
    print(compare_table(evaluations))
    print(f"\nLook at: {picture}\nModel:   {output / 'model'}")


if __name__ == "__main__":
    main()
