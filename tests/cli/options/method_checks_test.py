import inspect

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.cli.options.method_checks import check_method, warn_of_long_queue
from pixpro_keras.cli.options.method_options import ModelOptions
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.methods import METHODS


class CheckMethodTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ({"instance_form": "contrastive"}, "--instance_weight=0 has no such branch"),
        ({"instance_weight": 1.0, "instance_temperature": 0.1}, "only --instance_form=contrastive"),
        ({"pixel_weight": 0.0, "instance_weight": 1.0, "variance_weight": 1.0}, "no pixel loss"),
        ({"method": "pixcontrast", "gamma": 5.0}, "no propagation module"),
        ({"propagation": False, "transform_layers": 3}, "no propagation module"),
        ({"method": "pixcontrast", "queue_size": 7}, "only --negatives=queue"),
        ({"local_image_size": 64}, "--local_views=0"),
        (
            {"augmentation": "instdisc", "blur_strength": 0.5},
            "--augmentation=instdisc does not blur",
        ),
        ({"augmentation": "supervised", "color_strength": 0.5}, "does not change colors"),
    )
    def test_an_option_without_effect_is_refused(self, values, reason):
        name = list(values)[-1]
        with self.assertRaisesRegex(FlagError, f"^--{name}=.*: .*{reason}"):
            check_method(ModelOptions(**values, given=frozenset(values)))
        with self.assertLogs("absl", "WARNING") as logs:
            check_method(
                ModelOptions(**values, given=frozenset(values), from_files=frozenset(values))
            )
        self.assertRegex(logs.output[0], f"{reason}.*The flag file's value is not used")

    @parameterized.parameters(
        {"instance_weight": 1.0, "instance_form": "contrastive", "instance_temperature": 0.1},
        {"method": "pixcontrast", "propagation": True, "gamma": 5.0, "transform_layers": 3},
        {"variance_weight": 1.0, "gamma": 3.0, "local_views": 2, "local_image_size": 64},
        {"augmentation": "instdisc", "color_strength": 0.5},
        {"gamma": 2.0, "propagation": False},  # the default, as flags.cfg lists it
    )
    def test_an_option_with_effect_is_taken(self, **values):
        check_method(ModelOptions(**values, given=frozenset(values)))

    @parameterized.parameters(
        ({"method": "moco", "batch_size": 96}, "65536: .* 96 images .*, such as 65472"),
        (
            {"method": "densecl", "batch_size": 96, "accumulate_steps": 3, "queue_size": 33},
            r"33: .*such as 32$",
        ),
        ({"method": "infomin", "batch_size": 96, "queue_size": 64}, "64: .*, such as 96"),
        ({"method": "pixcontrast", "negatives": "queue", "batch_size": 96}, "65536: .*"),
    )
    def test_a_queue_holds_whole_batches(self, values, message):
        with self.assertRaisesRegex(FlagError, f"^--queue_size={message}"):
            check_method(ModelOptions(**values))

    @parameterized.parameters(
        {"method": "moco", "accumulate_steps": 3, "queue_size": 64},
        {"method": "pixcontrast"},
        {"method": "simclr"},
    )
    def test_other_batches_are_taken(self, **values):
        check_method(ModelOptions(**values, batch_size=96))

    def test_a_method_without_a_loss_is_refused(self):
        with self.assertRaisesRegex(FlagError, "^--pixel_weight=0 --instance_weight=0: "):
            check_method(ModelOptions(pixel_weight=0.0))
        check_method(ModelOptions(pixel_weight=0.0, instance_weight=1.0))

    @parameterized.parameters(("c2",), ("c4", "c4"), ())
    def test_levels_are_different_ones_of_the_backbone(self, *levels):
        with self.assertRaisesRegex(FlagError, "^--pixel_levels=.*: must be different levels"):
            ModelOptions(pixel_levels=levels)
        self.assertEqual(ModelOptions(pixel_levels=("c5", "c3")).pixel_levels, ("c5", "c3"))

    def test_local_views_of_an_fpn_have_sides_of_whole_cells(self):
        with self.assertRaisesRegex(FlagError, "^--fpn --local_image_size=48: "):
            check_method(ModelOptions(fpn=True, local_views=2))
        check_method(ModelOptions(fpn=True, local_views=2, local_image_size=64))

    def test_a_queue_of_more_than_all_images_is_named(self):
        for values in ({"method": "moco"}, {"method": "pixcontrast", "negatives": "queue"}):
            with self.assertLogs("absl", "WARNING") as logs:
                warn_of_long_queue(ModelOptions(**values), num_images=2000)
            self.assertIn("--queue_size=65536: of 2000 images the queue holds all", logs.output[0])
        with self.assertNoLogs("absl", "WARNING"):
            warn_of_long_queue(ModelOptions(method="moco", queue_size=512), num_images=2000)
            warn_of_long_queue(ModelOptions(method="pixcontrast"), num_images=2000)
            pixels = ModelOptions(method="pixcontrast", negatives="queue", queue_size=3000)
            warn_of_long_queue(pixels, num_images=2000)

    def test_all_queues_have_the_same_default(self):
        defaults = {
            name: parameters["queue_size"].default
            for name, cls in METHODS.items()
            for parameters in [inspect.signature(cls.__init__).parameters]
            if "queue_size" in parameters
        }
        self.assertEqual({*defaults.values()}, {65536}, msg=defaults)

    @parameterized.parameters(
        {"method": "simclr"},
        {"instance_weight": 1.0, "instance_form": "contrastive"},
        {"method": "pixcontrast", "negatives": "other_images"},
    )
    def test_contrast_of_a_single_image_is_refused(self, **values):
        for batch_size in (1, 4):
            sizes = {"batch_size": batch_size, "accumulate_steps": batch_size}
            flags = (
                f"--batch_size={batch_size} --accumulate_steps={batch_size}: a loss that contrasts"
            )
            with self.assertRaisesRegex(FlagError, f"^{flags}"):
                check_method(ModelOptions(**values, **sizes))
        check_method(ModelOptions(**values, batch_size=4, accumulate_steps=2))

    @parameterized.parameters({}, {"method": "byol"}, {"method": "pixcontrast"})
    def test_losses_of_a_single_image_are_taken(self, **values):
        check_method(ModelOptions(**values, batch_size=1))

    @parameterized.parameters("simclr", "supervised")
    def test_a_momentum_without_a_target_encoder_is_refused(self, method):
        options = ModelOptions(method=method, base_momentum=0.9, given=frozenset({"base_momentum"}))
        with self.assertRaisesRegex(
            FlagError, "--base_momentum=0.9: without a target encoder there is no"
        ):
            check_method(options)

    def test_a_momentum_of_a_target_encoder_is_taken(self):
        check_method(
            ModelOptions(method="byol", base_momentum=0.9, given=frozenset({"base_momentum"}))
        )


if __name__ == "__main__":
    tf.test.main()
