"""Pictures of a pre-training run, drawn during training."""

import os
import pathlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras.backbones.weight_copies import refresh_normalization
from pixpro_keras.evaluation.precise_bn import apply_precise_bn
from pixpro_keras.training.callbacks.steps import steps_done
from pixpro_keras.types import COORD1, COORD2, VIEW1, VIEW2, Batch, Tensor
from pixpro_keras.utils.files import survive_disk
from pixpro_keras.utils.summaries import Charts
from pixpro_keras.visualize.before_after import draw_before_after
from pixpro_keras.visualize.correspondences import draw_correspondences, to_display
from pixpro_keras.visualize.figures import figure_to_array, save_figure
from pixpro_keras.visualize.similarity import map_to_show

_NUM_IMAGES = 4
_NOTE = "Step 0: batch norm with the statistics of these images, since those of the network are untrained."


class RunPictures(keras.callbacks.Callback):
    """Draws a few fixed images at regular steps: matching cells, and features before and now.

    Pictures go to `WORKDIR/pictures` as PNG and to TensorBoard. Before the first step the moving
    statistics of batch norm do not fit the activations, and all cells would have nearly the same
    features: step 0 is drawn by a copy of the encoder with the statistics of the drawn images.

    Args:
        workdir: the run's directory.
        batch: a batch of the run; its first images are drawn.
        encoder: the online encoder; its head `pixel` gives the maps that the PPM compares;
            without one, C5 does.
        preprocess: the backbone's input convention, to undo it.
        every_steps: steps between two sets of pictures, at least 1.
        threshold: largest distance of a positive pair, in cell diagonals.
        images: `(B, H, W, 3)`, preprocessed whole images, larger than the views so that the maps are
            finer; without them the first views are drawn.

    Example:
        ```python
        import numpy as np
        from pixpro_keras import backbones, methods, visualize

        method = methods.PixPro(
            backbones.build("resnet18_v1_5"), hidden_dim=16, out_dim=8, total_steps=10
        )
        batch = {f"view{k}": np.zeros((2, 64, 64, 3), "float32") for k in (1, 2)}
        batch |= {f"coord{k}": np.tile([0.0, 0.0, 1.0, 1.0], (2, 1)) for k in (1, 2)}
        preprocess = backbones.preprocess_input("resnet18_v1_5")
        pictures = visualize.RunPictures(
            "runs/mine", batch, method.encoder, preprocess, every_steps=5, threshold=0.7
        )
        pictures.set_model(method)
        pictures.on_train_begin()  # draws runs/mine/pictures/correspondences.png
        ```
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        batch: Batch,
        encoder: keras.Model,
        preprocess: Callable[[Tensor], Tensor],
        every_steps: int,
        threshold: float,
        images: np.ndarray | None = None,
    ):
        super().__init__()
        self._directory = pathlib.Path(workdir) / "pictures"
        self._batch = {name: np.array(value[:_NUM_IMAGES]) for name, value in batch.items()}
        self._views = [to_display(self._batch[view], preprocess) for view in (VIEW1, VIEW2)]
        self._encoder = encoder
        self.every_steps = every_steps
        self._threshold = threshold
        self._inputs = self._batch[VIEW1] if images is None else np.array(images[:_NUM_IMAGES])
        self._images = to_display(self._inputs, preprocess)
        self._before: tuple[int, np.ndarray] | None = None
        self._drawn_step = -1
        self._charts = Charts(workdir, ".pictures")

    def on_train_begin(self, logs=None):
        """Draws the matching cells, which do not change, and the features before training."""
        step = steps_done(logs, self.model)
        size = tuple(self._features(self._encoder, self._batch[VIEW1]).shape[1:3])
        figure = draw_correspondences(
            *self._views,
            self._batch[COORD1],
            self._batch[COORD2],
            size,
            self._threshold,
        )
        self._show(figure, "correspondences", "correspondences.png", step)
        self._draw_features(step)

    def on_train_batch_end(self, batch, logs=None):
        """Draws at the steps that are due."""
        step = steps_done(logs, self.model)
        if step % self.every_steps == 0:
            self._draw_features(step)

    def on_train_end(self, logs=None):
        """Draws the last state, unless its step was drawn."""
        step = steps_done(logs, self.model)
        if step != self._drawn_step:
            self._draw_features(step)
        self._charts.flush()

    def _features(self, encoder: keras.Model, inputs: np.ndarray) -> np.ndarray:
        features = map_to_show(encoder(inputs, training=False))
        return keras.ops.convert_to_numpy(keras.ops.cast(features, "float32"))

    def _draw_features(self, step: int) -> None:
        encoder = self._encoder if step else self._with_statistics_of_images()
        features = self._features(encoder, self._inputs)
        if self._before is None:
            self._before = step, features
        first, before = self._before
        states = {f"step {first}": before, f"step {step}": features}
        self._drawn_step = step
        try:
            figure = draw_before_after(self._images, states, note="" if first else _NOTE)
        except ValueError as error:  # A training does not end because of a picture.
            logging.warning("No picture of step %d: %s", step, error)
            return
        self._show(figure, "similarity", f"similarity_{step:07d}.png", step)

    def _with_statistics_of_images(self) -> keras.Model:
        # A copy, since statistics of a model on several replicas must not be assigned outside of them.
        copy = type(self._encoder).from_config(self._encoder.get_config())
        copy.set_weights(self._encoder.get_weights())
        refresh_normalization(copy)
        apply_precise_bn(copy, [self._inputs])
        return copy

    def _show(self, figure, tag: str, file_name: str, step: int) -> None:
        with survive_disk("A picture"):
            self._directory.mkdir(parents=True, exist_ok=True)
            save_figure(figure, self._directory / file_name)
        image = figure_to_array(figure)[None]
        self._charts.write(step, lambda: tf.summary.image(tag, image))
