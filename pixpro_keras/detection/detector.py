"""The two-stage detector: proposals, then classes, boxes and masks."""

import abc
import dataclasses
from collections.abc import Sequence

import tensorflow as tf
from keras import ops

from pixpro_keras.detection.anchors import RATIOS, grid_anchors
from pixpro_keras.detection.box_pipeline import IMAGE, SIZE
from pixpro_keras.detection.mask_head import MaskHead, mask_loss, pick_class
from pixpro_keras.detection.roi_heads import (
    POSITIVE_SHARE,
    SCORE_THRESHOLD,
    BoxPredictor,
    find_objects,
    roi_losses,
    sample_rois,
)
from pixpro_keras.detection.rpn import RPN, propose, rpn_losses
from pixpro_keras.layers.batch_norm import BatchNormalization
from pixpro_keras.task import Task
from pixpro_keras.types import Batch, Tensor

_LOSSES = ("rpn_objectness", "rpn_box", "box_class", "box")


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """Size of a detector's work; the rest of the protocol is the same everywhere.

    Attributes:
        num_classes: K, without the background.
        with_masks: whether it predicts masks.
        num_rois: proposals per image that are trained on.
        max_proposals: most proposals per image after suppression; None: as many as in the protocol.
        bn_momentum: share of the old moving statistics that batch norm keeps in each step.
    """

    num_classes: int
    with_masks: bool = False
    num_rois: int = 512
    max_proposals: int | None = None
    bn_momentum: float = 0.9

    def __post_init__(self):
        """Refuses what cannot work."""
        if self.num_classes < 1:
            raise ValueError(f"`num_classes` must be positive. Received: {self.num_classes}.")
        if self.num_rois < 4:
            raise ValueError(
                f"`num_rois` must be at least 4, for one positive. Received: {self.num_rois}."
            )
        if self.max_proposals is not None and self.max_proposals < 1:
            raise ValueError(f"`max_proposals` must be positive. Received: {self.max_proposals}.")

    def limit(self, proposals: tuple[int, int]) -> tuple[int, int]:
        """Proposals before and after suppression, with not more than `max_proposals` after it."""
        before, after = proposals
        return before, min(after, self.max_proposals or after)

    def batch_norm(self, name: str) -> BatchNormalization:
        """A batch norm of the heads."""
        return BatchNormalization(momentum=self.bn_momentum, epsilon=1e-5, name=name)


class Detector(Task, abc.ABC):
    """Faster R-CNN, and Mask R-CNN with masks. Subclasses say on which maps, and with which heads.

    Nothing is frozen. Batches are those of `pipeline`.

    Args:
        config: size.
        **kwargs: of `Task`.

    Reference:
        Ren et al., NeurIPS 2015, arXiv:1506.01497; He et al., ICCV 2017, arXiv:1703.06870; all
        numbers as in detectron2's configurations.
    """

    # Of each map: pixels per cell, and anchor sizes in pixels.
    strides: tuple[int, ...]
    anchor_sizes: tuple[tuple[int, ...], ...]
    # Proposals per map before suppression and per image after it.
    train_proposals: tuple[int, int]
    test_proposals: tuple[int, int]

    def __init__(self, config: DetectorConfig, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        names = (*_LOSSES, "mask") if config.with_masks else _LOSSES
        self.loss_bounds = dict.fromkeys(names, (0.0, None))

    def _build_heads(self, map_channels: int, vector_size: int, mask_head: MaskHead) -> None:
        """Creates what all detectors have; subclasses call it last."""
        self.rpn = RPN(len(self.anchor_sizes[0]) * len(RATIOS), name="rpn")
        self.rpn.build((None, None, None, map_channels))
        self.predictor = BoxPredictor(self.config.num_classes, name="predictor")
        self.predictor.build((None, None, vector_size))
        self.mask_head = mask_head if self.config.with_masks else None

    @abc.abstractmethod
    def maps(self, images: Tensor, training: bool) -> list[Tensor]:
        """Maps that have anchors, in the order of `strides`."""

    @abc.abstractmethod
    def box_features(self, maps: list[Tensor], boxes: Tensor, training: bool) -> Tensor:
        """`(B, R, ...)` features of boxes `(B, R, 4)`."""

    @abc.abstractmethod
    def vectors(self, features: Tensor) -> Tensor:
        """`(B, R, D)`, which are classified, from what `box_features` returns."""

    @abc.abstractmethod
    def mask_features(
        self, maps: list[Tensor], boxes: Tensor, features: Tensor | None = None
    ) -> Tensor:
        """`(B, P, S, S, C)` for the mask head.

        Args:
            maps: as `maps` returns them.
            boxes: `(B, P, 4)`.
            features: of these boxes, as `box_features` returns them, if they are there already.
        """

    def anchors(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Anchors of each map, `(N, 4)`."""
        parts = zip(maps, self.strides, self.anchor_sizes, strict=True)
        return [
            ops.convert_to_tensor(grid_anchors(x.shape[1], x.shape[2], stride, sizes))
            for x, stride, sizes in parts
        ]

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss terms `rpn_objectness`, `rpn_box`, `box_class`, `box` and `mask`, all of weight 1.

        Args:
            batch: of `pipeline`.
            training: whether batch norm normalises with the statistics of the batch.

        Returns:
            The terms, `class_accuracy` of the proposals and `positive_rois` per image.
        """
        maps = self.maps(batch[IMAGE], training)
        anchors = self.anchors(maps)
        logits, deltas = zip(*(self.rpn(x) for x in maps), strict=True)
        outputs = rpn_losses(
            ops.concatenate(logits, axis=1),
            ops.concatenate(deltas, axis=1),
            ops.concatenate(anchors, axis=0),
            batch,
        )
        config = self.config
        limits = config.limit(self.train_proposals)
        proposals, is_real = propose(logits, deltas, anchors, batch[SIZE], *limits)
        rois = sample_rois(proposals, is_real, batch, config.num_rois, config.num_classes)
        features = self.box_features(maps, rois.boxes, training)
        class_logits, shifts = self.predictor(self.vectors(features))
        outputs |= roi_losses(class_logits, shifts, rois, batch)
        if self.mask_head is not None:
            # Positives come first, and only they have masks.
            num_masks = int(rois.boxes.shape[1] * POSITIVE_SHARE)
            inputs = self.mask_features(maps, rois.boxes[:, :num_masks], features[:, :num_masks])
            masks = self.mask_head(inputs, rois.is_positive[:, :num_masks], training=training)
            outputs["mask"] = mask_loss(masks, rois, batch)
        return outputs

    @tf.autograph.experimental.do_not_convert
    def detect(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Finds the objects of preprocessed images.

        Args:
            images: `(B, H, W, 3)` with static sides, padded below and to the right.
            sizes: `(B, 2)` float32. Height and width of what is not padding.

        Returns:
            By falling score, D at most 100: `boxes` `(B, D, 4)` in pixels, `scores` `(B, D)` (0 where
            there is none), `classes` `(B, D)` int32 and, with masks, `masks` `(B, D, S, S)`:
            probabilities in each box.
        """
        maps = self.maps(images, training=False)
        logits, deltas = zip(*(self.rpn(x) for x in maps), strict=True)
        limits = self.config.limit(self.test_proposals)
        proposals, is_real = propose(logits, deltas, self.anchors(maps), sizes, *limits)
        features = self.box_features(maps, proposals, training=False)
        logits, deltas = self.predictor(self.vectors(features))
        found = find_objects(logits, deltas, proposals, is_real, sizes)
        if self.mask_head is not None:
            inputs = self.mask_features(maps, found["boxes"])
            counts = ops.cast(found["scores"] > SCORE_THRESHOLD, "float32")
            masks = self.mask_head(inputs, counts, training=False)
            found["masks"] = ops.sigmoid(pick_class(masks, found["classes"]))
        return found
