"""Evaluation of frozen features: k-NN, linear probe, dense linear probe, and their monitor."""

from pixpro_keras.evaluation.compare import compare_backbones, comparison_table, feature_accuracies
from pixpro_keras.evaluation.confusion_matrix import (
    ConfusionMatrix,
    SegmentationScores,
    evaluate_segmentation,
)
from pixpro_keras.evaluation.dense_linear_probe import (
    DenseLinearClassifier,
    fit_dense_linear_probe,
)
from pixpro_keras.evaluation.features import (
    Features,
    extract_features,
    image_batches,
    labeled_batches,
)
from pixpro_keras.evaluation.knn import top_k_accuracy, weighted_knn
from pixpro_keras.evaluation.linear_probe import LinearProbe, feature_batches
from pixpro_keras.evaluation.logistic_regression import fit_logistic_regression
from pixpro_keras.evaluation.monitor import Monitor, dense_linear_miou, knn_accuracy
from pixpro_keras.evaluation.precise_bn import apply_precise_bn, temporary_precise_bn
from pixpro_keras.evaluation.replicas import over_replicas
from pixpro_keras.evaluation.scenes_probe import probe_on_scenes

__all__ = [
    "ConfusionMatrix",
    "DenseLinearClassifier",
    "Features",
    "LinearProbe",
    "Monitor",
    "SegmentationScores",
    "apply_precise_bn",
    "compare_backbones",
    "comparison_table",
    "dense_linear_miou",
    "evaluate_segmentation",
    "extract_features",
    "feature_accuracies",
    "feature_batches",
    "fit_dense_linear_probe",
    "fit_logistic_regression",
    "image_batches",
    "knn_accuracy",
    "labeled_batches",
    "over_replicas",
    "probe_on_scenes",
    "temporary_precise_bn",
    "top_k_accuracy",
    "weighted_knn",
]
