"""Parts that pixel-level methods share."""

import functools
from collections.abc import Callable, Sequence
from typing import ClassVar

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras import geometry
from pixpro_keras.layers.fpn import FPN
from pixpro_keras.layers.heads import PointwiseMLP
from pixpro_keras.layers.pixel_propagation import PixelPropagation
from pixpro_keras.losses.pixel import positive_pair_metrics
from pixpro_keras.losses.spread import spread_terms
from pixpro_keras.methods import base
from pixpro_keras.methods.instance_branch import InstanceBranch
from pixpro_keras.ops import LazyRows, feature_std, global_covariance, to_pixels
from pixpro_keras.task import Bounds
from pixpro_keras.types import (
    COORD1,
    COORD2,
    LOCAL_COORDS,
    LOCAL_VIEWS,
    VIEW1,
    VIEW2,
    Batch,
    Tensor,
)
from pixpro_keras.utils import checks

__all__ = ["PixelMethod"]

_VIEWS = ((VIEW1, COORD1), (VIEW2, COORD2))


class PixelMethod(base.PretrainMethod):
    """Networks of pixel-level methods: online encoder and moving-average target.

    The pixel propagation module (PPM) between them, which smooths the online pixels, is optional.

    A subclass adds `one_way`, the loss between the online prediction and the target's pixels.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        threshold: largest distance of a positive pair, in cell diagonals.
        use_propagation: whether to use the PPM between the online projector and the loss.
        gamma: the PPM's sharpness.
        num_transform_layers: the PPM's transform layers, 0 to 3.
        hidden_dim: the projector's hidden channels.
        out_dim: the projector's output channels.
        pixel_weight: weight of the pixel loss; 0 leaves its heads out.
        use_fpn: whether to add an FPN to the backbone. The pixel loss is then the mean over P3 to
            P6, whose levels share projector and PPM; the instance branch stays on C5.
        pixel_levels: the backbone's maps with a pixel loss, of `"c3"`, `"c4"` and `"c5"`, each with
            its own projector; the loss is their mean. Without an FPN.
        use_target: whether a moving-average target encodes the other view, as in the paper. Without
            one the online encoder encodes both views as one batch, as in SimCLR, and the view that
            is compared with gets no gradient: a step takes about three quarters of the time.
        variance_weight: weight of VICReg's variance term on the projected pixels of the global
            batch; 0, as in the paper, leaves it out.
        covariance_weight: weight of VICReg's covariance term on the same pixels.
        instance_weight: weight (alpha) of the instance branch; 0 leaves it out.
        instance_form: `"predictor"` (the official code's) or `"contrastive"` (the paper's SimCLR*).
        instance_temperature: tau of the contrastive form, positive.
        bn_momentum: fraction of batch norm's moving statistics that is kept in each step.
        **kwargs: arguments of `PretrainMethod`.

    Raises:
        ValueError: if an argument is out of its range, or both weights are 0.

    Example:
        ```python
        from pixpro_keras import backbones, losses, methods

        class SoftPixPro(methods.PixelMethod):
            def one_way(self, prediction, target, positives):
                return losses.pixel_consistency(prediction, target, positives)

        backbone = backbones.build("resnet18_v1_5")
        method = SoftPixPro(backbone, hidden_dim=64, out_dim=16, total_steps=100)
        ```
    """

    # Lowest and highest value of the pixel loss; None is unbounded.
    pixel_bounds: ClassVar[Bounds] = (None, None)
    uses_coordinates = True
    uses_local_views = True

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
        pixel_levels: Sequence[str] = ("c5",),
        use_target: bool = True,
        variance_weight: float = 0.0,
        covariance_weight: float = 0.0,
        instance_weight: float = 0.0,
        instance_form: str = "predictor",
        instance_temperature: float = 0.2,
        bn_momentum: float = 0.9,
        **kwargs,
    ):
        checks.positive("threshold", threshold)
        checks.at_least("pixel_weight", pixel_weight, 0)
        checks.at_least("instance_weight", instance_weight, 0)
        if not pixel_weight and not instance_weight:
            raise ValueError("`pixel_weight` and `instance_weight` must not both be 0.")
        if use_fpn and not pixel_weight:
            raise ValueError("`use_fpn` needs a pixel loss. Received: pixel_weight=0.")
        checks.at_least("variance_weight", variance_weight, 0)
        checks.at_least("covariance_weight", covariance_weight, 0)
        pixel_levels = tuple(pixel_levels)
        _check_levels(pixel_levels, use_fpn, bool(pixel_weight), bool(instance_weight))
        heads: dict[str, keras.layers.Layer] = {}
        pyramid_heads: dict[str, keras.layers.Layer] = {}
        level_heads: dict[str, dict[str, keras.layers.Layer]] = {}
        if pixel_weight and pixel_levels != ("c5",):
            level_heads["pixel"] = {
                level: PointwiseMLP(
                    hidden_dim, out_dim, bn_momentum=bn_momentum, name=f"projector_{level}"
                )
                for level in pixel_levels
            }
        elif pixel_weight:
            (pyramid_heads if use_fpn else heads)["pixel"] = PointwiseMLP(
                hidden_dim, out_dim, bn_momentum=bn_momentum, name="projector"
            )
        if instance_weight:
            heads["instance"] = PointwiseMLP(
                hidden_dim, out_dim, bn_momentum=bn_momentum, name="projector_instance"
            )
        fpn = FPN(bn_momentum=bn_momentum, name="fpn") if use_fpn else None
        super().__init__(
            backbone,
            heads,
            fpn,
            pyramid_heads,
            level_heads,
            bn_momentum=bn_momentum,
            has_target=use_target,
            **kwargs,
        )
        self.threshold = threshold
        self.use_propagation = use_propagation
        self.gamma = gamma
        self.num_transform_layers = num_transform_layers
        self.hidden_dim = hidden_dim
        self.out_dim = out_dim
        self.pixel_weight = pixel_weight
        self.use_fpn = use_fpn
        self.pixel_levels = pixel_levels
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight
        self.instance_weight = instance_weight
        self.instance_form = instance_form
        self.instance_temperature = instance_temperature
        self.loss_bounds = {}
        self.propagation: PixelPropagation | None = None
        if pixel_weight:
            self.loss_bounds["pixel"] = _scaled(self.pixel_bounds, pixel_weight)
        if pixel_weight and (variance_weight or covariance_weight):
            self.loss_bounds["spread"] = (0.0, None)
        if pixel_weight and use_propagation:
            self.propagation = PixelPropagation(
                gamma, num_transform_layers, bn_momentum, name="propagation"
            )
            self.propagation.build((None, None, None, out_dim))
        self.instance_branch: InstanceBranch | None = None
        if instance_weight:
            self.instance_branch = InstanceBranch(
                instance_form, instance_temperature, hidden_dim, out_dim, bn_momentum
            )
            self.loss_bounds["instance"] = _scaled(self.instance_branch.bounds, instance_weight)

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss terms `pixel`, `spread` and `instance`, where they have a weight, and metrics.

        `positive_share`: share of pixel pairs that are positive. `positive_cosine`: their mean
        cosine between prediction and target. `feature_std`: standard deviation of the unit-length
        projections over all pixels of the batch, averaged over channels and views and multiplied by
        `sqrt(C)`: 0 when all features are the same (collapse), at most 1.
        """
        outputs = [run() for run in self._directions(batch, training)]
        return {name: sum(one[name] for one in outputs) for name in outputs[0]}

    def passes(self, batch: Batch) -> list[Callable[[], dict[str, Tensor]]]:
        """One online view at a time; see `Task.passes`."""
        return self._directions(batch, training=True)

    def _directions(self, batch: Batch, training: bool) -> list[Callable[[], dict[str, Tensor]]]:
        """Functions that compute one direction each: view 1 to 2, view 2 to 1, and each local view to both.

        They must run in this order. The first two together have the weight of one local view. Without
        a target encoder, the first two are one function.
        """
        view1, view2 = ((batch[view], batch[coord]) for view, coord in _VIEWS)
        local_views: list[tuple[Tensor, Tensor]] = []
        if LOCAL_VIEWS in batch:
            images = ops.unstack(batch[LOCAL_VIEWS], axis=1)
            local_views = list(zip(images, ops.unstack(batch[LOCAL_COORDS], axis=1), strict=True))
        share = 1 / (1 + len(local_views))
        direction = functools.partial(self._direction, share=share, training=training)
        targets: list[tuple[dict, Tensor]] = []
        if self.has_target:
            targets += [
                (self.target_encoder(view, training=training), coord)
                for view, coord in (view1, view2)
            ]
            directions: list[Callable[[], dict[str, Tensor]]] = [
                functools.partial(direction, *view1, targets[1:]),
                functools.partial(direction, *view2, targets[:1]),
            ]
        else:
            directions = [functools.partial(self._both, batch, targets, share, training)]
        directions += [functools.partial(direction, *view, targets) for view in local_views]
        if training:
            directions[-1] = functools.partial(self._last, directions[-1], targets)
        return directions

    def _last(
        self, direction: Callable[[], dict[str, Tensor]], targets: list[tuple[dict, Tensor]]
    ) -> dict[str, Tensor]:
        """Outputs of the last direction. All have then compared with the same keys of earlier batches."""
        outputs = direction()
        if self.pixel_weight:
            for maps, _ in targets:
                self.keep(_levels(maps["pixel"]))
        return outputs

    def keep(self, maps: list[Tensor]) -> None:
        """Receives the target's maps `(B, h, w, C)` of each view after all losses of a training step.

        Here it does nothing; a method that compares with earlier batches keeps what it needs.
        """

    def _both(
        self, batch: Batch, targets: list[tuple[dict, Tensor]], share: float, training: bool
    ) -> dict[str, Tensor]:
        """Both directions by the online encoder alone. Appends its maps to `targets` for the local views."""
        images = ops.concatenate([batch[VIEW1], batch[VIEW2]], axis=0)
        online = self.encoder(images, training=training)
        for side, (_, coord) in enumerate(_VIEWS):
            maps = keras.tree.map_structure(lambda x, i=side: ops.split(x, 2, axis=0)[i], online)
            targets.append((maps, batch[coord]))
        view1, view2 = targets
        return self._pairs([(*view1, *view2), (*view2, *view1)], share, training)

    def _direction(
        self,
        view: Tensor,
        coord: Tensor,
        targets: list[tuple[dict, Tensor]],
        share: float,
        training: bool,
    ) -> dict[str, Tensor]:
        """Loss terms and metrics of one direction; all directions add up to the outputs of `call`.

        Args:
            view: `(B, H, W, 3)`. View of the online encoder.
            coord: `(B, 4)`. Corners of `view`.
            targets: outputs of the target encoder and corners, for each predicted view.
            share: factor of all outputs.
            training: whether batch norm normalizes with the statistics of the batch.
        """
        online = self.encoder(view, training=training)
        pairs = [(online, coord, *target) for target in targets]
        return self._pairs(pairs, share, training)

    def _pairs(
        self, pairs: list[tuple[dict, Tensor, dict, Tensor]], share: float, training: bool
    ) -> dict[str, Tensor]:
        """Sum of the outputs of several pairs of views, times `share`. A pair holds arguments of `_pair`."""
        outputs = [self._pair(*pair, training) for pair in pairs]
        return {name: share * sum(one[name] for one in outputs) for name in outputs[0]}

    def _pair(
        self, online: dict, coord: Tensor, target: dict, target_coord: Tensor, training: bool
    ) -> dict[str, Tensor]:
        """Loss terms and metrics of an online and a target view, weighted for one of two directions."""
        terms: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        if self.instance_branch is not None:
            loss, metrics = self.instance_branch(
                online["instance"], target["instance"], training=training
            )
            terms["instance"] = self.instance_weight * loss
            metrics |= {"feature_std": feature_std(to_pixels(online["instance"]))}
        if self.pixel_weight:
            levels = [
                self.pixel_level(*maps, coord, target_coord, training)
                for maps in zip(_levels(online["pixel"]), _levels(target["pixel"]), strict=True)
            ]
            means = {name: sum(one[name] for one in levels) / len(levels) for name in levels[0]}
            terms["pixel"] = self.pixel_weight * means.pop("loss")
            if "spread" in self.loss_bounds:
                terms["spread"] = self._spread(_levels(online["pixel"]))
            metrics |= means
        return terms | {name: value / 2 for name, value in metrics.items()}

    def pixel_level(
        self, online: Tensor, target: Tensor, coord: Tensor, target_coord: Tensor, training: bool
    ) -> dict[str, Tensor]:
        """`loss` and metrics of an online and a target map, `(B, h, w, C)` each, one direction."""
        prediction = online
        if self.propagation is not None:
            prediction = self.propagation(online, training=training)
        positives = geometry.lazy_positive_pairs(
            coord,
            target_coord,
            tuple(online.shape[1:3]),
            self.threshold,
            tuple(target.shape[1:3]),
        )
        pixels = to_pixels(prediction), to_pixels(target)
        metrics = positive_pair_metrics(*pixels, positives)
        # Sequential, since each needs the memory of a block for large maps.
        with tf.control_dependencies(
            [*metrics.values()] if isinstance(positives, LazyRows) else []
        ):
            loss = self.one_way(*pixels, positives)
        return {"loss": loss, **metrics, "feature_std": feature_std(to_pixels(online))}

    def _spread(self, maps: list[Tensor]) -> Tensor:
        """Half of the weighted `spread_terms`, averaged over levels. Both directions add up to the whole."""
        losses = []
        for x in maps:
            variance, covariance = spread_terms(global_covariance(to_pixels(x)))
            losses.append(self.variance_weight * variance + self.covariance_weight * covariance)
        return sum(losses) / (2 * len(losses))

    def one_way(self, prediction: Tensor, target: Tensor, positives: Tensor | LazyRows) -> Tensor:
        """Loss of one direction; those of both add up to the method's.

        Args:
            prediction: `(B, N, C)`. Pixels of the online side's view, propagated where there is a PPM.
            target: `(B, N, C)`. Pixels of the other view by the target encoder.
            positives: `(B, N, N)` of 0 and 1, from `geometry.lazy_positive_pairs`.

        Returns:
            Scalar float32.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `one_way`.")

    def get_config(self) -> dict:
        """Constructor arguments, the backbone serialized."""
        return super().get_config() | {
            "threshold": self.threshold,
            "use_propagation": self.use_propagation,
            "gamma": self.gamma,
            "num_transform_layers": self.num_transform_layers,
            "hidden_dim": self.hidden_dim,
            "out_dim": self.out_dim,
            "pixel_weight": self.pixel_weight,
            "use_fpn": self.use_fpn,
            "pixel_levels": self.pixel_levels,
            "use_target": self.has_target,
            "variance_weight": self.variance_weight,
            "covariance_weight": self.covariance_weight,
            "instance_weight": self.instance_weight,
            "instance_form": self.instance_form,
            "instance_temperature": self.instance_temperature,
        }


def _levels(maps: Tensor | dict[str, Tensor]) -> list[Tensor]:
    """List of maps: C5, or the maps of several levels."""
    return list(maps.values()) if isinstance(maps, dict) else [maps]


def _check_levels(levels: tuple[str, ...], use_fpn: bool, has_pixel: bool, has_instance: bool):
    for level in levels:
        checks.one_of("pixel_levels", level, ("c3", "c4", "c5"))
    if not levels or len({*levels}) < len(levels):
        raise ValueError(f"`pixel_levels` must be different levels. Received: {levels}.")
    if levels != ("c5",) and (use_fpn or not has_pixel):
        raise ValueError(
            "`pixel_levels` needs a pixel loss, and no FPN, which has levels of its own. "
            f"Received: pixel_levels={levels}."
        )
    if "c5" not in levels and not has_instance:
        raise ValueError(
            "`pixel_levels` without c5 needs an instance branch, else nothing trains the last stage. "
            f"Received: pixel_levels={levels}."
        )


def _scaled(bounds: Bounds, weight: float) -> Bounds:
    low, high = bounds
    return (None if low is None else weight * low, None if high is None else weight * high)
