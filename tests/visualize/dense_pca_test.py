import numpy as np
import tensorflow as tf
from sklearn.decomposition import PCA

from pixpro_keras.visualize.dense_pca import draw_pca, pca_colors
from pixpro_keras.visualize.figures import figure_to_array


class DensePcaTest(tf.test.TestCase):
    def test_colors_are_the_principal_components(self):
        features = np.random.default_rng(0).normal(size=(2, 5, 6, 8)) * np.arange(1, 9)
        colors = pca_colors(features)
        self.assertEqual(colors.shape, (2, 5, 6, 3))
        self.assertAllInRange(colors, 0, 1)
        expected = PCA(3).fit_transform(features.reshape(-1, 8))
        for found, component in zip(colors.reshape(-1, 3).T, expected.T, strict=True):
            inside = (found > 0) & (found < 1)
            self.assertGreater(np.abs(np.corrcoef(found[inside], component[inside])[0, 1]), 0.9999)
        with self.assertRaisesRegex(ValueError, "three channels"):
            pca_colors(np.zeros((1, 4, 4, 2)))

    def test_cells_that_are_not_finite_are_gray(self):
        features = np.random.default_rng(0).normal(size=(1, 4, 4, 8))
        features[0, 1, 2, 3], features[0, 3, 3, 0] = np.inf, np.nan
        colors = pca_colors(features)
        is_gray = (colors == 0.5).all(axis=-1)
        self.assertEqual(np.argwhere(is_gray).tolist(), [[0, 1, 2], [0, 3, 3]])
        self.assertAllInRange(colors, 0, 1)
        with self.assertRaisesRegex(ValueError, "2 finite cells"):
            features[0, 1:, :, 0] = np.nan
            features[0, 0, 2:] = np.inf
            pca_colors(features)

    def test_picture(self):
        images = np.zeros((3, 32, 32, 3), np.uint8)
        maps = np.random.default_rng(0).normal(size=(3, 4, 4, 5))
        one = figure_to_array(draw_pca(images, {"a": maps}))
        two = figure_to_array(draw_pca(images, {"a": maps, "b": maps}))
        self.assertGreater(two.shape[0], one.shape[0])
        self.assertGreater(one.std(), 10)


if __name__ == "__main__":
    tf.test.main()
