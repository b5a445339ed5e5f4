"""The two-stage detector: proposals, then classes, boxes and masks."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.backbones.data_format import require_channels_last
from pixpro_keras.detection.anchors import ASPECT_RATIOS, grid_anchors
from pixpro_keras.detection.box_pipeline import BOXES, CLASSES, IMAGE, MASKS, SEED, SIZE
from pixpro_keras.detection.mask_head import MaskHead, mask_loss, select_class
from pixpro_keras.detection.roi_heads import (
    POSITIVE_FRACTION,
    SCORE_THRESHOLD,
    BoxPredictor,
    postprocess_detections,
    roi_losses,
    sample_rois,
)
from pixpro_keras.detection.rpn import RPN, generate_proposals, rpn_losses
from pixpro_keras.detection.static_sizes import call_with_fewest
from pixpro_keras.layers.batch_norm import BatchNormalization
from pixpro_keras.task import Task
from pixpro_keras.types import Batch, Tensor
from pixpro_keras.utils import checks

_LOSSES = ("rpn_objectness", "rpn_box", "box_class", "box")


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """Sizes of a detector; the rest of the protocol is fixed.

    Attributes:
        num_classes: K, number of classes without the background.
        with_masks: whether the detector predicts masks.
        num_rois: proposals sampled per training image, at least 4; up to a quarter are positive.
        max_proposals: largest number of proposals per image after suppression; None: the protocol's.
        bn_momentum: fraction of batch norm's moving statistics that is kept in each step.

    Raises:
        ValueError: if a size is too small.

    Example:
        ```python
        from pixpro_keras.detection import DetectorConfig

        config = DetectorConfig(num_classes=20, max_proposals=300)
        ```
    """

    num_classes: int
    with_masks: bool = False
    num_rois: int = 512
    max_proposals: int | None = None
    bn_momentum: float = 0.9

    def __post_init__(self):
        """Checks the values."""
        checks.at_least("num_classes", self.num_classes, 1)
        checks.at_least("num_rois", self.num_rois, 4)
        if self.max_proposals is not None:
            checks.at_least("max_proposals", self.max_proposals, 1)

    def limit(self, num_proposals: tuple[int, int]) -> tuple[int, int]:
        """Numbers of proposals before and after suppression, at most `max_proposals` after it."""
        pre_nms_top_k, post_nms_top_k = num_proposals
        return pre_nms_top_k, min(post_nms_top_k, self.max_proposals or post_nms_top_k)

    def batch_norm(self, name: str) -> BatchNormalization:
        """A batch norm of the heads."""
        return BatchNormalization(momentum=self.bn_momentum, epsilon=1e-5, name=name)


class Detector(Task, abc.ABC):
    """Faster R-CNN, or Mask R-CNN with masks; subclasses define the feature maps and the heads.

    Nothing is frozen. Batches are those of `box_pipeline`.

    Args:
        config: sizes.
        **kwargs: arguments of `Task`.

    Raises:
        DataFormatError: if Keras's image data format is channels_first.

    Reference:
        Ren et al., NeurIPS 2015, arXiv:1506.01497; He et al., ICCV 2017, arXiv:1703.06870; all
        numbers as in detectron2's configurations.

    Example:
        ```python
        from pixpro_keras import backbones, detection

        config = detection.DetectorConfig(num_classes=3)
        detector = detection.build("faster_rcnn_c4", backbones.build("resnet18_v1_5"), config)
        assert isinstance(detector, detection.Detector)
        ```
    """

    backbone: keras.Model
    # Pixels per cell and anchor sizes in pixels of each map.
    strides: tuple[int, ...]
    anchor_sizes: tuple[tuple[int, ...], ...]
    # Largest numbers of proposals: per map before suppression, per image after it.
    train_num_proposals: tuple[int, int]
    test_num_proposals: tuple[int, int]

    def __init__(self, config: DetectorConfig, **kwargs):
        require_channels_last()
        super().__init__(**kwargs)
        self.config = config
        names = (*_LOSSES, "mask") if config.with_masks else _LOSSES
        self.loss_bounds = dict.fromkeys(names, (0.0, None))

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, the backbone and the sizes serialized."""
        return super().get_config() | {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "config": dataclasses.asdict(self.config),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Task:
        """A new detector with the same arguments and precision, and weights of its own."""
        return super().from_config(config | {"config": DetectorConfig(**config["config"])})

    def _build_heads(
        self, map_channels: int, vector_size: int, mask_channels: int, num_mask_convolutions: int
    ) -> None:
        """Creates the heads that all detectors have. Subclasses call it last.

        Args:
            map_channels: channels of the maps with anchors.
            vector_size: D, channels of `box_vectors`.
            mask_channels: channels of `mask_features`.
            num_mask_convolutions: 3x3 convolutions of the mask head.
        """
        config = self.config
        mask_head = None
        if config.with_masks:
            mask_head = MaskHead(
                config.num_classes, num_mask_convolutions, config.bn_momentum, name="mask_head"
            )
            mask_head.build((None, None, None, None, mask_channels))
        self.rpn = RPN(len(self.anchor_sizes[0]) * len(ASPECT_RATIOS), name="rpn")
        self.rpn.build((None, None, None, map_channels))
        self.predictor = BoxPredictor(config.num_classes, name="predictor")
        self.predictor.build((None, None, vector_size))
        self.mask_head = mask_head

    @abc.abstractmethod
    def feature_maps(self, images: Tensor, training: bool) -> list[Tensor]:
        """Maps with anchors, in the order of `strides`."""

    @abc.abstractmethod
    def box_features(self, maps: list[Tensor], boxes: Tensor, training: bool) -> Tensor:
        """Features `(B, R, ...)` of boxes `(B, R, 4)`."""

    @abc.abstractmethod
    def box_vectors(self, features: Tensor) -> Tensor:
        """Vectors `(B, R, D)` that are classified, from outputs of `box_features`."""

    @abc.abstractmethod
    def mask_features(
        self, maps: list[Tensor], boxes: Tensor, features: Tensor | None = None
    ) -> Tensor:
        """Inputs `(B, P, S, S, C)` of the mask head.

        Args:
            maps: outputs of `feature_maps`.
            boxes: `(B, P, 4)`.
            features: outputs of `box_features` for these boxes, if they exist already.
        """

    def anchors(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Anchors `(N, 4)` of each map."""
        parts = zip(maps, self.strides, self.anchor_sizes, strict=True)
        return [
            ops.convert_to_tensor(grid_anchors(x.shape[1], x.shape[2], stride, sizes))
            for x, stride, sizes in parts
        ]

    def check_batch(self, batch: Batch) -> None:
        """Raises a ValueError if a batch lacks an entry of `box_pipeline`."""
        super().check_batch(batch)
        self.require_keys(
            batch, IMAGE, SIZE, BOXES, CLASSES, SEED, *[MASKS] * self.config.with_masks
        )

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss terms `rpn_objectness`, `rpn_box`, `box_class`, `box` and `mask`, all of weight 1.

        Args:
            batch: batch of `box_pipeline`.
            training: whether batch norm normalizes with the statistics of the batch.

        Returns:
            The terms, `class_accuracy` of the proposals and `positive_rois` per image.
        """
        maps = self.feature_maps(batch[IMAGE], training)
        anchors = self.anchors(maps)
        logits, deltas = zip(*(self.rpn(x) for x in maps), strict=True)
        outputs = rpn_losses(
            ops.concatenate(logits, axis=1),
            ops.concatenate(deltas, axis=1),
            ops.concatenate(anchors, axis=0),
            batch,
        )
        config = self.config
        num_proposals = config.limit(self.train_num_proposals)
        proposals, is_valid = generate_proposals(
            logits, deltas, anchors, batch[SIZE], *num_proposals
        )
        rois = sample_rois(proposals, is_valid, batch, config.num_rois, config.num_classes)
        features = self.box_features(maps, rois.boxes, training)
        class_logits, class_deltas = self.predictor(self.box_vectors(features))
        outputs |= roi_losses(class_logits, class_deltas, rois, batch)
        mask_head = self.mask_head
        if mask_head is not None:
            # Positives come first, and only they have masks.
            def loss_of_first(count: int) -> Tensor:
                inputs = self.mask_features(maps, rois.boxes[:, :count], features[:, :count])
                masks = mask_head(inputs, rois.is_positive[:, :count], training=training)
                return mask_loss(masks, rois, batch)

            num_masks = int(rois.boxes.shape[1] * POSITIVE_FRACTION)
            if tf.distribute.get_strategy().num_replicas_in_sync > 1:
                outputs["mask"] = loss_of_first(num_masks)
            else:
                num_positives = ops.max(ops.sum(rois.is_positive, axis=1))
                outputs["mask"] = call_with_fewest(loss_of_first, num_positives, num_masks)
        return outputs

    @tf.autograph.experimental.do_not_convert
    def detect(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Detects the objects of preprocessed images.

        Args:
            images: `(B, H, W, 3)` with static sides, padded below and to the right.
            sizes: `(B, 2)` float32. Height and width of each image without its padding.

        Returns:
            By decreasing score, D at most 100: `boxes` `(B, D, 4)` in pixels, `scores` `(B, D)` (0 for
            padding), `classes` `(B, D)` int32 and, with masks, `masks` `(B, D, S, S)`:
            probabilities in each box.
        """
        maps = self.feature_maps(images, training=False)
        logits, deltas = zip(*(self.rpn(x) for x in maps), strict=True)
        num_proposals = self.config.limit(self.test_num_proposals)
        proposals, is_valid = generate_proposals(
            logits, deltas, self.anchors(maps), sizes, *num_proposals
        )

        def classify_first(count: int) -> tuple[Tensor, Tensor]:
            features = self.box_features(maps, proposals[:, :count], training=False)
            logits, deltas = self.predictor(self.box_vectors(features))
            return _pad_second(logits, num_rois), _pad_second(deltas, num_rois)

        num_rois = proposals.shape[1]
        logits, deltas = call_with_fewest(classify_first, _count_last(is_valid), num_rois)
        detections = postprocess_detections(logits, deltas, proposals, is_valid, sizes)
        mask_head = self.mask_head
        if mask_head is not None:
            boxes, classes = detections["boxes"], detections["classes"]
            is_found = detections["scores"] > SCORE_THRESHOLD

            def masks_of_first(count: int) -> Tensor:
                inputs = self.mask_features(maps, boxes[:, :count])
                masks = mask_head(inputs, is_found[:, :count], training=False)
                masks = ops.sigmoid(select_class(masks, classes[:, :count]))
                return _pad_second(masks, num_boxes)

            num_boxes = boxes.shape[1]
            detections["masks"] = call_with_fewest(masks_of_first, _count_last(is_found), num_boxes)
        return detections


def _count_last(is_used: Tensor) -> Tensor:
    """Number of leading columns that contain all true entries of `(B, N)` booleans."""
    positions = ops.arange(1, is_used.shape[1] + 1)
    return ops.max(ops.where(is_used, positions, 0))


def _pad_second(values: Tensor, size: int) -> Tensor:
    """Pads `(B, n, ...)` with zeros to `(B, size, ...)`."""
    missing = size - values.shape[1]
    return ops.pad(values, [(0, missing if axis == 1 else 0) for axis in range(len(values.shape))])
