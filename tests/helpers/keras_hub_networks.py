"""Small backbones of KerasHub's families."""

import pytest

REASON = "keras-hub is not installed: pip install 'pixpro-keras[keras-hub]'"


def make_backbone(family, **kwargs):
    """Makes a backbone with random weights. Skips the test if KerasHub is missing."""
    pytest.importorskip("keras_hub", reason=REASON)
    from keras_hub import models

    kind, arguments = _FAMILIES[family]
    return getattr(models, kind)(**arguments | kwargs)


_FAMILIES = {
    "resnet": (
        "ResNetBackbone",
        {
            "input_conv_filters": [64],
            "input_conv_kernel_sizes": [7],
            "stackwise_num_filters": [64, 16, 24, 32],
            "stackwise_num_blocks": [1, 1, 1, 1],
            "stackwise_num_strides": [1, 2, 2, 2],
            "block_type": "basic_block",
        },
    ),
    "cspnet": (
        "CSPNetBackbone",
        {
            "stem_filters": 8,
            "stem_kernel_size": 3,
            "stem_strides": 1,
            "stackwise_depth": [1, 1, 1, 1, 1],
            "stackwise_strides": [2, 2, 2, 2, 2],
            "stackwise_num_filters": [8, 16, 16, 24, 32],
            "block_type": "dark_block",
            "stage_type": "csp",
            "bottle_ratio": [0.5, 1.0],
            "block_ratio": [1.0, 0.5],
            "expand_ratio": [2.0, 1.0],
            "stem_padding": "same",
        },
    ),
    "efficientnet": (
        "EfficientNetBackbone",
        {
            "stackwise_width_coefficients": [1.0] * 5,
            "stackwise_depth_coefficients": [1.0] * 5,
            "stackwise_kernel_sizes": [3] * 5,
            "stackwise_num_repeats": [1] * 5,
            "stackwise_input_filters": [8, 8, 16, 16, 24],
            "stackwise_output_filters": [8, 16, 16, 24, 32],
            "stackwise_expansion_ratios": [1, 2, 2, 2, 2],
            "stackwise_squeeze_and_excite_ratios": [0.25] * 5,
            "stackwise_strides": [1, 2, 2, 2, 2],
            "stackwise_block_types": ["v1", "unfused", "fused", "v1", "v1"],
            "input_shape": (None, None, 3),
        },
    ),
    "mobilenet": (
        "MobileNetBackbone",
        {
            "stackwise_expansion": [[8], [16, 16], [16], [32]],
            "stackwise_num_blocks": [1, 2, 1, 1],
            "stackwise_num_filters": [[8], [16, 16], [16], [24]],
            "stackwise_kernel_size": [[3], [5, 5], [5], [5]],
            "stackwise_num_strides": [[2], [2, 1], [1], [2]],
            "stackwise_se_ratio": [[None], [0.25, 0.25], [0.3], [0.3]],
            "stackwise_activation": [["relu"], ["hard_swish"] * 2, ["hard_swish"], ["hard_swish"]],
            "stackwise_padding": [[1], [2, 2], [2], [2]],
            "output_num_filters": 32,
            "depthwise_filters": 8,
            "squeeze_and_excite": 0.5,
            "last_layer_filter": 32,
            "depthwise_stride": 2,
            "depthwise_residual": False,
        },
    ),
    "mit": (
        "MiTBackbone",
        {
            "layerwise_depths": [1, 1, 1, 1],
            "num_layers": 4,
            "layerwise_num_heads": [1, 1, 2, 2],
            "layerwise_sr_ratios": [8, 4, 2, 1],
            "max_drop_path_rate": 0.1,
            "layerwise_patch_sizes": [7, 3, 3, 3],
            "layerwise_strides": [4, 2, 2, 2],
            "hidden_dims": [8, 16, 24, 32],
            "image_shape": (64, 64, 3),
        },
    ),
    "densenet": ("DenseNetBackbone", {"stackwise_num_repeats": [1, 1, 1, 1]}),
}
FAMILIES = tuple(_FAMILIES)
