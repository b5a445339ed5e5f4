"""Options of jobs that fine-tune a pre-trained backbone."""

import dataclasses

from pixpro_keras import backbones
from pixpro_keras.cli.options.compare_options import CompareOptions
from pixpro_keras.cli.options.evaluation_options import EvaluatedBackbone
from pixpro_keras.cli.options.flag_errors import refuse_unused
from pixpro_keras.cli.options.option_fields import option
from pixpro_keras.cli.options.training_options import TrainingJobOptions
from pixpro_keras.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuningOptions(CompareOptions, TrainingJobOptions):
    """Options of fine-tuning."""

    backbone_learning_rate_factor: float = option(
        1.0,
        "Factor of the learning rate of pre-trained weights, such as 0.1 with few labels: the head, which "
        "starts at random, needs larger steps. A backbone with random weights is trained at the full rate.",
        above=0,
    )


def slow_down_backbone(options: FineTuningOptions, task: Task, backbone: EvaluatedBackbone) -> str:
    """Applies `--backbone_learning_rate_factor`; returns the backbone's name for the header."""
    factor = options.backbone_learning_rate_factor
    if options.has_random_weights or factor == 1:
        return backbone.label
    task.scale_updates(backbone.network.trainable_variables, factor)
    return f"{backbone.label}, learning rate times {factor:g}"


def refuse_image_size(options: FineTuningOptions, sizes: str) -> None:
    """Refuses `--image_size`, the size of square views, unless the network takes a single size.

    Args:
        options: whose `backbone` is the network.
        sizes: flags that set the sizes of the images instead.

    Raises:
        FlagError: naming these flags.
    """
    if backbones.fixed_image_size(options.backbone) is None:
        refuse_unused(options, {"image_size": f"the sizes of the images are {sizes}"})
