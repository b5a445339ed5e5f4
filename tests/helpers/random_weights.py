"""Random weights that make the features of a network depend on all its layers."""

import keras
import numpy as np


def randomize(model, seed=0):
    """Sets random weights, also of batch norm, that keep the scale of the features.

    New ResNets pass their input through, since their last scales are 0, and other untrained networks
    let it fade.
    """
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if isinstance(layer, keras.layers.BatchNormalization) and layer.built:
            layer.moving_mean.assign(0.1 * rng.standard_normal(layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.moving_variance.shape))
    for variable in model.trainable_variables:
        values = rng.standard_normal(variable.shape)
        if len(variable.shape) > 1:
            # A depthwise kernel (h, w, C, 1) has fan-in h * w.
            fan_in = np.prod(variable.shape[:-1])
            if len(variable.shape) == 4 and variable.shape[-1] == 1:
                fan_in = np.prod(variable.shape[:2])
            values *= np.sqrt(2 / fan_in)
        elif "gamma" in variable.name:
            values = 1 + 0.1 * values
        else:
            values *= 0.1
        variable.assign(values)
    return model


def photo(height, width, batch=1, seed=0):
    """Makes smooth random images, `(batch, height, width, 3)` float32 in 0..255."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (batch, height // 8 + 1, width // 8 + 1, 3))
    fine = rng.uniform(-20, 20, (batch, height, width, 3))
    image = coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width] + fine
    return np.clip(image, 0, 255).astype("float32")
