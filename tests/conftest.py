"""Two logical CPUs in a process that runs tests, so that replicas can be tried without a GPU."""

import contextlib
import gc
import itertools
import os
import pathlib
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


# The next size of this process at which garbage is looked for, and how often that was done.
_limit = 0
_collections = itertools.count(1)
_GROWTH = 300 << 20


def _size():
    """Memory of this process in bytes."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(autouse=True, scope="module")
def collect_garbage():
    """Frees the models and graphs of test files, which are reference cycles, when they have become many.

    What is left is looked through again only now and then: it takes seconds.
    """
    global _limit
    yield
    if _size() < _limit:
        return
    if next(_collections) % 8 == 0:
        gc.unfreeze()
    gc.collect()
    gc.freeze()
    _limit = _size() + _GROWTH


@pytest.fixture(autouse=True, scope="module")
def quick_pictures(request):
    """Leaves out what takes longest in the pictures of runs, except where pictures are tested."""
    from tests.helpers.quick_graphs import without_curves, without_layout

    with contextlib.ExitStack() as stack:
        if request.path.parent.name != "visualize":
            stack.enter_context(without_layout())
            stack.enter_context(without_curves())
        yield
