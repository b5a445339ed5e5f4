"""Jobs import each other by name, as Python lets scripts of one folder do."""

import pathlib
import sys

# Not from `tests.experiments.cli`, which imports TensorFlow: some tests start processes.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[3] / "experiments"))
