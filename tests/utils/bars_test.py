import contextlib
import io
import time

import tensorflow as tf

from pixpro_keras.utils.bars import open_bar, with_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


class BarsTest(tf.test.TestCase):
    def test_what_takes_long_is_shown(self):
        err = Terminal()
        with contextlib.redirect_stderr(err):
            for item in with_bar(range(3), "batch norm", 3, "batches"):
                time.sleep(1.05 if item == 1 else 0)
        self.assertRegex(err.getvalue(), "batch norm.*/3")

    def test_items_of_several_units_do_not_exceed_the_total(self):
        with contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(list(with_bar([[1, 2], [3]], "features", 3, size=2)), [[1, 2], [3]])

    def test_a_rate_below_one_per_second_is_in_seconds_per_unit(self):
        for seconds, shown in ((0.5, "2.00 images/s"), (2.5, "2.50s/images")):
            with open_bar(unit=" images", file=Terminal(), total=1) as bar:
                self.assertIn(
                    shown, bar.format_meter(**{**bar.format_dict, "n": 1, "elapsed": seconds})
                )


if __name__ == "__main__":
    tf.test.main()
