import unittest

from pixpro_keras.cli.shared import model_card


class StepsTest(unittest.TestCase):
    def test_one_epoch_is_singular(self):
        recipe = {"dataset": "folder:photos", "num_images": 16, "batch_size": 4}
        for steps_per_epoch, text in ((4, "(1 epoch)"), (2, "(2 epochs)"), (8, "(0.5 epochs)")):
            self.assertEqual(
                model_card._steps([(0, 4, recipe)], 4, steps_per_epoch), f"4 of 4 images {text}"
            )


if __name__ == "__main__":
    unittest.main()
