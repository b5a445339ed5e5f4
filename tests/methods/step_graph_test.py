"""Operations of the traced step: a wasteful step shows here without a clock."""

import collections
import functools
from unittest import mock

import keras
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.backbones import resnet
from pixpro_keras.layers.batch_norm import BatchNormalization
from pixpro_keras.layers.conv import Conv2D
from pixpro_keras.methods import METHODS
from pixpro_keras.optimizers import LARS
from pixpro_keras.training.callbacks import SaveCheckpoints
from pixpro_keras.training.checkpoints import Checkpoints
from pixpro_keras.training.loop import train
from pixpro_keras.types import batch_signature
from tests.helpers import steps
from tests.helpers.tiny_networks import random_batch

# In one pass of `two_blocks`: convolutions (stem, the blocks' 3x3), those that are products (two 1x1 in
# each block, the shortcut), the second block's strided shortcut, which is a product in 16 bits, and maps
# padded by hand (before stem, pooling and strided 3x3).
CONVS, PRODUCTS, STRIDED, PADS = 3, 5, 1, 3
# Runs Python, or waits for the host.
HOST = {"PyFunc", "EagerPyFunc", "PyFuncStateless", "Print", "PrintV2", "_Send", "_Recv", "Assert"}


def two_blocks():
    """A ResNet of two bottleneck blocks, the second strided."""
    architecture = resnet.Architecture((1, 1))
    with mock.patch.dict(resnet.ARCHITECTURES, two_blocks=architecture):
        return resnet.build_resnet("two_blocks", batch_norm=BatchNormalization, convolution=Conv2D)


def build(method):
    keras.utils.set_random_seed(0)
    model = METHODS[method](two_blocks(), total_steps=20, hidden_dim=32, out_dim=8)
    model.compile(LARS(0.1), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def operations(model):
    """The types of the operations that a step runs, and of those in its branches; waits for others."""
    signature = {
        name: tf.TensorSpec(shape, dtype)
        for name, (shape, dtype) in batch_signature(4, 32).items()
        if model.uses_coordinates or not name.startswith("coord")
    }
    graph = tf.function(model.train_step).get_concrete_function(signature).graph
    # TensorFlow drops what nothing needs, such as the gradient of the images.
    needed, left = set(), [*(x.op for x in graph.outputs), *graph.control_outputs]
    while left:
        one = left.pop()
        if one not in needed:
            needed.add(one)
            left += [*(x.op for x in one.inputs), *one.control_inputs]
    branches = [node for one in graph.as_graph_def().library.function for node in one.node_def]
    assert not any(x.device for x in [*needed, *branches])  # nothing is tied to the host
    return (
        collections.Counter(x.type for x in needed),
        collections.Counter(x.op for x in branches),
        sum(len(x.control_inputs) for x in needed),
    )


@pytest.mark.slow
class StepGraphTest(tf.test.TestCase, parameterized.TestCase):
    def tearDown(self):
        keras.mixed_precision.set_global_policy("float32")
        super().tearDown()

    @parameterized.parameters(
        # Most operations, and most casts among them. In mixed precision most are of kernels, one
        # for each pass, and of their gradients.
        ("pixpro", "float32", 2, 2, 3640, 55),
        ("pixpro", "mixed_bfloat16", 2, 2, 3760, 180),
        # Both views go through the network together, as its batch norm wants them.
        ("simclr", "float32", 1, 0, 1030, 20),
    )
    def test_counts(self, method, policy, online_passes, target_passes, most, most_casts):
        keras.mixed_precision.set_global_policy(policy)
        model = build(method)
        count, inside, waits = operations(model)
        passes = online_passes + target_passes
        # Projector and PPM of PixPro are 1x1 convolutions. SimCLR's projector is of Dense layers, and its
        # similarities are a product of views with themselves.
        heads = 3 if method == "pixpro" else 2
        is_short = policy != "float32"
        convs = CONVS + (0 if is_short else STRIDED)
        in_backbone = PRODUCTS + (STRIDED if is_short else 0)
        products = 3 * online_passes * (in_backbone + heads) + target_passes * (in_backbone + 2)
        # The strided 3x3 has a map of 4 x 4: the gradient of its kernel.
        by_place = 1 if is_short else 0
        norms = CONVS + STRIDED + PRODUCTS + (1 if method == "pixpro" else 2)
        expected = {
            "Conv2D": passes * convs,
            "Conv2DBackpropFilter": online_passes * (convs - by_place),
            # The images need no gradient, nor does the target.
            "Conv2DBackpropInput": online_passes * (convs - 1),
            "MatMul": products + (0 if method == "pixpro" else 3) + 9 * by_place * online_passes,
            # Those of the gradients: of the slice before the strided product, and of the 3x3 kernel.
            "Pad": passes * PADS + (2 * online_passes if is_short else 0),
            "MaxPool": passes,
            "FusedBatchNormV3": passes * norms,
            # Between a batch norm and its ReLU it would keep TensorFlow from fusing them.
            "EnsureShape": 0,
            "FusedBatchNormGradV3": online_passes * norms,
            # Channels are last all the way; SimCLR transposes its similarities.
            "Transpose": 0 if method == "pixpro" else 2,
            # One for each trained variable of the online encoder: the moving average.
            "ResourceApplyGradientDescent": 33 if method == "pixpro" else 0,
            "If": 1,
        }
        self.assertEqual({name: count[name] for name in expected}, expected)
        # LARS: each variable and its momentum in one operation; else the state is put back.
        trained = len(model.trainable_variables)
        self.assertEqual(inside["ResourceApplyMomentum"], trained)
        state = len(model.weights) - trained - 1  # the number of steps stays
        # The number of updates, and all state.
        self.assertEqual(inside["AssignVariableOp"], 1 + state)
        self.assertEmpty(HOST & {*count, *inside})
        # Not exact: TensorFlow's and Keras's own small change from version to version.
        self.assertLessEqual(count["Cast"], most_casts)
        self.assertLessEqual(count.total(), most)
        # Each constant of the second pass waiting for each gradient of the first would be some 12,000.
        self.assertLess(waits, 0.5 * count.total())
        # The branches hold LARS, about a dozen for each kernel.
        self.assertLessEqual(inside.total(), 560)

    def test_peak_of_memory_is_that_of_one_view(self):
        batch = {key: tf.constant(value) for key, value in random_batch(32, 64).items()}
        peaks = []
        for together in (False, True):
            model = build("pixpro")
            if together:
                whole = functools.partial(model, batch, training=True)
                model.passes = lambda batch, whole=whole: [whole]
            step = tf.function(model.train_step)
            for _ in range(2):
                step(batch)
            of_steps = []
            for _ in range(10):  # It depends on the order in which threads take operations.
                try:
                    tf.config.experimental.reset_memory_stats("CPU:0")
                except ValueError:
                    self.skipTest("TensorFlow counts a processor's memory only with oneDNN")
                before = tf.config.experimental.get_memory_info("CPU:0")["current"]
                step(batch)
                peak = tf.config.experimental.get_memory_info("CPU:0")["peak"]
                of_steps.append(peak - before)
            peaks.append(max(of_steps))
        # Activations are most of it: at most 146 and 247 MiB. By chance a step of both passes at once may
        # also end one of them before it begins the other, then it needs as little as 132 MiB.
        self.assertLess(peaks[0], 0.75 * peaks[1])

    def test_is_traced_once_in_a_run_and_once_after_a_resume(self):
        folder = self.create_tempdir().full_path
        for epochs in (2, 3):
            model = steps.build("simclr")
            checkpoints = Checkpoints(folder, model, {})
            first = checkpoints.restore()
            batches = (
                {k: tf.constant(v) for k, v in random_batch(4, seed=s).items()} for s in range(99)
            )
            with mock.patch.object(model, "train_step", wraps=model.train_step) as traced:
                train(
                    model,
                    batches,
                    strategy=tf.distribute.get_strategy(),
                    epochs=epochs,
                    steps_per_epoch=2,
                    batch_size=4,
                    log_every_steps=1,
                    callbacks=[SaveCheckpoints(checkpoints, 1)],
                )
            self.assertEqual(model.steps_done() - first, 4 if epochs == 2 else 2)
            self.assertEqual(traced.call_count, 1)


if __name__ == "__main__":
    tf.test.main()
