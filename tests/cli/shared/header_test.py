import contextlib
import io
import pathlib
from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.cli.options import run_options
from pixpro_keras.cli.options.run_options import resolve_precision
from pixpro_keras.cli.options.training_options import TrainingJobOptions
from pixpro_keras.cli.shared import header


class HeaderTest(tf.test.TestCase, parameterized.TestCase):
    def text(self, precision="float32", epochs=30, **arguments):
        options = TrainingJobOptions(
            batch_size=64,
            epochs=epochs,
            steps_per_epoch=10,
            workdir="runs/photos",
            precision=precision,
        )
        options = resolve_precision(options)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            header.print_header(
                options,
                tf.distribute.get_strategy(),
                640,
                task={"method": "pixpro", "backbone": "resnet18_v1_5"},
                data="folder:photos",
                **arguments,
            )
        return output.getvalue()

    def test_what_will_be_done(self):
        lines = [line.split(maxsplit=1) for line in self.text().splitlines()]
        rows = {name: value for name, value in lines if name != "learning"}
        self.assertStartsWith(rows.pop("device"), "CPU, ")
        self.assertEqual(
            rows,
            {
                "method": "pixpro",
                "backbone": "resnet18_v1_5",
                "precision": "float32",
                "data": "folder:photos, 640 images",
                "steps": "300: 30 epochs of 10 steps of 64 images",
                "workdir": "runs/photos",
            },
        )
        self.assertRegex(self.text(), r"learning rate +0\.25 at its peak")
        self.assertIn("continues from step 20", self.text(first_step=20))

    def test_a_run_that_is_all_warmup_does_not_reach_the_peak(self):
        self.assertRegex(
            self.text(epochs=1),
            r"learning rate +0\.225\d in the last step; the warm-up takes the whole run instead of 50 steps "
            r"and ends before the peak of 0\.25\n",
        )
        self.assertRegex(
            self.text(epochs=5), r" 0\.2451 in the last step; .* the whole run and ends"
        )
        self.assertRegex(self.text(epochs=6), r"learning rate +0\.25 at its peak\n")

    def test_what_auto_chose(self):
        with mock.patch.object(
            run_options, "best_precision", return_value=("mixed_bfloat16", "a processor with AMX")
        ):
            text = self.text("auto")
        self.assertRegex(text, r"precision +mixed_bfloat16, for a processor with AMX\n")

    @parameterized.parameters(
        (True, None, "an NVIDIA card, but .*pip install 'tensorflow.and-cuda.'"),
        (True, "-1", "no GPU is used: CUDA_VISIBLE_DEVICES=-1 hides"),
        (False, None, "no GPU is used$"),
    )
    def test_why_no_gpu(self, has_card, visible, expected):
        environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        cards = pathlib.Path(self.create_tempdir().full_path)
        if has_card:
            (cards / "0000:01:00.0").mkdir()
        with (
            mock.patch.dict("os.environ", environment),
            mock.patch.object(header, "_NVIDIA", (cards, cards / "absent")),
            mock.patch.object(tf.config, "list_physical_devices", return_value=[]),
        ):
            if visible is None:
                header.os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            text = header.describe_devices(tf.distribute.get_strategy())
        self.assertRegex(text, expected)


if __name__ == "__main__":
    tf.test.main()
