"""What pixel-level methods share."""

import keras
from keras import ops

from pixpro_keras import geometry
from pixpro_keras.batch import COORD1, COORD2, VIEW1, VIEW2, Batch, Tensor
from pixpro_keras.layers.heads import PointwiseMLP
from pixpro_keras.layers.pixel_propagation import PixelPropagation
from pixpro_keras.losses import pixel
from pixpro_keras.methods import base, ema
from pixpro_keras.methods.encoder import Encoder
from pixpro_keras.ops import l2_normalize, to_pixels


class PixelMethod(base.PretrainMethod):
    """The networks of pixel-level methods: online encoder, optional PPM, moving-average target.

    A subclass adds the loss between what the online side predicts and what the target sees.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        threshold: largest distance of a positive pair, in cell diagonals.
        use_propagation: whether the PPM stands between the online projector and the loss.
        gamma: the PPM's sharpness.
        num_transform_layers: the PPM's transform layers, 0 to 3.
        hidden_dim: the projector's hidden channels.
        out_dim: the projector's output channels.
        bn_momentum: share of the old moving statistics that batch norm keeps in each step.
        synchronized: whether batch norm takes its statistics over all replicas.
        **kwargs: of `PretrainMethod`.
    """

    def __init__(
        self,
        backbone: keras.Model,
        threshold: float = 0.7,
        use_propagation: bool = True,
        gamma: float = 2.0,
        num_transform_layers: int = 1,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        bn_momentum: float = 0.9,
        synchronized: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if threshold <= 0:
            raise ValueError(f"`threshold` must be positive. Received: threshold={threshold}.")
        self.threshold = threshold
        norm: dict = {"bn_momentum": bn_momentum, "synchronized": synchronized}
        projector = PointwiseMLP(hidden_dim, out_dim, name="projector", **norm)
        self.encoder = Encoder(backbone, {"pixel": projector}, name="encoder")
        self.target_encoder = ema.make_target(self.encoder)
        self.propagation: PixelPropagation | None = None
        if use_propagation:
            self.propagation = PixelPropagation(
                gamma, num_transform_layers, name="propagation", **norm
            )
            self.propagation.build((*backbone.output_shape[:-1], out_dim))
        self.momentum_pairs = [(self.encoder, self.target_encoder)]

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss term `pixel`, and the run's vital signs.

        `positive_share`: share of pixel pairs that are positive. `positive_cosine`: their mean
        cosine between prediction and target. `feature_std`: standard deviation of the unit-length
        projections over all pixels of the batch, averaged over channels and multiplied by
        `sqrt(C)`: 0 when all features are the same (collapse), at most 1.
        """
        views = batch[VIEW1], batch[VIEW2]
        x1, x2 = (self.encoder(view, training=training)["pixel"] for view in views)
        y1, y2 = (self._predict(x, training) for x in (x1, x2))
        t1, t2 = (
            to_pixels(self.target_encoder(view, training=training)["pixel"]) for view in views
        )
        size = tuple(x1.shape[1:3])
        positives = geometry.positive_pairs(batch[COORD1], batch[COORD2], size, self.threshold)
        backwards = ops.transpose(positives, (0, 2, 1))
        return {
            "pixel": self.pixel_loss(y1, t2, positives, y2, t1, backwards),
            "positive_share": ops.mean(positives),
            "positive_cosine": (
                pixel.positive_cosine(y1, t2, positives) + pixel.positive_cosine(y2, t1, backwards)
            )
            / 2,
            "feature_std": _spread(to_pixels(x1)),
        }

    def _predict(self, projected: Tensor, training: bool) -> Tensor:
        if self.propagation is not None:
            projected = self.propagation(projected, training=training)
        return to_pixels(projected)

    def pixel_loss(
        self, y1: Tensor, t2: Tensor, positives: Tensor, y2: Tensor, t1: Tensor, backwards: Tensor
    ) -> Tensor:
        """Scalar loss of both directions.

        Args:
            y1: `(B, N, C)`. What the online side predicts for view 1.
            t2: `(B, N, C)`. What the target sees in view 2.
            positives: `(B, N, N)`. Positive pairs of view 1 (rows) and view 2.
            y2: `(B, N, C)`. What the online side predicts for view 2.
            t1: `(B, N, C)`. What the target sees in view 1.
            backwards: `positives` with view 2 in rows.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `pixel_loss`.")


def _spread(pixels: Tensor) -> Tensor:
    """Standard deviation of unit-length features, times `sqrt(C)`: in [0, 1]."""
    unit = ops.reshape(l2_normalize(ops.stop_gradient(pixels)), (-1, pixels.shape[-1]))
    return ops.mean(ops.std(unit, axis=0)) * pixels.shape[-1] ** 0.5
