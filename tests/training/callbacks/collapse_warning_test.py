import tensorflow as tf

from pixpro_keras.training.callbacks import CollapseWarning


class CollapseWarningTest(tf.test.TestCase):
    def test_warns_once_in_words(self):
        warning = CollapseWarning()
        with self.assertLogs("absl", "WARNING") as logs:
            for _ in range(2):
                warning.on_train_batch_end(0, {"step": 1, "loss": -4.0, "feature_std": 1e-4})
                warning.on_train_batch_end(0, {"step": 1, "loss": 0.0, "positive_share": 0.0})
        self.assertLen(logs.output, 2)
        self.assertIn("collapsed", logs.output[0])
        self.assertIn("No pixel pair was positive", logs.output[1])


if __name__ == "__main__":
    tf.test.main()
