"""Losses: pure functions of tensors that give float32 scalars."""

from pixpro_keras.losses.dense import (
    dense_info_nce,
    match_cells,
    select_slots,
    slot_assignment_loss,
    slot_contrast,
    slot_presence,
    take_rows,
)
from pixpro_keras.losses.instance import (
    batch_info_nce,
    cross_entropy,
    info_nce,
    negative_cosine,
    nt_xent,
    top1,
)
from pixpro_keras.losses.pixel import pixel_consistency, pixel_contrast, positive_pair_metrics
from pixpro_keras.losses.spread import spread_terms

__all__ = [
    "batch_info_nce",
    "cross_entropy",
    "dense_info_nce",
    "info_nce",
    "match_cells",
    "negative_cosine",
    "nt_xent",
    "pixel_consistency",
    "pixel_contrast",
    "positive_pair_metrics",
    "select_slots",
    "slot_assignment_loss",
    "slot_contrast",
    "slot_presence",
    "spread_terms",
    "take_rows",
    "top1",
]
