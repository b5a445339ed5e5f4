"""Options of evaluations: the backbone and its share of the labels."""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras import backbones
from pixpro_keras.cli.options.backbone_options import (
    BackboneOptions,
    build_backbone,
    check_backbone,
    log_input,
)
from pixpro_keras.cli.options.flag_errors import flag_errors, refuse_unused
from pixpro_keras.cli.options.option_fields import FlagError, option, with_default
from pixpro_keras.cli.options.parsing import serialize
from pixpro_keras.training.workers import is_multi_worker
from pixpro_keras.types import Tensor
from pixpro_keras.weights.load import IMAGENET, keras_file, load_backbone

# Instead of a path: random weights, as without --weights.
RANDOM = "random"
# Options of new weights.
NEW_WEIGHTS = ("zero_init_residual", "kernel_fan")

EvaluationT = TypeVar("EvaluationT", bound="EvaluationOptions")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationOptions(BackboneOptions):
    """Options of the evaluated backbone."""

    weights: str | None = option(
        None,
        "Backbone to evaluate: the folder of a run or conversion; a .keras, .h5, .pth, .ckpt or "
        "detectron2 .pkl file; imagenet, the weights of keras.applications for --backbone; or random. "
        "Needs --backbone if the file does not name its network. Default: random.",
        is_main=True,
    )
    label_fraction: float = option(
        1.0,
        "Fraction of the training labels to use, in (0, 1]; the same fraction of each class, at least one"
        " image.",
        above=0,
        maximum=1,
        is_main=True,
    )
    max_broken_share: float = option(
        0.01,
        "Largest fraction of unreadable images before the command stops. A single one is always allowed, "
        "unless this is 0.",
        minimum=0,
        maximum=1,
    )
    # Closed blocks would hide what random features are worth as a baseline. From scratch, detectron2
    # starts with open ones too: C4's head is a stage of the backbone.
    zero_init_residual: bool = with_default(BackboneOptions, "zero_init_residual", False)

    @property
    def has_random_weights(self) -> bool:
        """True without `--weights`, and with `--weights=random`."""
        return self.weights in (None, RANDOM)


@dataclasses.dataclass(frozen=True)
class EvaluatedBackbone:
    """Backbone that the options describe.

    Attributes:
        network: the backbone, `(B, H, W, 3) -> (B, h, w, C)`.
        preprocess: function from RGB in 0..255 to its input convention.
        label: its name in a table.
    """

    network: keras.Model
    preprocess: Callable[[Tensor], Tensor]
    label: str


def read_backbone(options: EvaluationT) -> tuple[EvaluatedBackbone, EvaluationT]:
    """Returns the backbone, and options in which `backbone` is the name of the loaded network.

    Raises:
        FlagError: if it cannot be loaded, or does not say which network it is.
    """
    weights = None if options.weights == RANDOM else options.weights
    loaded = None
    label: str = f"{options.backbone}, random"
    if weights is not None:
        reason = f"--weights={weights} are not new weights"
        refuse_unused(options, dict.fromkeys(NEW_WEIGHTS, reason))
        loaded, options, label = _load(options, weights)
    check_backbone(options)
    with flag_errors(options, "weights", "backbone"):
        network = build_backbone(options, loaded)
    logging.info("Backbone: %s, %s", options.backbone, weights or "with random weights")
    log_input(options)
    preprocess = backbones.preprocess_input(options.backbone)
    return EvaluatedBackbone(network, preprocess, label), options


def trained_weights(options: EvaluationOptions, backbone: EvaluatedBackbone) -> dict[str, str]:
    """Properties of the checkpoints of a training that starts from given weights.

    Beside the path they have a checksum of the weights, since a pre-training may continue at the same path:
    a training that has begun must not report results of the old weights for the new ones.
    """
    label = {"backbone": backbone.label}
    if options.has_random_weights:
        return label
    digest = backbones.weights_digest(backbone.network)
    return label | {"weights": f"of SHA-256 {digest[:16]}..."}


def _load(options: EvaluationT, weights: str) -> tuple[keras.Model, EvaluationT, str]:
    """Loads a network. Returns it, options with `backbone` set to its name, and its name in tables."""
    if weights == IMAGENET:
        check_backbone(options)
        with flag_errors(options, "weights"):
            loaded = load_backbone(weights, name=options.backbone)
        return loaded, options, f"{options.backbone}, imagenet"
    given = options.backbone if options.is_given("backbone") else None
    with flag_errors(options, "weights", "backbone"):
        loaded = load_backbone(weights, name=given)
    return loaded, options.replace(backbone=_network_name(loaded, given, weights)), weights


def _network_name(backbone: keras.Model, given: str | None, weights: str) -> str:
    """Name of a loaded network in `backbones`: its own name if registered, else `--backbone`."""
    own = backbones.name_of(backbone)
    if own is None:
        given = given or keras_file(weights)
        if given is None:
            raise FlagError(
                f"--weights={weights}: the network there is called {backbone.name!r}; "
                "give its name by --backbone"
            )
        return given
    if given not in (None, own):  # The path of a file; `load_backbone` refuses other names.
        raise FlagError(f"--backbone={given}: --weights={weights} is {own}")
    return own


def check_finite(options: EvaluationOptions, features: np.ndarray, name: str) -> None:
    """Refuses features with NaN or infinity, as of weights that diverged or are too large for 16 bits.

    Args:
        options: options that name the weights.
        features: `(N, ...)`.
        name: name of the images.

    Raises:
        FlagError: with the number of images.
    """
    # Sums need no second array of that size, and cannot overflow in float64.
    sums = features.reshape(len(features), -1).sum(axis=1, dtype=np.float64)
    count = int((~np.isfinite(sums)).sum())
    if count:
        given = " ".join(serialize(options, "backbone", "weights", "precision"))
        raise FlagError(
            f"{given}: the features of {count} of {len(features)} images of {name} are NaN or infinite"
        )


def check_one_machine(strategy: tf.distribute.Strategy, name: str, what: str) -> None:
    """Raises `FlagError` on several machines, for the work `what` that each of them would repeat.

    Args:
        strategy: distribution strategy of the job.
        name: value of `--strategy`.
        what: name of the work, for the error.
    """
    if is_multi_worker(strategy):
        raise FlagError(f"--strategy={name}: {what} runs on one machine")


def fill_batch(chosen: np.ndarray, label_fraction: float, batch_size: int) -> np.ndarray:
    """Repeats the examples of `--label_fraction` if they are fewer than a batch."""
    if label_fraction == 1 or not len(chosen):
        return chosen
    return np.tile(chosen, -(-batch_size // len(chosen)))
