"""Layers of networks and heads, and the initializers and RoIAlign that they use."""

from pixpro_keras.layers.batch_norm import BatchNormalization
from pixpro_keras.layers.conv import Conv2D
from pixpro_keras.layers.depthwise_conv import DepthwiseConv2D
from pixpro_keras.layers.fpn import FPN
from pixpro_keras.layers.heads import PointwiseMLP, PooledMLP
from pixpro_keras.layers.initializers import he_normal_fan_out, torch_defaults
from pixpro_keras.layers.masked_batch_norm import MaskedBatchNorm
from pixpro_keras.layers.normalization import Normalization
from pixpro_keras.layers.pixel_propagation import PixelPropagation, similarity
from pixpro_keras.layers.queue import Queue
from pixpro_keras.layers.roi_align import pyramid_roi_align, roi_align
from pixpro_keras.layers.slots import SlotHead, SlotPredictor

__all__ = [
    "FPN",
    "BatchNormalization",
    "Conv2D",
    "DepthwiseConv2D",
    "MaskedBatchNorm",
    "Normalization",
    "PixelPropagation",
    "PointwiseMLP",
    "PooledMLP",
    "Queue",
    "SlotHead",
    "SlotPredictor",
    "he_normal_fan_out",
    "pyramid_roi_align",
    "roi_align",
    "similarity",
    "torch_defaults",
]
