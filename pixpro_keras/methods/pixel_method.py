"""Networks and training step of the pixel-level methods, PixPro and PixContrast."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras import geometry
from pixpro_keras.layers.heads import PointwiseMLP
from pixpro_keras.layers.pixel_propagation import PixelPropagation
from pixpro_keras.losses.pixel import positive_pair_metrics
from pixpro_keras.losses.spread import spread_terms
from pixpro_keras.methods import base
from pixpro_keras.methods.instance_branch import FORMS, InstanceBranch
from pixpro_keras.methods.pixel_heads import make_heads
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


class _Encoded(NamedTuple):
    """Outputs of an encoder for one view, and the view's corners in its source image, `(B, 4)`."""

    outputs: dict[str, Any]
    coord: Tensor


class PixelMethod(base.PretrainMethod):
    """Pixel-level methods: online encoder, moving-average target and a loss of positive pixel pairs.

    A training step does this in both directions, from view 1 to view 2 and back (equations of the paper):

    1. The online encoder encodes one view, the target encoder the other.
    2. The pixel propagation module (PPM), which is optional, smooths the online pixels (3, 4).
    3. `geometry.lazy_positive_pairs` finds the pairs of pixels that show the same place of the image (1).
    4. `one_way`, which a subclass adds, is the loss of these pairs (2 in PixContrast, 5 in PixPro).

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
        instance_form: `"predictor"` (the PixPro release's) or `"contrastive"` (the paper's SimCLR*).
        instance_temperature: tau of the contrastive form, positive.
        bn_momentum: fraction of batch norm's moving statistics that is kept in each step.
        **kwargs: arguments of `PretrainMethod`.

    Raises:
        ValueError: if an argument is out of its range, or both weights are 0.

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, section 3.

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
    loss_bounds: dict[str, Bounds]
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
        _check_weights(pixel_weight, instance_weight, variance_weight, covariance_weight)
        checks.one_of("instance_form", instance_form, FORMS)
        checks.positive("instance_temperature", instance_temperature)
        pixel_levels = (pixel_levels,) if isinstance(pixel_levels, str) else tuple(pixel_levels)
        heads = make_heads(
            functools.partial(PointwiseMLP, hidden_dim, out_dim, bn_momentum=bn_momentum),
            pixel_levels,
            use_fpn=use_fpn,
            has_pixel=bool(pixel_weight),
            has_instance=bool(instance_weight),
            bn_momentum=bn_momentum,
        )
        super().__init__(
            backbone, **heads, bn_momentum=bn_momentum, has_target=use_target, **kwargs
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
        self.instance_branch: InstanceBranch | None = None
        if pixel_weight:
            self._add_pixel_loss()
        if instance_weight:
            self._add_instance_branch()

    def _add_pixel_loss(self) -> None:
        """Builds the PPM; adds the bounds of the terms `pixel` and `spread`."""
        self.loss_bounds["pixel"] = _scaled(self.pixel_bounds, self.pixel_weight)
        if self.variance_weight or self.covariance_weight:
            self.loss_bounds["spread"] = (0.0, None)
        if self.use_propagation:
            self.propagation = PixelPropagation(
                self.gamma, self.num_transform_layers, self.bn_momentum, name="propagation"
            )
            self.propagation.build((None, None, None, self.out_dim))

    def _add_instance_branch(self) -> None:
        """Builds the instance branch; adds the bounds of the term `instance`."""
        self.instance_branch = InstanceBranch(
            self.instance_form,
            self.instance_temperature,
            self.hidden_dim,
            self.out_dim,
            self.bn_momentum,
        )
        self.loss_bounds["instance"] = _scaled(self.instance_branch.bounds, self.instance_weight)

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss terms `pixel`, `spread` and `instance`, where they have a weight, and metrics.

        `positive_share`: share of pixel pairs that are positive. `positive_cosine`: their mean
        cosine between prediction and target. `feature_std`: standard deviation of the unit-length
        projections over all pixels of the batch, averaged over channels and views and multiplied by
        `sqrt(C)`: 0 when all features are the same (collapse), at most 1.
        """
        return _sum([run() for run in self._directions(batch, training)])

    def passes(self, batch: Batch) -> list[Callable[[], dict[str, Tensor]]]:
        """One online view at a time; see `Task.passes`."""
        return self._directions(batch, training=True)

    def _directions(self, batch: Batch, training: bool) -> list[Callable[[], dict[str, Tensor]]]:
        """Functions that compute one direction each: view 1 to 2, view 2 to 1, and each local view to both.

        They must run in this order. The first two together have the weight of one local view. Without
        a target encoder, the first two are one function.
        """
        view1, view2, *local_views = _views(batch)
        share = 1 / (1 + len(local_views))
        direction = functools.partial(self._direction, share=share, training=training)
        targets: list[_Encoded] = []
        directions: list[Callable[[], dict[str, Tensor]]]
        if self.has_target:
            targets += [
                _Encoded(self.target_encoder(view, training=training), coord)
                for view, coord in (view1, view2)
            ]
            directions = [
                functools.partial(direction, *view1, targets[1:]),
                functools.partial(direction, *view2, targets[:1]),
            ]
        else:
            directions = [functools.partial(self._both, batch, targets, share, training)]
        directions += [functools.partial(direction, *view, targets) for view in local_views]
        if training:
            directions[-1] = functools.partial(self._then_keep, directions[-1], targets)
        return directions

    def _direction(
        self, view: Tensor, coord: Tensor, targets: list[_Encoded], share: float, training: bool
    ) -> dict[str, Tensor]:
        """Loss terms and metrics of one direction; all directions add up to the outputs of `call`.

        Args:
            view: `(B, H, W, 3)`. View of the online encoder.
            coord: `(B, 4)`. Corners of `view`.
            targets: encoded views that are predicted from it.
            share: factor of all outputs.
            training: whether batch norm normalizes with the statistics of the batch.
        """
        online = _Encoded(self.encoder(view, training=training), coord)
        return _sum([self._compare(online, target, share, training) for target in targets])

    def _both(
        self, batch: Batch, targets: list[_Encoded], share: float, training: bool
    ) -> dict[str, Tensor]:
        """Both directions by the online encoder alone. Appends its outputs to `targets`, for local views."""
        images = ops.concatenate([batch[VIEW1], batch[VIEW2]], axis=0)
        online = self.encoder(images, training=training)
        for side, coord in enumerate((COORD1, COORD2)):
            half = keras.tree.map_structure(lambda x, i=side: ops.split(x, 2, axis=0)[i], online)
            targets.append(_Encoded(half, batch[coord]))
        view1, view2 = targets
        pairs = (view1, view2), (view2, view1)
        return _sum([self._compare(*pair, share, training) for pair in pairs])

    def _compare(
        self, online: _Encoded, target: _Encoded, share: float, training: bool
    ) -> dict[str, Tensor]:
        """Loss terms and metrics of an online and a target view, one direction, times `share`."""
        terms: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        if self.instance_branch is not None:
            projected = online.outputs["instance"]
            loss, metrics = self.instance_branch(
                projected, target.outputs["instance"], training=training
            )
            terms["instance"] = self.instance_weight * loss
            metrics |= {"feature_std": feature_std(to_pixels(projected))}
        if self.pixel_weight:
            online_maps = _levels(online.outputs["pixel"])
            target_maps = _levels(target.outputs["pixel"])
            levels = [
                self.pixel_level(*maps, online.coord, target.coord, training)
                for maps in zip(online_maps, target_maps, strict=True)
            ]
            means = {name: value / len(levels) for name, value in _sum(levels).items()}
            terms["pixel"] = self.pixel_weight * means.pop("loss")
            if "spread" in self.loss_bounds:
                terms["spread"] = self._spread(online_maps)
            metrics |= means
        # The losses of both directions are added up; their metrics are averaged.
        outputs = terms | {name: value / 2 for name, value in metrics.items()}
        return {name: share * value for name, value in outputs.items()}

    def pixel_level(
        self, online: Tensor, target: Tensor, coord: Tensor, target_coord: Tensor, training: bool
    ) -> dict[str, Tensor]:
        """Steps 2 to 4 for an online and a target map, `(B, h, w, C)` each: `loss` and metrics by name."""
        prediction = online
        if self.propagation is not None:
            prediction = self.propagation(online, training=training)
        pixels = to_pixels(prediction), to_pixels(target)
        positives = geometry.lazy_positive_pairs(
            coord,
            target_coord,
            tuple(online.shape[1:3]),
            self.threshold,
            tuple(target.shape[1:3]),
        )
        metrics = positive_pair_metrics(*pixels, positives)
        # Sequential, since each needs the memory of a block for large maps.
        with tf.control_dependencies(
            [*metrics.values()] if isinstance(positives, LazyRows) else []
        ):
            loss = self.one_way(*pixels, positives)
        return {"loss": loss, **metrics, "feature_std": feature_std(to_pixels(online))}

    def one_way(self, prediction: Tensor, target: Tensor, positives: Tensor | LazyRows) -> Tensor:
        """Loss of one direction; those of both add up to the method's.

        Args:
            prediction: `(B, N, C)`. Online pixels of one view, propagated where there is a PPM.
            target: `(B, M, C)`. Target pixels of the other view; M is not N where local views are compared
                with whole ones.
            positives: `(B, N, M)` of 0 and 1, from `geometry.lazy_positive_pairs`.

        Returns:
            Scalar float32.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `one_way`.")

    def _spread(self, maps: list[Tensor]) -> Tensor:
        """Half of the weighted `spread_terms`, averaged over levels. Both directions add up to the whole."""
        losses = []
        for x in maps:
            variance, covariance = spread_terms(global_covariance(to_pixels(x)))
            losses.append(self.variance_weight * variance + self.covariance_weight * covariance)
        return sum(losses) / (2 * len(losses))

    def _then_keep(
        self, direction: Callable[[], dict[str, Tensor]], targets: list[_Encoded]
    ) -> dict[str, Tensor]:
        """Outputs of the last direction. Maps are kept only then: all losses see the same earlier ones."""
        outputs = direction()
        if self.pixel_weight:
            for target in targets:
                self.keep(_levels(target.outputs["pixel"]))
        return outputs

    def keep(self, maps: list[Tensor]) -> None:
        """Receives the target's maps of a view, `(B, h, w, C)`, after all losses of a training step.

        Does nothing here. A method that compares with earlier batches overrides it.
        """

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


def _views(batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """Images `(B, H, W, 3)` and corners `(B, 4)` of view 1, view 2 and each local view."""
    views = [(batch[VIEW1], batch[COORD1]), (batch[VIEW2], batch[COORD2])]
    if LOCAL_VIEWS in batch:
        images, coords = (ops.unstack(batch[key], axis=1) for key in (LOCAL_VIEWS, LOCAL_COORDS))
        views += zip(images, coords, strict=True)
    return views


def _sum(outputs: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Sums by name; all have the same names."""
    return {name: sum(one[name] for one in outputs) for name in outputs[0]}


def _levels(maps: Tensor | dict[str, Tensor]) -> list[Tensor]:
    """List of maps: C5, or the maps of several levels."""
    return list(maps.values()) if isinstance(maps, dict) else [maps]


def _check_weights(pixel: float, instance: float, variance: float, covariance: float) -> None:
    weights = {
        "pixel_weight": pixel,
        "instance_weight": instance,
        "variance_weight": variance,
        "covariance_weight": covariance,
    }
    for name, weight in weights.items():
        checks.at_least(name, weight, 0)
    if not pixel and not instance:
        raise ValueError("`pixel_weight` and `instance_weight` must not both be 0.")
    if not pixel and (variance or covariance):
        raise ValueError(
            "`variance_weight` and `covariance_weight` need a pixel loss. Received: pixel_weight=0, "
            f"variance_weight={variance}, covariance_weight={covariance}."
        )


def _scaled(bounds: Bounds, weight: float) -> Bounds:
    low, high = bounds
    return (None if low is None else weight * low, None if high is None else weight * high)
