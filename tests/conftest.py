"""Two logical CPUs in a process that runs tests, so that replicas can be tried without a GPU."""

import gc
import itertools
import os
import shutil
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# What XLA compiles here runs a few times at most: optimizing it takes longest.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# As many processes as processors: with threads for all of them in each, small operations cost 1.7 times as
# much. For the commands that tests start, too.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


def pytest_configure(config):
    """Prepares the processes that run tests, not the coordinating one, since imports take seconds."""
    if not hasattr(config, "workerinput"):
        _use_one_temporary_folder(config)
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    import tensorflow as tf
    from absl import flags

    from tests.helpers import quick_graphs, tiny_networks

    tiny_networks.register_resnets()
    flags.FLAGS(["pytest"])  # create_tempdir of absl's test case reads its flags
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    quick_graphs.make_graphs_quickly()  # not so in commands that tests start by themselves
    gc.freeze()


def _use_one_temporary_folder(config):
    """Puts all temporary files of this process and those that it starts in a folder removed at the end.

    Runs, exports and TensorFlow's generated sources are gigabytes, which nothing else removes.
    """
    folder = tempfile.mkdtemp(prefix="pixpro_keras_tests_")
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


_files = itertools.count(1)


@pytest.fixture(autouse=True, scope="module")
def collect_garbage():
    """Frees the models and graphs of a test file, which are reference cycles.

    What is left is looked through again after some more files only: a second a file otherwise.
    """
    yield
    if next(_files) % 24 == 0:
        gc.unfreeze()
    gc.collect()
    gc.freeze()
