"""SlotCon: grouping of cells into slots, and contrast of slots."""

from types import MappingProxyType

import keras
from keras import ops

from pixpro_keras import geometry
from pixpro_keras.layers.roi_align import roi_align
from pixpro_keras.layers.slots import SlotHead, SlotPredictor
from pixpro_keras.losses.dense import (
    select_slots,
    slot_assignment_loss,
    slot_contrast,
    slot_presence,
    take_rows,
)
from pixpro_keras.methods import base
from pixpro_keras.ops import cross_replica_concat, cross_replica_mean, feature_std, to_pixels
from pixpro_keras.types import COORD1, COORD2, VIEW1, VIEW2, Batch, Tensor
from pixpro_keras.utils import checks

__all__ = ["SlotCon"]


@keras.saving.register_keras_serializable("pixpro_keras")
class SlotCon(base.PretrainMethod):
    """The same slots for the same place in both views, and contrast between slots.

    `L = group_weight L_group + (1 - group_weight) L_slot`, each the sum of both directions. The
    grouping loss compares scores of the same places: those of the common part of the views, resampled
    to the map's size. Images without a common part add nothing to it.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        num_slots: prototypes; 256 for COCO and 2048 for ImageNet in the authors' code.
        group_weight: share of the grouping loss, in [0, 1].
        student_temperature: divisor of the online scores, positive.
        teacher_temperature: divisor of the target's scores and of the assignment's, positive.
        temperature: divisor of the cosines between slots, positive.
        center_momentum: momentum of the moving average of the target's scores, in [0, 1].
        hidden_dim: hidden channels of projector and predictor.
        out_dim: channels of slots.
        bn_momentum: fraction of batch norm's moving statistics that is kept in each step.
        **kwargs: arguments of `PretrainMethod`.

    Raises:
        ValueError: if an argument is out of its range.

    Reference:
        Wen et al., NeurIPS 2022, arXiv:2205.15288, and the authors' code.

    Example:
        ```python
        from pixpro_keras import backbones, methods

        backbone = backbones.build("resnet18_v1_5")
        method = methods.SlotCon(backbone, num_slots=16, hidden_dim=16, out_dim=8, total_steps=9)
        ```
    """

    loss_bounds = MappingProxyType({"group": (0.0, None), "slot": (0.0, None)})
    uses_coordinates = True

    def __init__(
        self,
        backbone: keras.Model,
        num_slots: int = 2048,
        group_weight: float = 0.5,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.07,
        temperature: float = 0.2,
        center_momentum: float = 0.9,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        bn_momentum: float = 0.9,
        **kwargs,
    ):
        head = SlotHead(
            hidden_dim, out_dim, num_slots, teacher_temperature, bn_momentum, name="slot_head"
        )
        super().__init__(backbone, {"grouping": head}, bn_momentum=bn_momentum, **kwargs)
        self.num_slots = num_slots
        self.group_weight = checks.in_range("group_weight", group_weight, 0, 1)
        self.student_temperature = checks.positive("student_temperature", student_temperature)
        self.teacher_temperature = checks.positive("teacher_temperature", teacher_temperature)
        self.temperature = checks.positive("temperature", temperature)
        self.center_momentum = checks.in_range("center_momentum", center_momentum, 0, 1)
        self.hidden_dim = hidden_dim
        self.out_dim = out_dim
        self.predictor = SlotPredictor(hidden_dim, out_dim, bn_momentum, name="slot_predictor")
        self.center = self.add_weight(
            name="center",
            shape=(num_slots,),
            dtype="float32",
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="mean",  # each replica assigns what it saw
        )

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss terms `group` and `slot`, and metrics.

        `slot_top1`: how often a slot finds itself among the slots of all other views. `num_slots`:
        slots in a view that are the best of a cell.
        """
        views = batch[VIEW1], batch[VIEW2]
        online1, online2 = (self.encoder(v, training=training)["grouping"] for v in views)
        target1, target2 = (self.target_encoder(v, training=training)["grouping"] for v in views)
        boxes1, boxes2, overlaps = geometry.common_boxes(batch[COORD1], batch[COORD2])
        flips1, flips2 = (geometry.is_mirrored(batch[coord]) for coord in (COORD1, COORD2))
        s1, t1 = (_align(one["scores"], boxes1, flips1) for one in (online1, target1))
        s2, t2 = (_align(two["scores"], boxes2, flips2) for two in (online2, target2))
        group_12 = self._group_loss(s1, t2, overlaps)
        group_21 = self._group_loss(s2, t1, overlaps)
        slot_12, top1_12 = self._contrast(online1, target2, training)
        slot_21, top1_21 = self._contrast(online2, target1, training)
        presence = slot_presence(to_pixels(online1["scores"]))
        if training:  # after the loss, as in the authors' code
            self._move_center(target1["scores"], target2["scores"])
        return {
            "group": self.group_weight * (group_12 + group_21),
            "slot": (1 - self.group_weight) * (slot_12 + slot_21),
            "slot_top1": (top1_12 + top1_21) / 2,
            "num_slots": ops.mean(ops.sum(presence, axis=1)),
            "feature_std": feature_std(online1["projected"]),
        }

    def _group_loss(self, student: Tensor, teacher: Tensor, overlaps: Tensor) -> Tensor:
        mask = ops.repeat(ops.expand_dims(overlaps, 1), student.shape[1], axis=1)
        return slot_assignment_loss(
            student,
            teacher,
            self.center,
            self.student_temperature,
            self.teacher_temperature,
            mask,
        )

    def _contrast(
        self, online: dict[str, Tensor], target: dict[str, Tensor], training: bool
    ) -> tuple[Tensor, Tensor]:
        """Contrastive loss and top-1 accuracy of online slots against the target slots of all images."""
        in_q, in_k = (slot_presence(to_pixels(one["scores"])) for one in (online, target))
        # A view has at most as many slots as cells.
        height, width, num_slots = online["scores"].shape[1:]
        limit = min(height * width, num_slots)
        index, mask = select_slots(in_q * in_k, limit)
        query = self.predictor(take_rows(online["slots"], index), mask, training=training)
        positive = take_rows(target["slots"], index)
        key_index, key_mask = select_slots(in_k, limit)
        keys = ops.stop_gradient(take_rows(target["slots"], key_index))
        return slot_contrast(
            query,
            positive,
            mask,
            cross_replica_concat(keys),
            cross_replica_concat(key_mask),
            self.temperature,
            num_queries=cross_replica_mean(ops.sum(mask)),
        )

    def _move_center(self, *scores: Tensor) -> None:
        mean = sum(ops.mean(ops.stop_gradient(s), axis=(0, 1, 2)) for s in scores) / len(scores)
        kept = self.center_momentum
        self.center.assign(kept * self.center + (1 - kept) * mean)

    def get_config(self) -> dict:
        """Constructor arguments, the backbone serialized."""
        return super().get_config() | {
            "num_slots": self.num_slots,
            "group_weight": self.group_weight,
            "student_temperature": self.student_temperature,
            "teacher_temperature": self.teacher_temperature,
            "temperature": self.temperature,
            "center_momentum": self.center_momentum,
            "hidden_dim": self.hidden_dim,
            "out_dim": self.out_dim,
        }


def _align(scores: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
    """Crops the scores `(B, h, w, K)` to a part of each view and undoes mirroring: `(B, h * w, K)`."""
    height, width = scores.shape[1:3]
    if height != width:
        raise ValueError(f"SlotCon takes square maps. Received: {height} x {width} cells.")
    aligned = roi_align(scores, ops.expand_dims(boxes * height, 1), height, sampling_ratio=1)[:, 0]
    mirrored = ops.flip(aligned, axis=2)
    return to_pixels(ops.where(ops.reshape(flips, (-1, 1, 1, 1)), mirrored, aligned))
