import json
import pathlib

import tensorflow as tf

from pixpro_keras.training.devices import note_devices


class NoteDevicesTest(tf.test.TestCase):
    def note(self, is_resumed=True, **kwargs):
        arguments = {"precision": "float32", "batch_size": 8} | kwargs
        note_devices(self.folder, tf.distribute.get_strategy(), is_resumed=is_resumed, **arguments)

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.note(is_resumed=False)

    def test_writes_the_devices(self):
        devices = json.loads((self.folder / "devices.json").read_text())
        expected = {"replicas": 1, "batch_size": 8, "tensorflow": tf.__version__}
        self.assertEqual(devices, devices | expected)

    def test_says_nothing_of_the_same_devices(self):
        with self.assertNoLogs("absl", "WARNING"):
            self.note()

    def test_warns_of_others(self):
        with self.assertLogs("absl", "WARNING") as logs:
            self.note(precision="mixed_bfloat16")
        self.assertIn(
            "continues on other devices: precision was float32, is mixed_b", logs.output[0]
        )
        self.assertIn("the global batch stay the same; sums are rounded", logs.output[0])

    def test_warns_of_other_parts_of_a_batch(self):
        with self.assertLogs("absl", "WARNING") as logs:
            self.note(accumulate_steps=2)
        self.assertIn("accumulate_steps was 1, is 2", logs.output[0])
        self.assertIn("contrastive losses use parts of another size", logs.output[0])

    def test_warns_of_another_batch(self):
        with self.assertLogs("absl", "WARNING") as logs:
            self.note(batch_size=4)
        self.assertIn("continues with other batches: batch_size was 8, is 4. ", logs.output[0])
        self.assertIn("the views of an image at a place in the stream stay", logs.output[0])
        self.assertIn("another number of images, so the weights differ from", logs.output[0])

    def test_passes_over_a_damaged_file(self):
        (self.folder / "devices.json").write_text("{")
        self.note()
        self.assertEqual(json.loads((self.folder / "devices.json").read_text())["replicas"], 1)


if __name__ == "__main__":
    tf.test.main()
