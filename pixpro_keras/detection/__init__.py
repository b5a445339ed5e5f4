"""Object detection and instance segmentation: data, models, metrics, serving."""

from pixpro_keras.detection.anchors import cell_anchors, grid_anchors
from pixpro_keras.detection.box_pipeline import BoxConfig, make_box_batches
from pixpro_keras.detection.box_source import BoxSource
from pixpro_keras.detection.boxes import (
    box_area,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    pairwise_iou,
)
from pixpro_keras.detection.c4_detector import C4Detector
from pixpro_keras.detection.coco_ap import coco_scores
from pixpro_keras.detection.datasets import open_boxes
from pixpro_keras.detection.detector import Detector, DetectorConfig
from pixpro_keras.detection.fpn_detector import FPNDetector
from pixpro_keras.detection.inference import Detections, detect_in_source, to_coco_results
from pixpro_keras.detection.mask_head import MaskHead, mask_loss
from pixpro_keras.detection.matching import match_boxes
from pixpro_keras.detection.nms import multiclass_non_max_suppression, non_max_suppression
from pixpro_keras.detection.objects import Objects
from pixpro_keras.detection.registry import available, build, predicts_masks
from pixpro_keras.detection.roi_heads import BoxPredictor, roi_losses, sample_rois
from pixpro_keras.detection.rpn import RPN, generate_proposals, rpn_losses
from pixpro_keras.detection.sampling import subsample_labels
from pixpro_keras.detection.serving import ServedDetector, save_detector
from pixpro_keras.detection.voc_ap import average_precision, voc_scores

__all__ = [
    "RPN",
    "BoxConfig",
    "BoxPredictor",
    "BoxSource",
    "C4Detector",
    "Detections",
    "Detector",
    "DetectorConfig",
    "FPNDetector",
    "MaskHead",
    "Objects",
    "ServedDetector",
    "available",
    "average_precision",
    "box_area",
    "build",
    "cell_anchors",
    "clip_boxes",
    "coco_scores",
    "decode_boxes",
    "detect_in_source",
    "encode_boxes",
    "generate_proposals",
    "grid_anchors",
    "make_box_batches",
    "mask_loss",
    "match_boxes",
    "multiclass_non_max_suppression",
    "non_max_suppression",
    "open_boxes",
    "pairwise_iou",
    "predicts_masks",
    "roi_losses",
    "rpn_losses",
    "sample_rois",
    "save_detector",
    "subsample_labels",
    "to_coco_results",
    "voc_scores",
]
