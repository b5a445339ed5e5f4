"""Small methods and their training steps."""

import keras
import tensorflow as tf

from pixpro_keras.methods import METHODS
from pixpro_keras.optimizers import LARS
from tests.helpers.tiny_networks import tiny_backbone

TINY = {"hidden_dim": 32, "out_dim": 8, "total_steps": 20, "base_momentum": 0.9}


def build(method="pixpro", synchronized=False, optimizer=None, **kwargs):
    """Makes a compiled method. `synchronized` applies to the batch norms of its backbone."""
    keras.utils.set_random_seed(0)
    arguments = {name: value for name, value in (TINY | kwargs).items() if value is not None}
    model = METHODS[method](tiny_backbone(synchronized), **arguments)
    model.compile(optimizer=optimizer or LARS(0.5, trust_coefficient=0.02), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def variables(model):
    """All variables of the training state: weights, queues, counters and optimizer."""
    return model.weights + model.optimizer.variables


def traced_step(model, strategy=None):
    strategy = strategy or tf.distribute.get_strategy()

    @tf.function(autograph=False)  # nothing in it needs it
    def step(batch):
        return strategy.run(model.train_step, args=(batch,))

    return step


def scalars(logs, strategy=None):
    if strategy:
        logs = {k: strategy.experimental_local_results(v)[0] for k, v in logs.items()}
    return {key: float(value) for key, value in logs.items()}
