import pathlib

from absl.testing import absltest, parameterized

from pixpro_keras.training.run_config import RunConfig


class RunConfigTest(parameterized.TestCase):
    @parameterized.parameters(
        ({"epochs": 0}, "`epochs` must be at least 1. Received: epochs=0"),
        ({"max_nonfinite_steps": 0}, "`max_nonfinite_steps` must be at least 1"),
        ({"on_save_error": "ignore"}, "`on_save_error` must be one of continue, stop"),
        ({"precision": "float16"}, "`precision` must be one of float32"),
        ({"steps_per_execution": 0}, "`steps_per_execution` must be at least 1"),
    )
    def test_refuses_by_name(self, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            RunConfig(
                **({"workdir": "x", "epochs": 1, "steps_per_epoch": 3, "batch_size": 1} | arguments)
            )

    def test_the_home_folder_in_a_path_is_expanded(self):
        config = RunConfig("~/runs/a", epochs=1, steps_per_epoch=3, batch_size=1)
        self.assertEqual(config.workdir, pathlib.Path.home() / "runs" / "a")


if __name__ == "__main__":
    absltest.main()
