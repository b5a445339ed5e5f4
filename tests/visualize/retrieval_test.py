import numpy as np
import tensorflow as tf

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
        images = np.random.default_rng(0).integers(0, 256, (3, 60, 100, 3)).astype("uint8")
        features = np.random.default_rng(0).normal(size=(3, 6, 10, 5))
        queries = [(0, 2, 4), (2, 5, 0)]
        panels = np.reshape(draw_retrieval(images, features, queries).axes, (2, 4))
        for row, query in zip(panels, queries, strict=True):
            best = nearest_cells(features, query, 5)
            self.assertEqual([panel.get_title() for panel in row[:2]], ["query", "closer"])
            titles = [f"cosine {cosine:.3f}" for _, cosine in best]
            self.assertEqual([panel.get_title() for panel in row[2:]], titles)
            cells = [query, query, *(cell for cell, _ in best)]
            for panel, (image, y, x) in zip(row, cells, strict=True):
                self.assertAllEqual(panel.images[0].get_array(), images[image])
                (box,) = panel.patches
                self.assertAllClose(box.get_bbox().bounds, (10 * x, 10 * y, 10, 10))
            self.assertEqual((row[0].get_xlim(), row[0].get_ylim()), ((0, 100), (60, 0)))
        # 0.4 of the width, but three of the six rows; moved inside at the lower left.
        self.assertEqual((panels[0, 1].get_xlim(), panels[0, 1].get_ylim()), ((25, 65), (40, 10)))
        self.assertEqual((panels[1, 1].get_xlim(), panels[1, 1].get_ylim()), ((0, 40), (60, 30)))


if __name__ == "__main__":
    tf.test.main()
