import io

import numpy as np
import tensorflow as tf

from pixpro_keras.data import python_ops


class PythonOpsTest(tf.test.TestCase):
    def test_records_are_read_by_number(self):
        class Records:
            def read(self, index):
                return b"%d" % index

        data = tf.data.Dataset.range(3).map(lambda i: python_ops.read_record(Records(), i))
        self.assertEqual(list(data.as_numpy_iterator()), [b"0", b"1", b"2"])
        self.assertEqual(data.element_spec.shape, ())

    def test_palettes_are_not_applied(self):
        from PIL import Image

        indices = np.arange(6, dtype=np.uint8).reshape(2, 3)
        image = Image.fromarray(indices).convert("P")
        image.putdata(indices.ravel().tolist())
        image.putpalette([255 - value for value in range(256) for _ in range(3)])
        file = io.BytesIO()
        image.save(file, "png")
        data = tf.data.Dataset.from_tensors(file.getvalue()).map(python_ops.decode_indexed)
        self.assertAllEqual(next(iter(data)), indices)
        self.assertEqual(data.element_spec.shape.rank, 2)

    def test_arrays_have_the_shapes_of_their_signature(self):
        def load(index):
            return [np.full((2, 3), index, np.float32), np.full((4,), index, np.int32)]

        signature = [((2, 3), tf.float32), ((4,), tf.int32)]
        data = tf.data.Dataset.range(3).map(
            lambda i: tuple(python_ops.load_arrays(load, i, signature))
        )
        self.assertEqual([tuple(spec.shape) for spec in data.element_spec], [(2, 3), (4,)])
        self.assertAllEqual([int(one[0, 0]) for one, _ in data], [0, 1, 2])

    def test_the_last_unreadable_candidate_is_reported_and_raises(self):
        reports = []

        def report(index, is_last):
            reports.append((index, is_last))

        data = tf.data.Dataset.from_tensors(tf.constant(7, tf.int64))
        unbroken = data.map(lambda i: python_ops.report_unreadable(report, i, tf.constant(False)))
        self.assertEqual(list(unbroken.as_numpy_iterator()), [7])
        with self.assertRaisesRegex(tf.errors.OpError, "no readable image"):
            next(
                iter(data.map(lambda i: python_ops.report_unreadable(report, i, tf.constant(True))))
            )
        self.assertEqual(reports, [(7, False), (7, True)])


if __name__ == "__main__":
    tf.test.main()
