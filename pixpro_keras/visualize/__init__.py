"""Pictures and plots of views, features, runs and results."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixpro_keras.utils.metrics_file import read_metrics
    from pixpro_keras.visualize.before_after import draw_before_after
    from pixpro_keras.visualize.click_map import write_click_map
    from pixpro_keras.visualize.comparison_chart import draw_comparison
    from pixpro_keras.visualize.confusion import draw_confusion_matrix
    from pixpro_keras.visualize.correspondences import draw_correspondences, to_display
    from pixpro_keras.visualize.dense_pca import draw_pca, pca_colors
    from pixpro_keras.visualize.detection import draw_detections
    from pixpro_keras.visualize.figures import figure_to_array, new_figure, save_figure
    from pixpro_keras.visualize.plots import draw_metrics, plot_metrics
    from pixpro_keras.visualize.result_chart import Panel, draw_results
    from pixpro_keras.visualize.retrieval import draw_retrieval, nearest_cells
    from pixpro_keras.visualize.run_pictures import RunPictures
    from pixpro_keras.visualize.segmentation import class_colors, draw_segmentations
    from pixpro_keras.visualize.similarity import draw_similarity, map_to_show

__all__ = [
    "Panel",
    "RunPictures",
    "class_colors",
    "draw_before_after",
    "draw_comparison",
    "draw_confusion_matrix",
    "draw_correspondences",
    "draw_detections",
    "draw_metrics",
    "draw_pca",
    "draw_results",
    "draw_retrieval",
    "draw_segmentations",
    "draw_similarity",
    "figure_to_array",
    "map_to_show",
    "nearest_cells",
    "new_figure",
    "pca_colors",
    "plot_metrics",
    "read_metrics",
    "save_figure",
    "to_display",
    "write_click_map",
]

# Module -> names of `__all__` from it.
_NAMES = {
    "before_after": ("draw_before_after",),
    "click_map": ("write_click_map",),
    "comparison_chart": ("draw_comparison",),
    "confusion": ("draw_confusion_matrix",),
    "correspondences": ("draw_correspondences", "to_display"),
    "dense_pca": ("draw_pca", "pca_colors"),
    "detection": ("draw_detections",),
    "figures": ("figure_to_array", "new_figure", "save_figure"),
    "plots": ("draw_metrics", "plot_metrics"),
    "result_chart": ("Panel", "draw_results"),
    "retrieval": ("draw_retrieval", "nearest_cells"),
    "run_pictures": ("RunPictures",),
    "segmentation": ("class_colors", "draw_segmentations"),
    "similarity": ("draw_similarity", "map_to_show"),
}


def __getattr__(name: str) -> Any:
    # Not on import: plots of finished runs do not need TensorFlow.
    if name == "read_metrics":
        return importlib.import_module("pixpro_keras.utils.metrics_file").read_metrics
    for module, names in _NAMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
