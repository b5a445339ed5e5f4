import dataclasses
import pathlib
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import pixpro_keras
from pixpro_keras import backbones
from pixpro_keras.backbones.dtype_policies import global_policy
from pixpro_keras.backbones.resnet import build_resnet
from pixpro_keras.cli.options.evaluation_options import EvaluationOptions, read_backbone
from pixpro_keras.layers import BatchNormalization
from pixpro_keras.methods import PixPro
from pixpro_keras.weights import export_backbone
from tests.helpers.keras_hub_networks import FAMILIES, make_backbone
from tests.helpers.random_weights import photo, randomize
from tests.helpers.tiny_networks import RESNET6, tiny_pyramid_backbone

IMAGES = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")


def train_a_step(backbone):
    """One step of PixPro with random views of 64 px."""
    method = PixPro(backbone, hidden_dim=16, out_dim=8, total_steps=2)
    method.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    method.optimizer.build(method.trainable_variables)
    corners = np.tile([0.0, 0.0, 1.0, 1.0], (2, 1)).astype("float32")
    views = np.random.default_rng(0).normal(size=(2, 2, 64, 64, 3)).astype("float32")
    batch = {"view1": views[0], "view2": views[1], "coord1": corners, "coord2": corners}
    return method.train_step({name: tf.constant(value) for name, value in batch.items()})


def compute_dtypes(network):
    """Compute dtypes of the layers of a network, in nested models too."""
    inputs_and_models = keras.layers.InputLayer, keras.Model
    layers = network._flatten_layers(include_self=False, recursive=True)
    return {x.compute_dtype for x in layers if not isinstance(x, inputs_and_models)}


@dataclasses.dataclass
class Export:
    """A backbone of KerasHub through training and export; features and levels are those of `IMAGES`."""

    original: keras.Model
    features_before: list  # of the original and of what is built from its file
    logs: dict
    features: tf.Tensor
    levels: dict
    loaded: keras.Model


class NetworkFilesTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.exports = {}

    @classmethod
    def tearDownClass(cls):
        del cls.exports
        super().tearDownClass()

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def saved(self, network, name="network.keras"):
        network.save(self.folder / name)
        return str(self.folder / name)

    def exported(self, family):
        """A backbone of KerasHub, built, trained for a step and exported: once for all tests."""
        if family not in self.exports:
            original = randomize(make_backbone(family))
            path = self.saved(original)
            trained = backbones.build(path)
            backbones.copy_weights(original, trained)
            before = [model(IMAGES, training=False) for model in (original, trained)]
            logs = train_a_step(trained)
            export_backbone(trained, path, self.folder / "export")
            self.exports[family] = Export(
                original=original,
                features_before=before,
                logs={name: float(value) for name, value in logs.items()},
                features=trained(IMAGES, training=False),
                levels=backbones.feature_network(trained, "c2-c5")(IMAGES, training=False),
                loaded=pixpro_keras.load_backbone(self.folder / "export"),
            )
        return self.exports[family]

    @parameterized.parameters(*FAMILIES)
    @pytest.mark.slow
    def test_a_network_of_keras_hub_is_built_trained_and_exported(self, family):
        export = self.exported(family)
        features, built_features = export.features_before
        self.assertAllEqual(built_features, features)
        self.assertTrue(np.isfinite(export.logs["loss"]))
        self.assertEqual(export.logs["bad_steps"], 0)
        self.assertNotAllClose(export.features, features)
        # What is exported is KerasHub's own class again.
        self.assertIs(type(export.loaded), type(export.original))
        self.assertAllEqual(export.loaded(IMAGES, training=False), export.features)
        # Its levels are those of the class.
        named = getattr(export.loaded, "pyramid_outputs", {})
        if named:
            expected = keras.Model(export.loaded.input, named)(IMAGES, training=False)
            by_shape = {x.shape: x for x in expected.values()}
            for name in ("c2", "c3", "c4"):
                level = export.levels[name]
                self.assertAllEqual(level, by_shape[level.shape], msg=name)

    @pytest.mark.slow
    def test_an_instance_is_trained_in_place(self):
        for family in ("resnet", "mit"):
            backbone = self.exported(family).original  # of which the others need only the class
            before = backbone(IMAGES, training=False)
            self.assertTrue(np.isfinite(float(train_a_step(backbone)["loss"])))
            self.assertNotAllClose(backbone(IMAGES, training=False), before)

    @pytest.mark.slow
    def test_retinanet_takes_it(self):
        export = self.exported("resnet")
        backbone, levels = export.loaded, export.levels
        from keras_hub import models

        pyramid = models.RetinaNetBackbone(
            image_encoder=backbone, min_level=3, max_level=5, use_p5=False
        )
        detector = models.RetinaNetObjectDetector(pyramid, num_classes=3)
        boxes = detector(IMAGES, training=False)
        self.assertEqual({x.shape[0] for x in keras.tree.flatten(boxes)}, {1})
        maps = {"P3": levels["c3"], "P4": levels["c4"], "P5": levels["c5"]}
        expected = detector.backbone.feature_pyramid(maps, training=False)
        for name, pyramid_map in detector.backbone(IMAGES, training=False).items():
            self.assertAllClose(pyramid_map, expected[name], rtol=1e-5, msg=name)

    @pytest.mark.slow
    def test_deeplab_takes_it(self):
        export = self.exported("resnet")
        backbone, levels = export.loaded, export.levels
        from keras_hub import models

        network = models.DeepLabV3Backbone(
            image_encoder=backbone,
            low_level_feature_key="P2",
            spatial_pyramid_pooling_key="P5",
            upsampling_size=8,
            dilation_rates=[6, 12, 18],
        )
        segmenter = models.DeepLabV3ImageSegmenter(network, num_classes=3)
        self.assertEqual(segmenter(IMAGES, training=False).shape, (1, 64, 64, 3))
        inner = segmenter.backbone.image_encoder
        self.assertAllEqual(inner(IMAGES, training=False), levels["c5"])

    @pytest.mark.slow
    def test_segformer_takes_it(self):
        export = self.exported("mit")
        backbone, levels = export.loaded, export.levels
        from keras_hub import models

        segmenter = models.SegFormerImageSegmenter(
            models.SegFormerBackbone(image_encoder=backbone, projection_filters=8), num_classes=3
        )
        self.assertEqual(segmenter(IMAGES, training=False).shape, (1, 64, 64, 3))
        inner = segmenter.backbone.feature_extractor(IMAGES, training=False)
        for name, level in (("P1", "c2"), ("P2", "c3"), ("P3", "c4"), ("P4", "c5")):
            self.assertAllEqual(inner[name], levels[level])

    def test_a_plain_network_of_layers(self):
        path = self.saved(tiny_pyramid_backbone())
        for network in (backbones.build(path, bn_momentum=0.5), backbones.plain_network(path)):
            self.assertEqual(network.output_shape, (None, None, None, 8))
        self.assertEqual(backbones.build(path, bn_momentum=0.5).get_layer("bn0").momentum, 0.5)
        with self.assertRaisesRegex(ValueError, "`output_stride` must be 32"):
            backbones.build(path, output_stride=16)

    def test_layers_of_nested_models_are_those_of_a_training(self):
        inner = keras.Sequential(
            [
                keras.layers.Normalization(),
                keras.layers.Conv2D(8, 4, 4),
                keras.layers.BatchNormalization(),
            ]
        )
        inputs = keras.Input((None, None, 3))
        middle = keras.Model(inputs, inner(inputs))
        inputs = keras.Input((None, None, 3))
        original = keras.Model(inputs, keras.layers.ReLU()(middle(inputs)), name="nested")
        inner.layers[0].adapt(255 * np.abs(IMAGES))
        expected = randomize(original)(255 * IMAGES)
        path = self.saved(original)
        trained = backbones.build(path, bn_momentum=0.5)
        layers = trained._flatten_layers()
        (norm,) = (x for x in layers if isinstance(x, keras.layers.BatchNormalization))
        self.assertIsInstance(norm, BatchNormalization)
        self.assertEqual(norm.momentum, 0.5)
        statistics = inner.layers[0].get_weights()
        for network in (trained, backbones.plain_network(path)):
            # With new weights, images are normalized all the same.
            layers = network._flatten_layers()
            (layer,) = (x for x in layers if isinstance(x, keras.layers.Normalization))
            self.assertAllEqual(layer(255 * IMAGES), inner.layers[0](255 * IMAGES))
            self.assertAllEqual(layer.get_weights()[0], statistics[0])
            backbones.copy_weights(original, network)
            self.assertAllClose(network(255 * IMAGES), expected, rtol=1e-5, atol=1e-5)
        continued = backbones.build(path)  # whose variables a checkpoint sets
        for variable, value in zip(continued.weights, original.weights, strict=True):
            variable.assign(value)
        self.assertAllClose(continued(255 * IMAGES), expected, rtol=1e-5, atol=1e-5)

    def half_network(self):
        """Random network of float16, part of it in a nested model."""
        with global_policy("mixed_float16"):
            inner = keras.Sequential([keras.layers.Conv2D(8, 3), keras.layers.BatchNormalization()])
            inputs = keras.Input((None, None, 3))
            return randomize(keras.Model(inputs, keras.layers.ReLU()(inner(inputs)), name="half"))

    def test_layers_get_the_policy_of_the_run(self):
        path = self.saved(self.half_network())
        for policy, dtype in (("mixed_bfloat16", "bfloat16"), ("float32", "float32")):
            with global_policy(policy):
                self.assertEqual(compute_dtypes(backbones.build(path)), {dtype})
                self.assertEqual(backbones.build(path).output.dtype, dtype)
                self.assertEqual(compute_dtypes(backbones.plain_network(path)), {"float32"})

    @parameterized.parameters("float32", "mixed_bfloat16")
    def test_a_file_of_any_precision_is_exported_and_loaded_in_float32(self, policy):
        half = self.half_network()
        path = self.saved(half)
        with global_policy(policy):
            trained = backbones.build(path)
            backbones.copy_weights(half, trained)
            export_backbone(trained, path, self.folder / "export")
            loaded = pixpro_keras.load_backbone(path)
        exported = keras.saving.load_model(self.folder / "export" / "backbone.keras")
        convolution, norm = half.layers[1].layers
        kernel, bias = (x.numpy() for x in convolution.weights)
        gamma, beta, mean, variance = (x.numpy() for x in norm.weights)
        maps = tf.nn.conv2d(1000 * IMAGES, kernel, 1, "VALID") + bias
        maps = (maps - mean) / np.sqrt(variance + norm.epsilon) * gamma + beta
        for network in (exported, loaded):
            self.assertEqual(compute_dtypes(network), {"float32"})
            self.assertAllClose(network(1000 * IMAGES), tf.nn.relu(maps), rtol=1e-4, atol=1e-2)

    def test_a_trained_backbone_in_a_file_is_exported_as_plain_keras(self):
        path = self.saved(tiny_pyramid_backbone())
        trained = self.saved(randomize(backbones.build(path)), "trained.keras")
        network = backbones.build(trained)
        backbones.copy_weights(keras.saving.load_model(trained), network)
        export_backbone(network, trained, self.folder / "export")
        with zipfile.ZipFile(self.folder / "export" / "backbone.keras") as file:
            self.assertNotIn(b"pixpro_keras", file.read("config.json"))
        exported = keras.saving.load_model(self.folder / "export" / "backbone.keras")
        self.assertAllClose(exported(IMAGES), network(IMAGES), rtol=1e-5, atol=1e-5)

    def test_input_convention(self):
        images = np.full((1, 4, 4, 3), 255.0)
        plain = self.saved(tiny_pyramid_backbone())
        expected = backbones.preprocess_input("resnet18_v1_5")(images)
        self.assertAllEqual(backbones.preprocess_input(plain)(images), expected)
        inputs = keras.Input((64, 64, 3))
        scaled = keras.layers.Rescaling(1 / 255)(inputs)
        scaling = keras.Model(inputs, keras.layers.Conv2D(8, 3)(scaled))
        scaling = self.saved(scaling, "scaling.keras")
        self.assertAllEqual(backbones.preprocess_input(scaling)(images), images)
        self.assertEqual(backbones.input_convention(scaling), "RGB in 0..255; 64 x 64 px")
        known = self.saved(backbones.plain_network("mobilenetv2"), "known.keras")
        known = backbones.preprocess_input(known)(images)
        self.assertAllEqual(known, np.ones_like(images))

    def test_the_beginning_of_a_network_determines_its_input_convention(self):
        images = np.full((1, 4, 4, 3), 255.0)
        applications = keras.applications
        rescaled = keras.Sequential([keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(8, 3)])
        for number, (first, expected) in enumerate(
            (
                (rescaled, images),
                (backbones.plain_network("mobilenetv2"), np.ones_like(images)),
                (keras.Sequential([keras.layers.RandomFlip(), rescaled]), images),
                (applications.resnet50.preprocess_input, images),
                (applications.mobilenet_v2.preprocess_input, images),
                (applications.densenet.preprocess_input, images),
            )
        ):
            inputs = keras.Input((64, 64, 3))
            outer = keras.Model(inputs, keras.layers.Conv2D(8, 1)(first(inputs)))
            path = self.saved(outer, f"{number}.keras")
            self.assertAllEqual(backbones.preprocess_input(path)(images), expected)

    def test_scaling_before_a_known_network_makes_it_another(self):
        images = photo(64, 64)
        scaled = keras.layers.Rescaling(1 / 127.5, -1)(keras.Input((64, 64, 3)))
        network = randomize(build_resnet(RESNET6, input_tensor=scaled))
        self.assertIsNone(backbones.name_of(network))
        path = self.saved(network)
        self.assertEqual(backbones.input_convention(path), "RGB in 0..255; 64 x 64 px")
        evaluated, _ = read_backbone(EvaluationOptions.make(weights=path, image_size=64))
        features = evaluated.network(evaluated.preprocess(images), training=False)
        self.assertAllClose(features, network(images, training=False), rtol=1e-5, atol=1e-5)

    def test_a_network_without_the_layers_that_scale_its_images_is_refused(self):
        network = keras.applications.MobileNetV3Small(
            include_top=False, weights=None, include_preprocessing=False
        )
        with self.assertRaisesRegex(ValueError, "MobileNetV3Small lacks .* include_preprocessing"):
            backbones.preprocess_input(self.saved(network))

    def test_errors(self):
        half = self.folder / "half.keras"
        half.write_bytes(b"PK")
        classifier = keras.Model(
            (inputs := keras.Input((None, None, 3))),
            keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inputs)),
            name="classifier",
        )
        inputs = keras.Input((None, None, 3))
        scripted = keras.Model(inputs, keras.layers.Lambda(lambda x: x[:, ::2])(inputs))
        for path, message in (
            (self.saved(scripted, "scripted.keras"), r"scripted.keras: cannot be read \(.*Lambda"),
            ("/nowhere/a.keras", "/nowhere/a.keras: No such file"),
            (str(half), "half.keras: no complete Keras file"),
            (
                self.saved(classifier),
                "network.keras: classifier is no backbone: its output has the shape",
            ),
        ):
            with self.assertRaisesRegex(ValueError, message):
                backbones.build(path)


if __name__ == "__main__":
    tf.test.main()
