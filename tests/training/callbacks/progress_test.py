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


if __name__ == "__main__":
    tf.test.main()
