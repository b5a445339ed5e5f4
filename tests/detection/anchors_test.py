import numpy as np
import tensorflow as tf

from pixpro_keras.detection.anchors import cell_anchors, grid_anchors


class AnchorsTest(tf.test.TestCase):
    def test_cell_anchors_are_detectron2s(self):
        # The comment at `generate_cell_anchors` of detectron2's DefaultAnchorGenerator.
        expected = [[-22.6, -11.3, 22.6, 11.3], [-16, -16, 16, 16], [-11.3, -22.6, 11.3, 22.6]]
        self.assertAllClose(cell_anchors((32,)), expected, atol=0.05)

    def test_grid_is_detectron2s(self):
        # tests/modeling/test_anchor_generator.py of detectron2: sizes 32 and 64, ratios 0.25, 1, 4.
        expected = [
            [-32.0, -8.0, 32.0, 8.0],
            [-16.0, -16.0, 16.0, 16.0],
            [-8.0, -32.0, 8.0, 32.0],
            [-64.0, -16.0, 64.0, 16.0],
            [-32.0, -32.0, 32.0, 32.0],
            [-16.0, -64.0, 16.0, 64.0],
            [-28.0, -8.0, 36.0, 8.0],
            [-12.0, -16.0, 20.0, 16.0],
            [-4.0, -32.0, 12.0, 32.0],
            [-60.0, -16.0, 68.0, 16.0],
            [-28.0, -32.0, 36.0, 32.0],
            [-12.0, -64.0, 20.0, 64.0],
        ]
        self.assertAllClose(grid_anchors(1, 2, 4, (32, 64), (0.25, 1, 4)), expected)

    def test_rows_before_columns(self):
        grid = grid_anchors(2, 3, 16, (32,), (1.0,))
        centers = (grid[:, :2] + grid[:, 2:]) / 2
        self.assertAllEqual(centers, [[x * 16, y * 16] for y in range(2) for x in range(3)])
        self.assertEqual(grid.dtype, np.float32)


if __name__ == "__main__":
    tf.test.main()
