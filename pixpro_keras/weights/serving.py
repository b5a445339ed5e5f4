"""Export of a backbone for programs without Keras: SavedModel, ONNX, LiteRT, for any batch and image size."""

import contextlib
import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from pixpro_keras.backbones.weight_copies import refresh_normalization
from pixpro_keras.types import Tensor


def save_saved_model(network: keras.Model, path: pathlib.Path) -> None:
    """Writes a folder for TensorFlow and TensorFlow Serving.

    Args:
        network: float32 functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        path: the folder.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras import backbones
        from pixpro_keras.weights.serving import save_saved_model

        network = backbones.plain_network("resnet18_v1_5")
        save_saved_model(network, pathlib.Path(tempfile.mkdtemp(), "saved_model"))
        ```
    """
    _export(network, path, "tf_saved_model")


def save_onnx(network: keras.Model, path: pathlib.Path) -> None:
    """Writes a file for onnxruntime and others; see `save_saved_model`.

    Raises:
        ImportError: if the converters are not installed.
    """
    try:
        import onnx  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"the format onnx needs {error.name}: pip install 'pixpro-keras[onnx]'"
        ) from error
    # Of MobileNetV3 an optimization fails, with a traceback in the log; the file is valid without it.
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    _export(_with_constants(_with_grouped_operations(network)), path, "onnx")


class _Function(keras.layers.Layer):
    """Layer that calls a function of TensorFlow."""

    def __init__(self, function: Callable[[Tensor], Any], **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, images: Tensor) -> Any:
        return self.function(images)


def _with_constants(network: keras.Model) -> keras.Model:
    """Makes a network whose tensors, variables or not, are constants.

    tf2onnx takes tensors that are no variables, such as the mean of `Normalization`, for inputs of the model.
    """
    spec = tf.TensorSpec((None, None, None, 3), "float32")
    traced = tf.function(lambda images: network(images, training=False)).get_concrete_function(spec)
    frozen = convert_variables_to_constants_v2(traced)

    def compute(images: Tensor) -> Any:
        return tf.nest.pack_sequence_as(traced.structured_outputs, frozen(images))

    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, _Function(compute)(inputs), name=network.name)


class _GroupedConv2D(keras.layers.Conv2D):
    """Grouped convolution by `tf.nn.conv2d`; Keras's layer uses an XLA-compiled function."""

    def call(self, inputs: Tensor) -> Tensor:
        outputs = tf.nn.conv2d(
            inputs, self.kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate
        )
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return self.activation(outputs)


def _with_grouped_operations(network: keras.Model) -> keras.Model:
    """Replaces grouped convolutions, if there are any, by layers that tf2onnx can convert."""

    def is_grouped(layer: keras.layers.Layer) -> bool:
        return type(layer) is keras.layers.Conv2D and layer.groups > 1

    def has_grouped(model: keras.Model) -> bool:
        return any(
            is_grouped(x) or (isinstance(x, keras.Model) and has_grouped(x)) for x in model.layers
        )

    if not has_grouped(network):
        return network

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind = _GroupedConv2D if is_grouped(layer) else type(layer)
        return kind.from_config(layer.get_config())

    copy = keras.models.clone_model(network, clone_function=clone, recursive=True)
    copy.set_weights(network.get_weights())
    refresh_normalization(copy)
    return copy


def save_litert(network: keras.Model, path: pathlib.Path) -> None:
    """Writes a `.tflite` file for phones and small devices; see `save_saved_model`."""
    _export(network, path, "litert")


def _export(network: keras.Model, path: pathlib.Path, keras_format: str) -> None:
    inputs = keras.Input((None, None, 3), name="images")
    named = keras.Model(inputs, network(inputs, training=False), name=network.name)
    # The converters print debug messages.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        named.export(
            str(path),
            format=keras_format,
            verbose=False,
            input_signature=[keras.InputSpec("float32", (None, None, None, 3), name="images")],
        )
