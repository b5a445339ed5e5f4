"""Names of the networks."""

import difflib
import functools
import pathlib
import re
from collections.abc import Callable

import keras
import numpy as np

from pixpro_keras.backbones import keras_cv_networks, network_files, resnet
from pixpro_keras.backbones.data_format import require_channels_last


@functools.cache
def applications() -> dict[str, Callable[..., keras.Model]]:
    """Lower-case name -> constructor in keras.applications.

    NASNet is excluded: keras.applications can build it only for one fixed image size.

    Example:
        ```python
        from pixpro_keras.backbones.names import applications

        print(applications()["resnet50"])
        ```
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
    own = (*applications(), *resnet.ARCHITECTURES)
    return tuple(sorted([*own, *keras_cv_networks.names()]))


def name_of(network: keras.Model) -> str | None:
    """Name of a network from `build` or `plain_network`, or of a copy of it; None for others.

    Networks with a layer in front that scales images are others, since they take other inputs.

    Example:
        ```python
        from pixpro_keras import backbones

        assert backbones.name_of(backbones.build("resnet18_v1_5")) == "resnet18_v1_5"
        ```
    """
    name = keras_cv_networks.name_of(network) or network.name.lower()
    return name if name in available() and not _is_wrapped(network, name) else None


def _is_wrapped(network: keras.Model, name: str) -> bool:
    """True if scaling of images was put before a network that does not scale them itself."""
    if not network_files.scales_images(network):
        return False
    is_application = name in applications()
    return not (_has_own_scaling(name) if is_application else name in keras_cv_networks.names())


def application_in(network: keras.Model) -> str | None:
    """Name of the network of keras.applications that a model is, or begins with; None for others.

    Networks with a layer in front that scales images are others, since they take other inputs.

    Args:
        network: built by keras.applications, or around such a network, with any input size.

    Example:
        ```python
        import keras

        from pixpro_keras.backbones.names import application_in

        network = keras.applications.MobileNetV2(include_top=False, weights=None, alpha=0.35)
        assert network.name != "mobilenetv2" and application_in(network) == "mobilenetv2"
        ```
    """
    for operation in network_files.first_operations(network):
        name = re.sub(r"_\d\.\d+_\w+$", "", operation.name)
        name = re.sub(r"[-_]", "", name).lower()
        if isinstance(operation, keras.Model) and name in applications():
            return None if _is_wrapped(network, name) else name
    return None


def module_name(name: str) -> str:
    """Name of the module in keras.applications that has the preprocessing of a network.

    Args:
        name: of a network of keras.applications.

    Example:
        ```python
        from pixpro_keras.backbones.names import module_name

        assert module_name("mobilenetv3small") == "mobilenet_v3"
        ```
    """
    return applications()[name].__module__.rpartition(".")[2]


@functools.cache
def _has_own_scaling(name: str) -> bool:
    """True if a network of keras.applications scales images itself: its `preprocess_input` does nothing."""
    module = getattr(keras.applications, module_name(name))
    images = np.full((1, 1, 1, 3), 100.0)
    return bool(np.all(module.preprocess_input(images.copy()) == images))


def require_scaling(network: keras.Model) -> None:
    """Checks that a network scales its images, if it is one whose `preprocess_input` leaves them as they are.

    Args:
        network: any.

    Raises:
        ValueError: if it does not.

    Example:
        ```python
        import keras

        from pixpro_keras.backbones.names import require_scaling

        network = keras.applications.MobileNetV3Small(include_top=False, weights=None)
        require_scaling(network)  # include_preprocessing=False would be an error
        ```
    """
    known = application_in(network)
    if known and _has_own_scaling(known) and not network_files.scales_images(network):
        raise ValueError(
            f"{network.name} lacks the layers that scale its images. Build it with them: "
            "include_preprocessing=True in keras.applications"
        )


def is_keras_application(name: str) -> bool:
    """Tells if a network is one of keras.applications, which then loads the backbone's weights.

    Raises:
        ValueError: if the name is unknown.

    Example:
        ```python
        from pixpro_keras import backbones

        assert backbones.is_keras_application("resnet50")
        assert not backbones.is_keras_application("resnet50_v1_5")
        ```
    """
    check_name(name)
    return name in applications()


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
    return f"keras.applications.{applications()[name].__name__}"


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


def check_name(name: str) -> None:
    """Checks that a name is known, or that a file holds a backbone, and that its network can be built.

    A network of keras.applications whose `preprocess_input` leaves images as they are must scale them itself.

    Raises:
        ValueError: if not; the error proposes similar names.
        DataFormatError: if Keras's image data format is channels_first.

    Example:
        ```python
        from pixpro_keras.backbones.names import check_name

        check_name("resnet18_v1_5")
        ```
    """
    require_channels_last()
    if network_files.is_file(name):
        network = network_files.backbone_in(name)
        try:
            require_scaling(network)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return
    if name not in available():
        begun = [one for one in available() if name and one.startswith(f"{name.lower()}_")]
        near = begun or difflib.get_close_matches(name.lower(), available(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "."
        raise ValueError(
            "`backbone` must be a keras.applications network in lower case (except NASNet), a preset of "
            "KerasCV such as keras_cv:yolo_v8_s_backbone, the path of a .keras file, or one of "
            f"{', '.join(resnet.ARCHITECTURES)}; `pixpro_keras.backbones.available()` lists all. "
            f"Received: {name!r}{hint}"
        )
