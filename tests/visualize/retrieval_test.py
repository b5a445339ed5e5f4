import numpy as np
import tensorflow as tf

from pixpro_keras.visualize.figures import figure_to_array
from pixpro_keras.visualize.retrieval import draw_retrieval, nearest_cells


class RetrievalTest(tf.test.TestCase):
    def test_nearest_cells(self):
        features = np.random.default_rng(0).normal(size=(4, 3, 5, 6))
        query = (2, 1, 4)
        best = {}
        for image in (0, 1, 3):
            for row in range(3):
                for column in range(5):
                    a, b = features[query], features[image, row, column]
                    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                    if image not in best or cosine > best[image][1]:
                        best[image] = (image, row, column), cosine
        expected = sorted(best.values(), key=lambda one: -one[1])
        found = nearest_cells(features, query, 2)
        self.assertEqual([cell for cell, _ in found], [cell for cell, _ in expected[:2]])
        self.assertAllClose([c for _, c in found], [c for _, c in expected[:2]])
        self.assertLen(nearest_cells(features, query, 9), 3)

    def test_wrong_queries(self):
        features = np.ones((2, 3, 3, 4))
        with self.assertRaisesRegex(ValueError, "`query`.*3, 0"):
            nearest_cells(features, (0, 3, 0), 1)
        with self.assertRaisesRegex(ValueError, "two images"):
            nearest_cells(features[:1], (0, 0, 0), 1)

    def test_picture(self):
        images = np.zeros((3, 32, 32, 3), np.uint8)
        features = np.random.default_rng(0).normal(size=(3, 4, 4, 5))
        picture = figure_to_array(draw_retrieval(images, features, [(0, 1, 1), (2, 0, 3)]))
        self.assertGreater(picture.std(), 10)


if __name__ == "__main__":
    tf.test.main()
