import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.options.training_options import (
    TrainingOptions,
    build_optimizer,
    check_optimizer,
    resolve_lengths,
)


class BuildOptimizerTest(tf.test.TestCase, parameterized.TestCase):
    def step(self, shape, name):
        """Change of a variable of ones in AdamW's first step with a gradient of 2."""
        options = TrainingOptions(
            optimizer="adamw",
            base_learning_rate=0.01,
            learning_rate_scaling="none",
            weight_decay=0.5,
            warmup_epochs=0,
        )
        variable = keras.Variable(np.ones(shape, "float32"), name=name)
        build_optimizer(options).apply([tf.fill(shape, 2.0)], [variable])
        return variable.numpy() - 1

    def test_adamw_decays_kernels_apart_from_the_gradient(self):
        self.assertAllClose(
            self.step((2, 3), "kernel"), np.full((2, 3), -0.01 - 0.01 * 0.5), rtol=1e-4
        )

    def test_adamw_does_not_decay_norms(self):
        self.assertAllClose(self.step((3,), "gamma"), np.full(3, -0.01), rtol=1e-4)

    def test_flags_without_effect_are_refused(self):
        for flag, values in (
            ("--sgd_momentum=0.5", {"optimizer": "adamw", "sgd_momentum": 0.5}),
            ("--nodecay_norms", {"optimizer": "lars", "decay_norms": False}),
            ("--end_learning_rate=0.5", {"schedule": "poly", "end_learning_rate": 0.5}),
            ("--decay_iterations=3", {"decay_iterations": ("3",)}),
            ("--decay_epochs=3", {"schedule": "poly", "decay_epochs": ("3",)}),
        ):
            with self.assertRaisesRegex(FlagError, f"^{flag}: "):
                check_optimizer(TrainingOptions(**values, given=frozenset(values)))
        values = {"warmup_epochs": 0.0, "warmup_fraction": 0.5}
        with self.assertRaisesRegex(FlagError, "^--warmup_fraction=0.5: "):
            build_optimizer(TrainingOptions(**values, given=frozenset(values)))

    def test_decays_after_the_end_are_named(self):
        options = TrainingOptions(schedule="steps", decay_epochs=("60", "80"), steps_per_epoch=5)
        with self.assertNoLogs("absl", "WARNING"):
            build_optimizer(options)
        with self.assertLogs("absl", "WARNING") as logs:
            build_optimizer(options.replace(epochs=80))
        self.assertIn("--decay_epochs=60,80: the run ends after 80 epochs", logs.output[0])
        options = TrainingOptions(
            schedule="steps", iterations=1000, decay_iterations=("500", "2000"), batch_size=8
        )
        with self.assertLogs("absl", "WARNING") as logs:
            build_optimizer(resolve_lengths(options, 100))
        expected = "--decay_iterations=500,2000: the run ends after 1000 iterations"
        self.assertIn(expected, logs.output[0])

    @parameterized.parameters(
        ({"decay_epochs": ("60", "x")}, "--decay_epochs=60,x: must be positive, finite numbers of"),
        ({"decay_epochs": ("inf",)}, "--decay_epochs=inf: must be positive, finite"),
        ({"decay_epochs": ("-1", "2")}, "--decay_epochs=-1,2: must be positive"),
        (
            {"decay_iterations": ("1e4",)},
            "--decay_iterations=1e4: must be positive numbers of steps",
        ),
        ({"decay_iterations": ("9", "3")}, "--decay_iterations=9,3: must be .* ascending order"),
    )
    def test_decays_that_cannot_be_are_refused_at_once(self, options, message):
        with self.assertRaisesRegex(FlagError, f"^{message}"):
            TrainingOptions(**options)

    def test_a_learning_rate_of_another_optimizer(self):
        with self.assertRaisesRegex(
            FlagError, "base_learning_rate=4.0: a peak of 16 suits lars and sgd"
        ):
            check_optimizer(TrainingOptions(optimizer="adamw", base_learning_rate=4.0))


class LengthsTest(tf.test.TestCase):
    def resolve(self, files, direct):
        options = TrainingOptions.make(TrainingOptions(batch_size=10), **files)
        options = options.replace(from_files=frozenset(files))
        return resolve_lengths(TrainingOptions.make(options, **direct), num_examples=100)

    def test_steps_of_the_command_line_go_before_epochs_of_a_file(self):
        options = self.resolve({"epochs": 7}, {"iterations": 30, "steps_per_epoch": 10})
        self.assertEqual(options.epochs, 3)

    def test_epochs_of_the_command_line_go_before_steps_of_a_file(self):
        files = {"iterations": 30, "warmup_iterations": 5, "decay_iterations": ("20",)}
        options = self.resolve(files, {"epochs": 7, "decay_epochs": ("5",)})
        self.assertEqual((options.epochs, options.steps_per_epoch), (7, 10))
        self.assertEqual((options.iterations, options.warmup_epochs), (None, 0.5))
        self.assertEqual((options.decay_epochs, options.decay_iterations), (("5",), ()))

    def test_both_on_the_command_line_must_agree(self):
        with self.assertRaisesRegex(FlagError, "--epochs=7 --iterations=30: these differ"):
            self.resolve({}, {"epochs": 7, "iterations": 30, "steps_per_epoch": 10})


if __name__ == "__main__":
    tf.test.main()
