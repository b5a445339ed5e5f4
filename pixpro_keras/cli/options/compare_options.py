"""Options of jobs that can be done for several backbones."""

import dataclasses

from pixpro_keras.cli.options.evaluation_options import EvaluationOptions
from pixpro_keras.cli.options.option_fields import option
from pixpro_keras.cli.options.run_options import RunOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareOptions(EvaluationOptions, RunOptions):
    """Options of the comparison of backbones."""

    compare: tuple[str, ...] = option(
        (),
        "Run the job for several --weights, each in its own folder of --workdir, and write one table and "
        "one chart: random,imagenet,runs/a,runs/b. Without --backbone, random and imagenet use the "
        "network of the first run.",
        is_main=True,
    )
