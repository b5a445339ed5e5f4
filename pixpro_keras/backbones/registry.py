"""Construction of the networks by name: for training, plain, or with ImageNet weights."""

import re
import warnings

import keras

from pixpro_keras.backbones import keras_cv_networks, network_files, resnet
from pixpro_keras.backbones.dtype_policies import global_policy
from pixpro_keras.backbones.levels import mark_level, named_levels
from pixpro_keras.backbones.names import applications, check_name, is_keras_application
from pixpro_keras.backbones.weight_copies import copy_normalization, copy_weights
from pixpro_keras.layers.batch_norm import BatchNormalization
from pixpro_keras.layers.conv import Conv2D
from pixpro_keras.layers.depthwise_conv import DepthwiseConv2D
from pixpro_keras.layers.initializers import he_normal_fan_out
from pixpro_keras.layers.normalization import Normalization
from pixpro_keras.utils.errors import first_line

# ResNets of keras.applications that are initialized as in the paper.
_RESNETS = ("resnet50", "resnet101", "resnet152")
_RESNETS_V2 = ("resnet50v2", "resnet101v2", "resnet152v2")


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
    check_name(name)
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
    if network_files.is_file(name):  # Not with the saved policy.
        base = network_files.with_new_weights(base, keras.config.dtype_policy().name)
    dilated = _dilated_settings(base) if output_stride == 16 else {}
    marked = {x._keras_history.operation.name: level for level, x in named_levels(base).items()}

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config, kind = layer.get_config(), type(layer)
        if isinstance(layer, keras.layers.BatchNormalization):
            config["momentum"] = bn_momentum
            kind = BatchNormalization
        elif kind is keras.layers.Conv2D:
            kind = Conv2D
        elif kind is keras.layers.DepthwiseConv2D:
            kind = DepthwiseConv2D
        elif kind is keras.layers.Normalization:
            kind = Normalization
        if name in _RESNETS:
            config |= _initialization(layer)
        config |= dilated.get(layer.name, {})
        return kind.from_config(config)

    def call(layer: keras.layers.Layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        # The copy is a plain model without the attributes of its class.
        return mark_level(marked[layer.name])(outputs) if layer.name in marked else outputs

    try:
        model = keras.models.clone_model(
            base, clone_function=clone, call_function=call, recursive=True
        )
    except (TypeError, ValueError):
        if not network_files.is_file(name):
            raise
        # Some layers, as in KerasHub's MiT, cannot be built from their config, but their network can.
        return base
    copy_normalization(base, model)
    model.name = name if name in applications() else base.name
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
    check_name(name)
    with global_policy("float32"):
        if name in resnet.ARCHITECTURES:
            return resnet.build_resnet(name)
        network = _keras_network(name)
        return (
            network_files.with_new_weights(network, "float32")
            if network_files.is_file(name)
            else network
        )


def imagenet_network(name: str) -> keras.Model:
    """A network of plain Keras layers in float32 with the ImageNet weights of keras.applications.

    They are downloaded once, to the folder of models that Keras keeps.

    Args:
        name: name of a network of keras.applications.

    Returns:
        Functional model, `(B, H, W, 3) -> (B, h, w, C)`, with the layers of `plain_network`.

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
        hint = "; a torch file of torchvision or timm has, given by its path"
        raise ValueError(
            f"keras.applications has no ImageNet weights of {name}"
            + (hint if name in resnet.ARCHITECTURES else "")
        )
    network = plain_network(name)
    try:
        with global_policy("float32"), warnings.catch_warnings():
            # MobileNet warns that its weights are for 224 px; they work with any size.
            warnings.simplefilter("ignore")
            trained = _keras_application(name, "imagenet")
    except Exception as error:  # Errors of Keras, urllib or h5py.
        raise ValueError(
            f"the ImageNet weights of {name} are not in Keras's folder of models and cannot be downloaded "
            f"({first_line(error)})"
        ) from error
    copy_weights(trained, network)
    return network


def _keras_network(name: str) -> keras.Model:
    """Network of keras.applications or KerasCV with new weights, or network of a file with its weights."""
    if network_files.is_file(name):
        return network_files.backbone_in(name)
    if name in keras_cv_networks.names():
        return keras_cv_networks.build_backbone(name)
    return _keras_application(name)


def _keras_application(name: str, weights: str | None = None) -> keras.Model:
    return applications()[name](include_top=False, weights=weights, input_shape=(None, None, 3))
