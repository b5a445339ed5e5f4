import itertools
import os
import unittest

from pixpro_keras.cli.linear_probe import LinearProbeOptions
from pixpro_keras.cli.options.detect_options import DetectOptions
from pixpro_keras.cli.options.option_fields import option_fields
from pixpro_keras.cli.options.pretrain_options import PretrainOptions
from pixpro_keras.cli.options.segment_options import SegmentOptions
from pixpro_keras.cli.options.training_options import resolve_lengths
from pixpro_keras.cli.shared.run_recipe import (
    FREE_FLAGS,
    changed_values,
    describe_periods,
    recipe_of,
    trained_periods,
)
from pixpro_keras.training import Period
from pixpro_keras.training.history import find_differences

PERIODS = [Period(0, {"seed": 0, "size": 8}), Period(4, {"seed": 1, "size": 8})]


def recipe(**values):
    options = PretrainOptions.make(dataset="scenes", workdir="run", **values)
    return recipe_of(options, num_images=100)


class RunRecipeTest(unittest.TestCase):
    def test_free_flags_exist(self):
        commands = (PretrainOptions, LinearProbeOptions, DetectOptions, SegmentOptions)
        names = {field.name for command in commands for field in option_fields(command)}
        self.assertEqual(FREE_FLAGS - names, set())

    def test_what_is_trained_is_in_it(self):
        names = set(recipe())
        self.assertLessEqual(
            {"dataset", "augmentation", "image_size", "batch_size", "seed", "num_images"}, names
        )
        self.assertLessEqual({"method", "optimizer", "base_learning_rate", "weight_decay"}, names)
        self.assertTrue(names.isdisjoint({"workdir", "strategy", "log_every_steps", "epochs"}))

    def test_initial_weights_mean_the_same_in_every_folder(self):
        self.assertEqual(recipe(init_weights="a.pth")["init_weights"], os.path.abspath("a.pth"))
        self.assertEqual(recipe(init_weights="imagenet")["init_weights"], "imagenet")

    def test_lengths_count_in_steps(self):
        by_epoch = recipe(steps_per_epoch=10, warmup_epochs=2, decay_epochs=("3",))
        self.assertEqual((by_epoch["warmup_steps"], by_epoch["decay_steps"]), (20, [30]))
        self.assertEqual(
            recipe(steps_per_epoch=20, warmup_epochs=1, decay_epochs=("1.5",)), by_epoch
        )

    def test_a_warmup_of_the_whole_run_is_not_in_it(self):
        for epochs in (2, 5):
            self.assertNotIn("warmup_steps", recipe(steps_per_epoch=10, epochs=epochs))
        self.assertEqual(recipe(steps_per_epoch=10, epochs=6)["warmup_steps"], 50)

    def test_more_iterations_do_not_change_it(self):
        recipes = []
        for iterations in (4, 6, 9000, 9100, 10007):
            options = PretrainOptions.make(
                dataset="scenes", workdir="run", batch_size=10, iterations=iterations
            )
            recipes.append(recipe_of(resolve_lengths(options, 100), 100))
        self.assertEqual([one.get("warmup_steps") for one in recipes], [None] * 2 + [5000] * 3)
        for before, after in itertools.pairwise(recipes):
            self.assertEqual(find_differences(before, after), [])

    def test_a_folder_is_the_same_from_everywhere(self):
        spec = "folder:photos/../photos/+tfds:voc/2007+scenes"
        self.assertEqual(
            recipe_of(PretrainOptions.make(dataset=spec, workdir="x"), 1)["dataset"],
            f"folder:{os.path.abspath('photos')}+tfds:voc/2007+scenes",
        )

    def test_other_files_under_the_same_names_are_told(self):
        options = PretrainOptions.make(dataset="scenes", workdir="run")
        old, one, other = (recipe_of(options, 100, "names", sizes) for sizes in ("", "1", "2"))
        self.assertEqual(find_differences(one, other), ["checksum_of_file_contents was 1, is 2"])
        # Runs of earlier versions do not have it.
        self.assertEqual(find_differences(old, one), [])

    def test_periods_of_a_checkpoint(self):
        first, second = (period.recipe for period in PERIODS)
        self.assertEqual(trained_periods(PERIODS, 6), [(0, 4, first), (4, 6, second)])
        self.assertEqual(trained_periods(PERIODS, 4), [(0, 4, first)])
        self.assertEqual(trained_periods([], 4), [])

    def test_only_what_changed_is_told(self):
        self.assertEqual(changed_values([one.recipe for one in PERIODS]), ["seed=0", "seed=1"])
        self.assertEqual(changed_values([{}, {"seed": 0}]), ["not recorded", ""])

    def test_lines_of_the_flag_file(self):
        self.assertEqual(describe_periods(PERIODS[:1]), [])
        self.assertEqual(
            describe_periods(PERIODS),
            ["Steps 0 to 4 of this run: seed=0", "Steps from 4 on: the flags below: seed=1"],
        )


if __name__ == "__main__":
    unittest.main()
