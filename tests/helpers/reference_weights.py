"""Weights of the reference numbers in `../shared/reference`, rebuilt by their rule."""

import json
import zlib

import numpy as np

from tests.helpers.shared_data import shared_path

# The target networks of the release hold the weights of their online twins.
_TWINS = {
    "encoder_k.": "encoder.",
    "projector_k.": "projector.",
    "projector_instance_k.": "projector_instance.",
}


def by_rule(name, shape):
    """Computes the values of parameter `name` in torch layout, float32 of `shape`."""
    for target, online in _TWINS.items():
        name = online + name[len(target) :] if name.startswith(target) else name
    if name.endswith(("running_mean", "num_batches_tracked")):
        return np.zeros(shape, "float32")
    if name.endswith("running_var"):
        return np.ones(shape, "float32")
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) == 1:
        return (1 + 0.1 * values if name.endswith("weight") else 0.1 * values).astype("float32")
    return (values * np.sqrt(2 / np.prod(shape[1:]))).astype("float32")


def official_state(transform_layers=1, instance=False):
    """`{name: array}` of the release's ResNet-50 PixPro, in torch layout.

    Args:
        transform_layers: 0 or 1.
        instance: whether it has the instance branch, whose names the list of keys lacks.
    """
    keys = json.loads(shared_path("reference", "official_state_dict_keys.json").read_text())
    if transform_layers == 0:
        keys = {k: shape for k, shape in keys.items() if not k.startswith("value_transform")}
    if instance:
        heads = {k: shape for k, shape in keys.items() if k.startswith("projector.")}
        for name, shape in heads.items():
            part = name.removeprefix("projector.")
            keys[f"projector_instance.{part}"] = keys[f"projector_instance_k.{part}"] = shape
            keys[f"predictor.{part}"] = shape
        keys["predictor.linear1.weight"] = [4096, 256, 1, 1]
    return {name: by_rule(name, tuple(shape)) for name, shape in keys.items()}
