"""Backbones by name: construction, input convention and weights of each network."""

import difflib
import functools
import itertools
import pathlib
import re
import warnings
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.backbones import keras_cv_networks, network_files, resnet
from pixpro_keras.backbones.levels import mark_level, named_levels
from pixpro_keras.layers.batch_norm import BatchNormalization
from pixpro_keras.layers.conv import Conv2D
from pixpro_keras.layers.initializers import he_normal_fan_out
from pixpro_keras.layers.normalization import Normalization
from pixpro_keras.types import Tensor
from pixpro_keras.utils.errors import first_line

# ResNets of keras.applications that are initialized as in the paper.
_RESNETS = ("resnet50", "resnet101", "resnet152")
_RESNETS_V2 = ("resnet50v2", "resnet101v2", "resnet152v2")
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@functools.cache
def _applications() -> dict[str, Callable[..., keras.Model]]:
    """Lower-case name -> constructor in keras.applications.

    NASNet is excluded: keras.applications can build it only for one fixed image size.
    """
    return {
        name.lower(): getattr(keras.applications, name)
        for name in dir(keras.applications)
        if name[0].isupper() and not name.startswith("NASNet")
    }


def available() -> tuple[str, ...]:
    """Names that `build` accepts, sorted: keras.applications except NASNet, our ResNets, KerasCV's presets.

    Example:
        ```python
        from pixpro_keras import backbones

        assert "resnet50_v1_5" in backbones.available()
        ```
    """
    own = (*_applications(), *resnet.ARCHITECTURES)
    return tuple(sorted([*own, *keras_cv_networks.names()]))


def name_of(network: keras.Model) -> str | None:
    """Name of a network from `build` or `plain_network`, or of a copy of it; None for others.

    Example:
        ```python
        from pixpro_keras import backbones

        assert backbones.name_of(backbones.build("resnet18_v1_5")) == "resnet18_v1_5"
        ```
    """
    name = keras_cv_networks.name_of(network) or network.name.lower()
    return name if name in available() else None


def is_keras_application(name: str) -> bool:
    """Tells if the name is of keras.applications, which then loads the backbone's weights.

    Raises:
        ValueError: if the name is unknown.

    Example:
        ```python
        from pixpro_keras import backbones

        assert backbones.is_keras_application("resnet50")
        assert not backbones.is_keras_application("resnet50_v1_5")
        ```
    """
    _check_name(name)
    return name in _applications()


def constructor_name(name: str) -> str:
    """Name of the network's constructor in keras.applications.

    Raises:
        ValueError: if keras.applications has no such network.

    Example:
        ```python
        from pixpro_keras import backbones

        assert backbones.constructor_name("resnet50") == "keras.applications.ResNet50"
        ```
    """
    if not is_keras_application(name):
        raise ValueError(f"{name} is not a network of keras.applications")
    return f"keras.applications.{_applications()[name].__name__}"


def build(name: str, *, output_stride: int = 32, bn_momentum: float = 0.9) -> keras.Model:
    """Builds a backbone up to its last feature map (C5), with new weights.

    A network of keras.applications keeps its architecture, the order of its weights and its
    outputs, except for the settings below. ResNets (`resnet50`, 101, 152 and the paper's family)
    are initialized as in the paper: convolutions He-normal (fan out), the last batch-norm scale of
    each residual block 0. Other networks keep their own initialization.

    Args:
        name: one of `available()`, or the path of a Keras file (`.keras`) with any functional network.
        output_stride: pixels per cell of the map: 32, or 16 for ResNets (V2 too), whose last stage
            then keeps its resolution and dilates its 3x3 convolutions by 2, with the same weights
            and names.
        bn_momentum: fraction of batch norm's moving statistics that is kept in each step.

    Returns:
        Functional model `(B, H, W, 3) -> (B, h, w, C)` under the global dtype policy.

    Raises:
        ValueError: if the name is unknown or the network has no such output stride.

    Example:
        ```python
        import keras

        from pixpro_keras import backbones

        backbone = backbones.build("resnet18_v1_5", output_stride=16)
        print(backbone(keras.random.normal((1, 64, 64, 3))).shape)  # (1, 4, 4, 512)
        ```
    """
    _check_name(name)
    is_resnet = name in resnet.ARCHITECTURES or name in (*_RESNETS, *_RESNETS_V2)
    if output_stride not in (32, 16) or (output_stride == 16 and not is_resnet):
        raise ValueError(
            f"`output_stride` must be 32{' or 16' if is_resnet else ''} for {name}. "
            f"Received: output_stride={output_stride}."
        )
    if name in resnet.ARCHITECTURES:
        return resnet.build_resnet(
            name,
            output_stride=output_stride,
            bn_momentum=bn_momentum,
            batch_norm=BatchNormalization,
            convolution=Conv2D,
        )
    base = _keras_network(name)
    dilated = _dilated_settings(base) if output_stride == 16 else {}
    marked = {x._keras_history.operation.name: level for level, x in named_levels(base).items()}

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config, kind = layer.get_config(), type(layer)
        if isinstance(layer, keras.layers.BatchNormalization):
            config["momentum"] = bn_momentum
            kind = BatchNormalization
        elif kind is keras.layers.Conv2D:
            kind = Conv2D
        elif kind is keras.layers.Normalization:
            kind = Normalization
        if network_files.is_file(name) and "dtype" in config:
            config["dtype"] = keras.config.dtype_policy()  # Not the saved policy.
        if name in _RESNETS:
            config |= _initialization(layer)
        config |= dilated.get(layer.name, {})
        return kind.from_config(config)

    def call(layer: keras.layers.Layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        # The copy is a plain model without the attributes of its class.
        return mark_level(marked[layer.name])(outputs) if layer.name in marked else outputs

    try:
        model = keras.models.clone_model(base, clone_function=clone, call_function=call)
    except (TypeError, ValueError):
        if not network_files.is_file(name):
            raise
        # Some layers, as in KerasHub's MiT, cannot be built from their config, but their network can.
        return network_files.with_new_weights(base, keras.config.dtype_policy().name)
    model.name = name if name in _applications() else base.name
    return model


def _initialization(layer: keras.layers.Layer) -> dict:
    """Config entries of a layer for the paper's initialization."""
    if isinstance(layer, keras.layers.Conv2D):
        return {"kernel_initializer": he_normal_fan_out()}
    if re.fullmatch(r"conv\d_block\d+_3_bn", layer.name):
        return {"gamma_initializer": "zeros"}
    return {}


def _dilated_settings(base: keras.Model) -> dict[str, dict]:
    """Layer name -> config entries for a dilated last stage (output stride 16)."""
    settings: dict[str, dict] = {}
    # The first ResNets halve the map in conv5's first block, V2 in conv4's last one; its shortcut
    # there is a pooling of single cells.
    pooled = [x for x in base.layers if getattr(x, "pool_size", None) == (1, 1)]
    halving = [x for x in base.layers if getattr(x, "strides", None) == (2, 2)]
    stage = "conv4_" if pooled else "conv5_"
    for layer in [x for x in halving if x.name.startswith(stage)] + pooled[-1:]:
        settings[layer.name] = {"strides": 1}
    for layer in base.layers:
        if re.fullmatch(r"conv5_block\d+_2_conv", layer.name):
            settings[layer.name] = settings.get(layer.name, {}) | {"dilation_rate": 2}
        elif re.fullmatch(r"conv5_block\d+_2_pad", layer.name):
            settings[layer.name] = {"padding": 2}
    return settings


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies a network's weights into the same network with other settings, such as a dilated one.

    Args:
        source: trained network, under any dtype policy and strategy.
        target: from `build` or `plain_network`; output stride, batch-norm settings and dtype policy
            stay its own.

    Raises:
        ValueError: naming the first weight that does not fit; nothing is copied then.

    Example:
        ```python
        from pixpro_keras import backbones

        backbone = backbones.build("resnet18_v1_5")
        dilated = backbones.build("resnet18_v1_5", output_stride=16)
        backbones.copy_weights(backbone, dilated)
        ```
    """
    check_same_weights(source, target)
    for value, variable in zip(source.weights, target.weights, strict=True):
        variable.assign(keras.ops.convert_to_numpy(value))
    for layer in target.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # Keras's layer uses copies of its weights.


def check_same_weights(source: keras.Model, target: keras.Model) -> None:
    """Checks that two networks have the same weights, by name and shape.

    Args:
        source: a network.
        target: another one.

    Raises:
        ValueError: naming the first weight that does not fit.

    Example:
        ```python
        from pixpro_keras import backbones

        network = backbones.build("resnet18_v1_5")
        backbones.check_same_weights(network, backbones.plain_network("resnet18_v1_5"))
        ```
    """
    pairs = itertools.zip_longest(map(_describe, source.weights), map(_describe, target.weights))
    for theirs, ours in pairs:
        if _without_inner_numbers(theirs) != _without_inner_numbers(ours):
            raise ValueError(
                f"the weights of {source.name!r} are not those of {target.name}: "
                f"{theirs or 'no weight'} in the place of {ours or 'no weight'}"
            )


def _without_inner_numbers(description: str | None) -> str | None:
    """Removes the numbers in the layer name of a description.

    Copying a block of KerasHub's MobileNet adds a number to the names of its layers.
    """
    return description and re.sub(r"(_\d+)+(?=[_/])", "", description)


def _describe(weight: keras.Variable) -> str:
    """Layer name, weight name and shape of a weight, equal in all copies of its network.

    Final numbers are removed, since Keras counts unnamed layers over the whole process (`conv2d_94` in
    the second InceptionV3). Outer names are left out, since a cloned model loses the names of nested models.
    """
    parts = [re.sub(r"_\d+$", "", part) for part in weight.path.split("/")[-2:]]
    return f"{'/'.join(parts)} {tuple(weight.shape)}"


def plain_network(name: str) -> keras.Model:
    """Builds a network of plain Keras layers in float32, of output stride 32, with new weights.

    Args:
        name: one of `available()`, or the path of a Keras file; its network keeps its class.

    Raises:
        ValueError: if the name is unknown.

    Example:
        ```python
        from pixpro_keras import backbones

        network = backbones.plain_network("resnet18_v1_5")
        print(network.output_shape)  # (None, None, None, 512)
        ```
    """
    _check_name(name)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        if name in resnet.ARCHITECTURES:
            return resnet.build_resnet(name)
        network = _keras_network(name)
        return (
            network_files.with_new_weights(network, "float32")
            if network_files.is_file(name)
            else network
        )
    finally:
        keras.config.set_dtype_policy(policy)


def imagenet_network(name: str) -> keras.Model:
    """A network of plain Keras layers in float32 with the ImageNet weights of keras.applications.

    They are downloaded once, to the folder of models that Keras keeps.

    Args:
        name: one of `available()` that is of keras.applications.

    Returns:
        Functional model, `(B, H, W, 3) -> (B, h, w, C)`, the same layers as of `plain_network`.

    Raises:
        ValueError: if the name is unknown, keras.applications has no such network, or the weights are
            not there and cannot be downloaded.

    Example:
        ```python
        from pixpro_keras.backbones.registry import imagenet_network

        try:
            imagenet_network("resnet50_v1_5")  # "resnet50" is the one of keras.applications
        except ValueError as error:
            print(error)
        ```
    """
    if not is_keras_application(name):
        raise ValueError(
            f"keras.applications has no ImageNet weights of {name}; a torch file of torchvision or timm "
            "has, given by its path"
        )
    network = plain_network(name)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        with warnings.catch_warnings():
            # MobileNet warns that its weights are for 224 px; they work with any size.
            warnings.simplefilter("ignore")
            trained = _keras_application(name, "imagenet")
    except Exception as error:  # Errors of Keras, urllib or h5py.
        raise ValueError(
            f"the ImageNet weights of {name} are neither in Keras's folder of models nor can they be "
            f"downloaded ({first_line(error)})"
        ) from error
    finally:
        keras.config.set_dtype_policy(policy)
    copy_weights(trained, network)
    _keep_scale(trained, network)
    return network


def _keep_scale(trained: keras.Model, network: keras.Model) -> None:
    """Moves the rescaling of EfficientNets with ImageNet weights into the variance of the normalization.

    keras.applications adds a `Rescaling` layer after the normalization only for these weights.
    """
    for layer, following in itertools.pairwise(trained.layers):
        is_normalization = isinstance(layer, keras.layers.Normalization)
        if is_normalization and isinstance(following, keras.layers.Rescaling):
            (ours,) = (x for x in network.layers if isinstance(x, keras.layers.Normalization))
            ours.adapt_variance.assign(ours.adapt_variance / np.square(following.scale))
            ours.finalize_state()


def _keras_network(name: str) -> keras.Model:
    """Network of keras.applications or KerasCV with new weights, or network of a file with its weights."""
    if network_files.is_file(name):
        return network_files.backbone_in(name)
    if name in keras_cv_networks.names():
        return keras_cv_networks.build_backbone(name)
    return _keras_application(name)


def _keras_application(name: str, weights: str | None = None) -> keras.Model:
    return _applications()[name](include_top=False, weights=weights, input_shape=(None, None, 3))


def preprocess_input(name: str) -> Callable:
    """Returns the input preprocessing of a network.

    Args:
        name: one of `available()`, or the path of a Keras file.

    Returns:
        Function of `(..., H, W, 3)` RGB images in 0..255 that gives float32 of the same shape. For
        the paper's ResNets: scaled to 0..1, then by ImageNet's mean and standard deviation.
        Networks of KerasCV take images unchanged. For a network of a Keras file: by its name, if
        that is in `available()`; unchanged, if it begins with layers that scale them; else as for
        the paper's ResNets, which is the convention of KerasHub's presets.

    Raises:
        ValueError: if the name is unknown.

    Example:
        ```python
        import numpy as np

        from pixpro_keras import backbones

        preprocess = backbones.preprocess_input("resnet18_v1_5")
        images = preprocess(np.full((1, 32, 32, 3), 128, "uint8"))
        ```
    """
    _check_name(name)
    name = _convention_of(name)
    if name in resnet.ARCHITECTURES:
        return _standardize
    if name in keras_cv_networks.names():
        return lambda images: tf.cast(images, tf.float32)  # the network scales them itself
    module = getattr(keras.applications, _module_name(name))

    def preprocess(images):
        images = tf.cast(images, tf.float32)
        return tf.cast(module.preprocess_input(images, data_format="channels_last"), tf.float32)

    return preprocess


def _standardize(images: Tensor) -> Tensor:
    """Standardizes `(..., H, W, 3)` images in 0..255 by ImageNet's mean and standard deviation."""
    images = tf.cast(images, tf.float32) / 255.0
    shape = tf.shape(images)
    # Whole rows at once: broadcasting over three channels is five times as slow in TensorFlow.
    rows = tf.reshape(images, tf.concat([shape[:-2], [-1]], axis=0))
    mean, deviation = (
        tf.tile(tf.constant(x), shape[-2:-1]) for x in (_IMAGENET_MEAN, _IMAGENET_STD)
    )
    return tf.ensure_shape(tf.reshape((rows - mean) / deviation, shape), images.shape)


def input_convention(name: str) -> str:
    """Description of `preprocess_input` for readers who have plain Keras only.

    Raises:
        ValueError: if the name is unknown.

    Example:
        ```python
        from pixpro_keras import backbones

        print(backbones.input_convention("mobilenetv2"))
        ```
    """
    _check_name(name)
    side = fixed_image_size(name)
    size = f"any height and width from {min_image_size(name)} px"
    if side is not None:
        size = f"{side} x {side} px"
    name = _convention_of(name)
    if name in resnet.ARCHITECTURES:
        return (
            f"RGB in 0..1, then (x - mean) / std with mean {_IMAGENET_MEAN} and std {_IMAGENET_STD}; "
            f"{size}"
        )
    if name in keras_cv_networks.names():
        return f"RGB in 0..255; {size}"
    return (
        f"RGB in 0..255, through `keras.applications.{_module_name(name)}.preprocess_input`; {size}"
    )


def _convention_of(name: str) -> str:
    """Name in `available()` of a network with the same input convention."""
    if not network_files.is_file(name):
        return name
    network = network_files.backbone_in(name)
    known = name_of(network) or _application_of(network)
    if known is not None:
        return known
    # KerasCV networks take 0..255, the paper's ResNets standardized images.
    scaled = network_files.scales_images(network)
    return keras_cv_networks.names()[0] if scaled else next(iter(resnet.ARCHITECTURES))


def _application_of(network: keras.Model) -> str | None:
    """Our name of a network that keras.applications has named; None for other networks."""
    name = re.sub(r"_\d\.\d+_\w+$", "", network.name)  # mobilenetv2_1.00_224
    name = re.sub(r"[-_]", "", name).lower()
    return name if name in _applications() else None


def _module_name(name: str) -> str:
    """Name of the keras.applications module that defines the network's preprocessing."""
    return _applications()[name].__module__.rpartition(".")[2]


@functools.cache
def min_image_size(name: str) -> int:
    """Smallest side in pixels that the network takes: keras.applications' own limit, at least 32.

    Raises:
        ValueError: if the name is unknown.

    Example:
        ```python
        from pixpro_keras import backbones

        assert backbones.min_image_size("resnet50") == 32
        ```
    """
    _check_name(name)
    if name not in _applications():
        return 32
    try:
        _applications()[name](include_top=False, weights=None, input_shape=(1, 1, 3))
    except ValueError as error:
        limit = re.search(r"at least (\d+)", str(error))
        if limit:
            return int(limit.group(1))
    return 32


def fixed_image_size(name: str) -> int | None:
    """Only image side in pixels that a network takes; None if it takes any from `min_image_size` on.

    Raises:
        ValueError: if the name is unknown, or the network of a Keras file takes images that are not square.

    Example:
        ```python
        from pixpro_keras import backbones

        assert backbones.fixed_image_size("resnet18_v1_5") is None
        ```
    """
    _check_name(name)
    is_file = network_files.is_file(name)
    return network_files.fixed_size(network_files.backbone_in(name)) if is_file else None


def public_name(name: str) -> str:
    """Name of a network without the folders of its file.

    Example:
        ```python
        from pixpro_keras import backbones

        assert backbones.public_name("resnet50") == "resnet50"
        assert backbones.public_name("/data/mine.keras") == "mine.keras"
        ```
    """
    return pathlib.PurePath(name).name if network_files.is_file(name) else name


def _check_name(name: str) -> None:
    if network_files.is_file(name):
        network_files.backbone_in(name)
        return
    if name not in available():
        near = difflib.get_close_matches(name.lower(), available(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "."
        raise ValueError(
            "`backbone` must be a keras.applications network in lower case (except NASNet), a preset of "
            "KerasCV such as keras_cv:yolo_v8_s_backbone, the path of a .keras file, or one of "
            f"{', '.join(resnet.ARCHITECTURES)}; `pixpro_keras.backbones.available()` lists all. "
            f"Received: {name!r}{hint}"
        )
