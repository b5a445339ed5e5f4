"""A backbone for programs without Keras: SavedModel, ONNX, LiteRT. Any batch, any image size."""

import contextlib
import os
import pathlib

import keras


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
    _export(network, path, "onnx")


def save_litert(network: keras.Model, path: pathlib.Path) -> None:
    """Writes a `.tflite` file for phones and small devices; see `save_saved_model`."""
    _export(network, path, "litert")


def _export(network: keras.Model, path: pathlib.Path, keras_format: str) -> None:
    inputs = keras.Input((None, None, 3), name="images")
    named = keras.Model(inputs, network(inputs, training=False), name=network.name)
    # The converters print messages for their developers.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        named.export(
            str(path),
            format=keras_format,
            verbose=False,
            input_signature=[keras.InputSpec("float32", (None, None, None, 3), name="images")],
        )
