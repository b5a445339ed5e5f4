import dataclasses

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.transforms import photometric, recipes

OFF = recipes.ViewRecipe(jitter=0.0, grayscale=0.0, blur=0.0, solarize=0.0)


def photo():
    coarse = np.random.default_rng(0).uniform(0, 255, (5, 5, 3)).astype("float32")
    return tf.image.resize(coarse, (16, 16))


class RecipeTest(tf.test.TestCase, parameterized.TestCase):
    def test_byol_is_the_papers(self):
        one, two = recipes.RECIPES["byol"]
        for view in (one, two):
            self.assertEqual((view.flip, view.jitter, view.grayscale), (0.5, 0.8, 0.2))
            self.assertEqual(view.jitter_strengths, (0.4, 0.4, 0.2, 0.1))
            self.assertEqual(view.blur_sigma, (0.1, 2.0))
        self.assertEqual((one.blur, two.blur), (1.0, 0.1))
        self.assertEqual((one.solarize, two.solarize), (0.0, 0.2))

    @parameterized.named_parameters(
        ("nothing", OFF, lambda x: x),
        (
            "grayscale",
            dataclasses.replace(OFF, grayscale=1.0),
            lambda x: tf.repeat(photometric.to_grayscale(x), 3, -1),
        ),
        ("solarize", dataclasses.replace(OFF, solarize=1.0), photometric.solarize),
        (
            "blur",
            dataclasses.replace(OFF, blur=1.0, blur_sigma=(1.5, 1.5)),
            lambda x: photometric.gaussian_blur(x, tf.constant(1.5), 1.5),
        ),
    )
    def test_applies_what_it_says(self, recipe, change):
        ours = recipes.apply_photometric(photo(), (1, 2), recipe)
        self.assertAllClose(ours, change(photo()), rtol=0, atol=1e-3)

    def test_each_step_happens_as_often_as_asked(self):
        recipe = dataclasses.replace(OFF, grayscale=0.3, solarize=0.6)
        image = tf.fill((8, 8, 3), 200.0) * tf.constant([1.0, 0.9, 0.8])

        def change(number):
            return recipes.apply_photometric(image, tf.stack([0, number]), recipe)[0, 0]

        pixels = next(iter(tf.data.Dataset.range(1500).map(change).batch(1500))).numpy()
        is_gray = np.ptp(pixels, axis=-1) < 1e-3
        self.assertAllClose(is_gray.mean(), 0.3, atol=0.05)
        self.assertAllClose((pixels[:, 1] < 128).mean(), 0.6, atol=0.05)

    def test_infomin_loses_color_after_rand_augment(self):
        recipe = dataclasses.replace(OFF, grayscale=1.0, is_rand_augmented=True)
        for number in range(30):  # a fill color from beyond the border would not be gray
            changed = recipes.apply_photometric(photo(), (number, 0), recipe, use_xla=False)
            self.assertAllClose(np.ptp(changed, axis=-1), np.zeros((16, 16)), atol=1e-3)

    def test_instdisc_loses_color_before_the_jitter(self):
        recipe = dataclasses.replace(recipes.RECIPES["instdisc"][0], grayscale=1.0)
        gray = tf.repeat(photometric.to_grayscale(photo()), 3, -1)
        no_gray = dataclasses.replace(recipe, grayscale=0.0)
        for number in range(4):
            one = recipes.apply_photometric(photo(), (number, 0), recipe)
            two = recipes.apply_photometric(gray, (number, 0), no_gray)
            self.assertAllClose(one, two, atol=1e-3)

    def test_who_moves_pixels(self):
        moving = {name for name in recipes.RECIPES if recipes.moves_pixels(name)}
        self.assertEqual(moving, {"infomin"})

    def test_xla_changes_rounding_only(self):
        recipe = recipes.ViewRecipe(jitter=1.0, grayscale=0.2, blur=0.5, solarize=0.2)
        for number in range(12):
            compiled, plain = (
                recipes.apply_photometric(photo(), (7, number), recipe, use_xla)
                for use_xla in (True, False)
            )
            self.assertAllClose(compiled, plain, rtol=0, atol=0.01)

    @parameterized.parameters(("byol", False), ("instdisc", True), ("supervised", False))
    def test_a_batch_at_once_equals_one_image_after_the_other(self, name, jit_compile):
        images = tf.stack([tf.roll(photo(), k, axis=0) for k in range(12)])
        seeds = [(7, number) for number in range(12)]
        draws = tf.stack([recipes.draw(seed) for seed in seeds])
        at_once = tf.function(recipes.apply_to_batch, jit_compile=jit_compile)
        for recipe in recipes.RECIPES[name]:
            expected = tf.stack(
                [
                    recipes.apply_photometric(image, seed, recipe, use_xla=False)
                    for image, seed in zip(images, seeds, strict=True)
                ]
            )
            ours = at_once(images, draws, recipe)
            self.assertAllClose(ours, expected, rtol=0, atol=0.01)

    def test_scaled_colors_are_the_shares_of_the_recipe(self):
        recipe = recipes.RECIPES["byol"][1]
        half = recipes.scale_colors(recipe, 0.5)
        self.assertAllClose(half.jitter_strengths, (0.2, 0.2, 0.1, 0.05))
        self.assertAllClose((half.grayscale, half.solarize), (0.1, 0.1))
        self.assertEqual((half.jitter, half.blur), (recipe.jitter, recipe.blur))
        self.assertEqual(recipes.scale_colors(recipe, 1.0), recipe)
        most = recipes.scale_colors(recipe, 9.0)
        self.assertEqual(most.jitter_strengths, (1.0, 1.0, 1.0, 0.5))
        self.assertEqual((most.grayscale, most.solarize), (1.0, 1.0))

    def test_without_strength_colors_stay(self):
        recipe = recipes.scale_colors(dataclasses.replace(recipes.RECIPES["byol"][1], blur=0.0), 0)
        for number in range(4):
            changed = recipes.apply_photometric(photo(), (number, 0), recipe, use_xla=False)
            self.assertAllClose(changed, photo(), atol=1e-3)

    def test_scaled_blur(self):
        recipe = recipes.RECIPES["byol"][0]
        self.assertEqual(recipes.scale_blur(recipe, 1.0), recipe)
        half = recipes.scale_blur(recipe, 0.5)
        self.assertEqual((half.blur, half.blur_sigma), (recipe.blur, (0.05, 1.0)))
        self.assertEqual(recipes.scale_blur(recipe, 0.0).blur, 0.0)
        only_blur = dataclasses.replace(recipe, jitter=0.0, grayscale=0.0)
        differences = []
        for strength in (0.0, 0.01, 0.4, 1.0):
            scaled = recipes.scale_blur(only_blur, strength)
            views = [recipes.apply_photometric(photo(), (n, 0), scaled) for n in range(4)]
            differences.append(float(np.mean(np.abs(np.stack(views) - photo()))))
        self.assertEqual(differences[:2], [0.0, 0.0])
        self.assertLess(0.0, differences[2])
        self.assertLess(1.5 * differences[2], differences[3])

    def test_rand_augment_is_for_single_images(self):
        with self.assertRaisesRegex(ValueError, "RandAugment"):
            recipes.apply_to_batch(tf.zeros((2, 4, 4, 3)), None, recipes.RECIPES["infomin"][0])

    def test_same_seed_same_pixels_eager_and_in_map(self):
        recipe = recipes.RECIPES["byol"][1]

        def change(number):
            return recipes.apply_photometric(photo(), tf.stack([3, number]), recipe)

        data = tf.data.Dataset.range(12).map(change, num_parallel_calls=4)
        views = [view.numpy() for view in data]
        for number, view in enumerate(views):
            self.assertAllEqual(change(tf.constant(number, tf.int64)), view)
        self.assertGreater(np.abs(views[0] - views[1]).max(), 1.0)


if __name__ == "__main__":
    tf.test.main()
