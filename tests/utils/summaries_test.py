import pathlib

import tensorflow as tf

from pixpro_keras.utils.summaries import Charts


class ChartsTest(tf.test.TestCase):
    def test_charts_in_a_folder_that_cannot_be(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        (folder / "taken").write_text("a file")
        charts = Charts(folder / "taken", ".scalars")
        with self.assertLogs("absl", "WARNING") as logs:
            charts.write(3, lambda: tf.summary.scalar("loss", 1.0))
            charts.close()
        self.assertIn("No charts of step 3", logs.output[0])


if __name__ == "__main__":
    tf.test.main()
