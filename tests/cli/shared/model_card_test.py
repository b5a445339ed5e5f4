import unittest

from pixpro_keras.cli.shared import model_card
from pixpro_keras.cli.shared.run_recipe import TrainedPeriod


class StepsTest(unittest.TestCase):
    def test_one_epoch_is_singular(self):
        recipe = {"dataset": "folder:photos", "num_images": 16, "batch_size": 4}
        for steps_per_epoch, text in ((4, "(1 epoch)"), (2, "(2 epochs)"), (8, "(0.5 epochs)")):
            periods = [TrainedPeriod(0, 4, recipe)]
            found = model_card._steps(periods, 4, steps_per_epoch)
            self.assertEqual(found, f"4 of 4 images {text}")


if __name__ == "__main__":
    unittest.main()
