import keras
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import backbones
from pixpro_keras.backbones import keras_cv_networks
from tests.helpers.tiny_networks import RESNET6, RESNET10

# The project's, and those of the tests.
RESNETS = [f"resnet{depth}{kind}" for depth in (18, 34, 50, 101, 152) for kind in ("_v1_5", "_d")]
RESNETS += ["resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"]
RESNETS += [RESNET6, RESNET10]


class NamesTest(tf.test.TestCase, parameterized.TestCase):
    def test_available_is_keras_applications_and_the_papers_family(self):
        constructors = {name for name in dir(keras.applications) if name[0].isupper()}
        expected = {name.lower() for name in constructors} - {"nasnetmobile", "nasnetlarge"}
        expected |= {*RESNETS, *keras_cv_networks.names()}
        self.assertEqual(backbones.available(), tuple(sorted(expected)))
        self.assertContainsSubset(
            {"resnet50", "mobilenetv2", "mobilenetv3small", "efficientnetb0", "convnexttiny"},
            backbones.available(),
        )

    def test_constructor_names_exist(self):
        for name in set(backbones.available()) - {*RESNETS, *keras_cv_networks.names()}:
            prefix, _, constructor = backbones.constructor_name(name).rpartition(".")
            self.assertEqual(prefix, "keras.applications")
            self.assertEqual(constructor.lower(), name)
            self.assertTrue(callable(getattr(keras.applications, constructor)))

    def test_only_keras_applications_have_a_constructor(self):
        self.assertFalse(backbones.is_keras_application("resnet50_v1_5"))
        with self.assertRaisesRegex(ValueError, "resnet50_v1_5"):
            backbones.constructor_name("resnet50_v1_5")

    @parameterized.parameters(
        ("ResNet18", r"did you mean resnet18_d or resnet18_v1_5\?$"),
        ("resnet51", r"'resnet51'; did you mean .*resnet50"),
        ("ResNet50", r"'ResNet50'; did you mean resnet50"),
        ("MobileNetV2", r"'MobileNetV2'; did you mean mobilenetv2"),
        ("resnet50_v15", r"did you mean resnet50_v1_5"),
        ("nasnetmobile", r"except NASNet.*Received: 'nasnetmobile'"),
        ("", r"backbones\.available\(\).*Received: ''\."),
    )
    def test_unknown_name(self, name, message):
        for function in (
            backbones.build,
            backbones.plain_network,
            backbones.preprocess_input,
            backbones.min_image_size,
            backbones.is_keras_application,
        ):
            with self.assertRaisesRegex(ValueError, message):
                function(name)


if __name__ == "__main__":
    tf.test.main()
