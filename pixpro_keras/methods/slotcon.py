"""SlotCon: grouping of cells into slots, and contrast of slots."""

from types import MappingProxyType

import keras
from keras import ops

from pixpro_keras import geometry
from pixpro_keras.layers.roi_align import roi_align
from pixpro_keras.layers.slots import SlotHead, SlotPredictor
from pixpro_keras.losses import dense
from pixpro_keras.methods import base, ema
from pixpro_keras.methods.encoder import Encoder
from pixpro_keras.ops import cross_replica_concat, cross_replica_mean, feature_std, to_pixels
from pixpro_keras.types import COORD1, COORD2, VIEW1, VIEW2, Batch, Tensor
from pixpro_keras.utils import checks


class SlotCon(base.PretrainMethod):
    """Both views give a place the same slot, and each slot finds itself in the other view.

    `L = group_weight L_group + (1 - group_weight) L_slot`, each the sum of both directions. The
    grouping loss compares scores of the same places: those of the common part of the views, resampled
    to the map's size. Images without a common part add nothing to it.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        num_slots: prototypes; 256 for COCO and 2048 for ImageNet in the authors' code.
        group_weight: share of the grouping loss, in [0, 1].
        student_temperature: of the online scores, positive.
        teacher_temperature: of the target's scores and of the assignment, positive.
        temperature: of the contrast, positive.
        center_momentum: of the moving average of the target's scores, in [0, 1].
        hidden_dim: hidden channels of projector and predictor.
        out_dim: channels of slots.
        bn_momentum: share of the old moving statistics that batch norm keeps in each step.
        synchronized: whether batch norm takes its statistics over all replicas.
        **kwargs: of `PretrainMethod`.

    Raises:
        ValueError: if an argument is out of its range.

    Reference:
        Wen et al., NeurIPS 2022, arXiv:2205.15288, and the authors' code.
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
        synchronized: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, share in (("group_weight", group_weight), ("center_momentum", center_momentum)):
            if not 0 <= share <= 1:
                raise ValueError(f"`{name}` must be in [0, 1]. Received: {name}={share}.")
        self.group_weight = group_weight
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.temperature = checks.positive("temperature", temperature)
        self.center_momentum = center_momentum
        norm: dict = {"bn_momentum": bn_momentum, "synchronized": synchronized}
        head = SlotHead(
            hidden_dim, out_dim, num_slots, teacher_temperature, name="slot_head", **norm
        )
        self.encoder = Encoder(backbone, {"grouping": head}, name="encoder")
        self.target_encoder = ema.make_target(self.encoder)
        self.momentum_pairs = [(self.encoder, self.target_encoder)]
        self.predictor = SlotPredictor(hidden_dim, out_dim, name="slot_predictor", **norm)
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
        """The loss terms `group` and `slot`, and vital signs.

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
        group = self._group_loss(s1, t2, overlaps) + self._group_loss(s2, t1, overlaps)
        slot1, found1 = self._contrast(online1, target2, training)
        slot2, found2 = self._contrast(online2, target1, training)
        presence = dense.slot_presence(to_pixels(online1["scores"]))
        if training:  # after the loss, as in the authors' code
            self._move_center(target1["scores"], target2["scores"])
        return {
            "group": self.group_weight * group,
            "slot": (1 - self.group_weight) * (slot1 + slot2),
            "slot_top1": (found1 + found2) / 2,
            "num_slots": ops.mean(ops.sum(presence, axis=1)),
            "feature_std": feature_std(online1["projected"]),
        }

    def _group_loss(self, student: Tensor, teacher: Tensor, overlaps: Tensor) -> Tensor:
        mask = ops.repeat(ops.expand_dims(overlaps, 1), student.shape[1], axis=1)
        return dense.slot_assignment_loss(
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
        """Loss and top-1 of finding the online view's slots among all target views'."""
        in_q, in_k = (dense.slot_presence(to_pixels(one["scores"])) for one in (online, target))
        # A view has at most as many slots as cells.
        height, width, num_slots = online["scores"].shape[1:]
        limit = min(height * width, num_slots)
        index, mask = dense.select_slots(in_q * in_k, limit)
        query = dense.take_rows(online["slots"], index)
        query = self.predictor(query, mask, training=training)
        positive = dense.take_rows(target["slots"], index)
        key_index, key_mask = dense.select_slots(in_k, limit)
        keys = ops.stop_gradient(dense.take_rows(target["slots"], key_index))
        keys, key_mask = cross_replica_concat(keys), cross_replica_concat(key_mask)
        arguments = (query, positive, mask, keys, key_mask)
        loss = dense.slot_contrast(
            *arguments, self.temperature, num_queries=cross_replica_mean(ops.sum(mask))
        )
        return loss, dense.slot_top1(*arguments)

    def _move_center(self, *scores: Tensor) -> None:
        mean = sum(ops.mean(ops.stop_gradient(s), axis=(0, 1, 2)) for s in scores) / len(scores)
        kept = self.center_momentum
        self.center.assign(kept * self.center + (1 - kept) * mean)


def _align(scores: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
    """The scores `(B, h, w, K)` in a part of each view, unmirrored: `(B, h * w, K)`."""
    height, width = scores.shape[1:3]
    if height != width:
        raise ValueError(f"SlotCon takes square maps. Received: {height} x {width} cells.")
    aligned = roi_align(scores, ops.expand_dims(boxes * height, 1), height)[:, 0]
    mirrored = ops.flip(aligned, axis=2)
    return to_pixels(ops.where(ops.reshape(flips, (-1, 1, 1, 1)), mirrored, aligned))
