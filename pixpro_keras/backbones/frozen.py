"""Weights of a backbone that its trainings leave as they are."""

import keras
from absl import logging


def require_trainable(backbone: keras.Model) -> None:
    """Checks that a pre-training changes the weights of a backbone.

    Layers are frozen by `trainable = False`, which a saved file keeps. Features of a backbone are often
    measured so before it is trained.

    Args:
        backbone: built.

    Raises:
        ValueError: if all its weights are frozen; names the model and a solution.

    Example:
        ```python
        from pixpro_keras import backbones
        from pixpro_keras.backbones.frozen import require_trainable

        backbone = backbones.build("resnet18_v1_5")
        backbone.trainable = False
        try:
            require_trainable(backbone)
        except ValueError as error:
            print(error)
        ```
    """
    if backbone.weights and not backbone.trainable_variables:
        raise ValueError(
            f"{backbone.name} is frozen: no step of a training would change its weights. "
            "`backbone.trainable = True` unfreezes it, before it is saved to a file"
        )


def warn_of_frozen(backbone: keras.Model) -> None:
    """Logs how many layers of a backbone are frozen.

    Args:
        backbone: built.

    Example:
        ```python
        from pixpro_keras import backbones
        from pixpro_keras.backbones.frozen import warn_of_frozen

        backbone = backbones.build("resnet18_v1_5")
        backbone.trainable = False
        warn_of_frozen(backbone)
        ```
    """
    layers = [x for x in backbone._flatten_layers(include_self=False) if x.weights]
    frozen = [x for x in layers if not (x.trainable or isinstance(x, keras.Model))]
    if frozen:
        logging.warning(
            "%d layers of %s are frozen (trainable = False), such as %s, and keep their weights.",
            len(frozen),
            backbone.name,
            frozen[0].name,
        )
