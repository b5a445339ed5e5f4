"""What pixel-level methods share."""

import functools
from collections.abc import Callable
from typing import ClassVar

import keras
from keras import ops

from pixpro_keras import geometry
from pixpro_keras.layers.fpn import FPN
from pixpro_keras.layers.heads import PointwiseMLP
from pixpro_keras.layers.pixel_propagation import MAX_ROWS, PixelPropagation
from pixpro_keras.losses import pixel
from pixpro_keras.methods import base, ema
from pixpro_keras.methods.encoder import Encoder
from pixpro_keras.methods.instance_branch import InstanceBranch
from pixpro_keras.ops import feature_std, map_rows, to_pixels
from pixpro_keras.types import COORD1, COORD2, VIEW1, VIEW2, Batch, Tensor
from pixpro_keras.utils import checks


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
        pixel_weight: weight of the pixel loss; 0 leaves its heads away.
        use_fpn: whether an FPN stands above the backbone. The pixel loss is then the mean over
            P3 to P6, whose levels share projector and PPM; the instance branch stays on C5.
        instance_weight: weight (alpha) of the instance branch; 0 leaves it away.
        instance_form: `"predictor"` (the release's) or `"contrastive"` (the paper's SimCLR*).
        instance_temperature: of the contrastive form.
        bn_momentum: share of the old moving statistics that batch norm keeps in each step.
        synchronized: whether batch norm takes its statistics over all replicas.
        **kwargs: of `PretrainMethod`.
    """

    # Lowest and highest value of the pixel loss; None is unbounded.
    pixel_bounds: ClassVar[base.Bounds] = (None, None)
    uses_coordinates = True

    def __init__(
        self,
        backbone: keras.Model,
        threshold: float = 0.7,
        use_propagation: bool = True,
        gamma: float = 2.0,
        num_transform_layers: int = 1,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        pixel_weight: float = 1.0,
        use_fpn: bool = False,
        instance_weight: float = 0.0,
        instance_form: str = "predictor",
        instance_temperature: float = 0.2,
        bn_momentum: float = 0.9,
        synchronized: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.threshold = checks.positive("threshold", threshold)
        weights = {"pixel_weight": pixel_weight, "instance_weight": instance_weight}
        for name, weight in weights.items():
            if weight < 0:
                raise ValueError(f"`{name}` must be at least 0. Received: {name}={weight}.")
        if not any(weights.values()):
            raise ValueError("`pixel_weight` and `instance_weight` must not both be 0.")
        self.pixel_weight = pixel_weight
        self.instance_weight = instance_weight
        norm: dict = {"bn_momentum": bn_momentum, "synchronized": synchronized}
        if use_fpn and not pixel_weight:
            raise ValueError("`use_fpn` needs a pixel loss. Received: pixel_weight=0.")
        heads: dict[str, keras.layers.Layer] = {}
        pyramid_heads: dict[str, keras.layers.Layer] = {}
        if pixel_weight:
            projector = PointwiseMLP(hidden_dim, out_dim, name="projector", **norm)
            (pyramid_heads if use_fpn else heads)["pixel"] = projector
        if instance_weight:
            heads["instance"] = PointwiseMLP(hidden_dim, out_dim, name="projector_instance", **norm)
        fpn = FPN(name="fpn", **norm) if use_fpn else None
        self.encoder = Encoder(backbone, heads, fpn, pyramid_heads, name="encoder")
        self.target_encoder = ema.make_target(self.encoder)
        self.momentum_pairs = [(self.encoder, self.target_encoder)]
        self.loss_bounds = {}
        self.propagation: PixelPropagation | None = None
        if pixel_weight:
            self.loss_bounds["pixel"] = _scaled(self.pixel_bounds, pixel_weight)
            if use_propagation:
                self.propagation = PixelPropagation(
                    gamma, num_transform_layers, name="propagation", **norm
                )
                self.propagation.build((None, None, None, out_dim))
        self.instance_branch: InstanceBranch | None = None
        if instance_weight:
            self.instance_branch = InstanceBranch(
                instance_form, instance_temperature, hidden_dim, out_dim, **norm
            )
            self.loss_bounds["instance"] = _scaled(self.instance_branch.bounds, instance_weight)

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss terms `pixel` and `instance`, where they have a weight, and vital signs.

        `positive_share`: share of pixel pairs that are positive. `positive_cosine`: their mean
        cosine between prediction and target. `feature_std`: standard deviation of the unit-length
        projections over all pixels of the batch, averaged over channels and views and multiplied by
        `sqrt(C)`: 0 when all features are the same (collapse), at most 1.
        """
        forth, back = (run() for run in self._directions(batch, training))
        return {name: value + back[name] for name, value in forth.items()}

    def passes(self, batch: Batch) -> list[Callable[[], dict[str, Tensor]]]:
        """One view at a time; see `Task.passes`."""
        return self._directions(batch, training=True)

    def _directions(self, batch: Batch, training: bool) -> list[Callable[[], dict[str, Tensor]]]:
        """From view 1 to the target's view 2, and back."""
        views = batch[VIEW1], batch[VIEW2]
        coordinates = batch[COORD1], batch[COORD2]
        targets = [self.target_encoder(view, training=training) for view in views]
        return [
            functools.partial(
                self._direction,
                views[online],
                targets[1 - online],
                (coordinates[online], coordinates[1 - online]),
                training,
            )
            for online in (0, 1)
        ]

    def _direction(
        self,
        view: Tensor,
        target: dict,
        coordinates: tuple[Tensor, Tensor],
        training: bool,
    ) -> dict[str, Tensor]:
        """Half of the outputs of `call`.

        Args:
            view: `(B, H, W, 3)`, for the online side.
            target: what the target encoder gives for the other view.
            coordinates: `(B, 4)` of `view` and of the other one.
            training: whether batch norm normalises with the statistics of the batch.
        """
        online = self.encoder(view, training=training)
        outputs: dict[str, Tensor] = {}
        if self.instance_branch is not None:
            outputs |= self.instance_branch(
                online["instance"], target["instance"], training=training
            )
            outputs["instance"] *= self.instance_weight
            outputs["feature_std"] = feature_std(to_pixels(online["instance"])) / 2
        if self.pixel_weight:
            pairs = zip(_levels(online["pixel"]), _levels(target["pixel"]), strict=True)
            levels = [self._pixel_outputs(x, t, coordinates, training) for x, t in pairs]
            outputs |= {
                name: sum(level[name] for level in levels) / len(levels) for name in levels[0]
            }
        return outputs

    def _pixel_outputs(
        self, x: Tensor, target: Tensor, coordinates: tuple[Tensor, Tensor], training: bool
    ) -> dict[str, Tensor]:
        """Loss and vital signs of an online and a target map `(B, h, w, C)`, half of both directions."""
        size = tuple(x.shape[1:3])
        centers = [geometry.cell_centers(coord, size) for coord in coordinates]
        reach = geometry.reach(*coordinates, size, self.threshold)
        pixels, target = to_pixels(x), to_pixels(target)
        propagation = self.propagation
        values = () if propagation is None else (propagation.values(x, training),)

        def of_rows(some, some_centers, pixels, target, *values):
            """Of R pixels: losses and what they are sums of, cosines of the positives and their number."""
            prediction = some
            if propagation is not None:
                prediction = propagation.propagate(some, pixels, *values)
            prediction = ops.cast(prediction, x.dtype)
            positives = geometry.near(some_centers, centers[1], reach)
            losses, counts = self.pixel_losses(prediction, target, positives)
            matched = pixel.matched_cosines(prediction, target, positives)
            return ops.stack([losses, counts, matched, ops.sum(positives, axis=2)], axis=2)

        rows = map_rows(of_rows, [pixels, centers[0]], [pixels, target, *values], MAX_ROWS)
        losses, counts, matched, num_positives = ops.unstack(rows, axis=2)
        return {
            "pixel": self.pixel_weight * pixel.mean_over_images(losses, counts),
            "positive_share": ops.mean(num_positives) / num_positives.shape[1] / 2,
            "positive_cosine": ops.sum(matched) / ops.maximum(ops.sum(num_positives), 1.0) / 2,
            "feature_std": feature_std(pixels) / 2,
        }

    def pixel_losses(
        self, prediction: Tensor, target: Tensor, positives: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Losses of some pixels in one direction; both directions' means add up to the loss.

        Args:
            prediction: `(B, R, C)`. What the online side predicts for R pixels of its view.
            target: `(B, N, C)`. What the target sees in the other view.
            positives: `(B, R, N)`. Positive pairs of these.

        Returns:
            `(B, R)` float32, twice: sums, and what each is a sum of. The loss is the mean over the batch
            of each image's sum by its count.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `pixel_losses`.")


def _levels(maps: Tensor | dict[str, Tensor]) -> list[Tensor]:
    """C5 alone, or the maps of a pyramid."""
    return list(maps.values()) if isinstance(maps, dict) else [maps]


def _scaled(bounds: base.Bounds, weight: float) -> base.Bounds:
    low, high = bounds
    return (None if low is None else weight * low, None if high is None else weight * high)
