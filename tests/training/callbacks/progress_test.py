import contextlib
import io

import tensorflow as tf

from pixpro_keras.training.callbacks import Progress


class ProgressTest(tf.test.TestCase):
    def test_the_epochs_line_has_what_was_measured(self):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            progress = Progress(2, 1, 4, measured=lambda: {"knn_top1": 0.25})
            progress.on_train_begin({"step": 0})
            self.assertIn("compiling the step", err.getvalue())
            progress.on_train_batch_end(0, {"step": 1, "loss": 1.5})
            progress.on_epoch_end(0, {"loss": 1.5, "feature_rank": 31.44})
            progress.on_train_end()
        self.assertIn("epoch 1/2  loss 1.500  rank 31.4  knn_top1 25.0%\n", out.getvalue())
        self.assertIn("epoch 1/2:", err.getvalue().rpartition("\r")[2])
        self.assertNotIn("compiling", err.getvalue().rpartition("\r")[2])

    def test_the_time_left_does_not_repeat_the_tracing_of_the_step(self):
        progress = Progress(1, 100, batch_size=4)
        with contextlib.redirect_stderr(io.StringIO()):
            for first_step in (0, 50):
                progress.on_train_begin({"step": first_step})
                bar = progress._bar
                bar.start_t = bar.last_print_t = 0.0
                bar.mininterval = 0.0
                for step, seconds in enumerate((60, 61, 62), first_step + 1):
                    bar._time = lambda seconds=seconds: float(seconds)
                    progress.on_train_batch_end(0, {"step": step, "loss": 1.5})
                self.assertAllClose(bar.format_dict["rate"], 4.0)  # a step of 4 images each second
                left = 100 - first_step - 3
                self.assertIn(f"00:{left}" if left < 60 else "01:37", str(bar))
                progress.on_train_end()

    def test_a_finished_run_has_no_bar(self):
        progress = Progress(2, 3, batch_size=4)
        with contextlib.redirect_stderr(io.StringIO()) as err:
            progress.on_train_begin({"step": 6})
            progress.on_train_end()
        self.assertEqual(err.getvalue(), "")


if __name__ == "__main__":
    tf.test.main()
