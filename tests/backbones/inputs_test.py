import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import backbones
from tests.helpers.random_weights import photo


class MinImageSizeTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("resnet50", 32), ("inceptionv3", 75), ("xception", 71), ("resnet18_v1_5", 32)
    )
    def test_is_the_networks_limit(self, name, expected):
        self.assertEqual(backbones.min_image_size(name), expected)


class PreprocessInputTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("resnet50", keras.applications.resnet50),
        ("mobilenetv2", keras.applications.mobilenet_v2),
        ("densenet121", keras.applications.densenet),
        ("mobilenetv3small", keras.applications.mobilenet_v3),
        ("efficientnetb0", keras.applications.efficientnet),
    )
    def test_is_that_of_keras_applications(self, name, module):
        images = photo(5, 7, batch=3)
        expected = module.preprocess_input(images.copy())
        dataset = tf.data.Dataset.from_tensor_slices(images).batch(3)
        (mapped,) = dataset.map(backbones.preprocess_input(name))
        before = images.copy()
        np.testing.assert_array_equal(mapped, expected)
        np.testing.assert_array_equal(backbones.preprocess_input(name)(images), expected)
        np.testing.assert_array_equal(images, before)  # keras.applications works in place

    def test_paper_is_mean_and_deviation_in_rgb(self):
        images = photo(5, 7, batch=3)
        expected = (images.astype("float64") / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        (mapped,) = tf.data.Dataset.from_tensors(images).map(
            backbones.preprocess_input("resnet50_v1_5")
        )
        self.assertAllClose(mapped, expected, rtol=0, atol=1e-6)

    @parameterized.parameters("resnet18_v1_5", "resnet50", "keras_cv:yolo_v8_xs_backbone")
    def test_images_without_three_channels_are_refused(self, name):
        with self.assertRaisesRegex(ValueError, r"grayscale_to_rgb.*shape \(1, 8, 8, 1\)"):
            backbones.preprocess_input(name)(np.zeros((1, 8, 8, 1), "uint8"))

    def test_every_name_gives_float32(self):
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        keras.config.set_dtype_policy("mixed_float16")
        images = tf.cast(photo(4, 4)[0], tf.uint8)
        for name in backbones.available():
            result = backbones.preprocess_input(name)(images)
            self.assertEqual(result.dtype, tf.float32, name)
            self.assertEqual(result.shape, (4, 4, 3), name)


if __name__ == "__main__":
    tf.test.main()
