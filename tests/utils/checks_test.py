import math
import unittest

from absl.testing import parameterized

from pixpro_keras.utils import checks


class ChecksTest(parameterized.TestCase):
    def test_good_values_come_back(self):
        self.assertEqual(checks.positive("gamma", 0.5), 0.5)
        self.assertEqual(checks.at_least("steps", 1, 1), 1)
        self.assertEqual(checks.in_range("share", 0.0, 0, 1), 0.0)
        self.assertEqual(checks.in_range("share", 1.0, 0, 1), 1.0)
        self.assertEqual(checks.one_of("form", "a", ("a", "b")), "a")

    @parameterized.parameters(
        (checks.positive, (0,), r"`x` must be positive\. Received: x=0\."),
        (checks.positive, (math.nan,), r"`x` must be positive\. Received: x=nan\."),
        (checks.at_least, (0, 1), r"`x` must be at least 1\. Received: x=0\."),
        (checks.in_range, (1.5, 0, 1), r"`x` must be in \[0, 1\]\. Received: x=1\.5\."),
        (checks.in_range, (math.nan, 0, 1), r"Received: x=nan\."),
        (checks.one_of, ("c", ("a", "b")), r"`x` must be one of a, b\. Received: x='c'\."),
    )
    def test_bad_values_are_named(self, check, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            check("x", *arguments)

    @parameterized.parameters(None, "1", ((1, 2),))
    def test_what_is_no_number_is_named(self, value):
        for check, limits in (
            (checks.positive, ()),
            (checks.at_least, (1,)),
            (checks.in_range, (0, 1)),
        ):
            with self.assertRaisesRegex(TypeError, "`x` must be a number. Received: x="):
                check("x", value, *limits)


if __name__ == "__main__":
    unittest.main()
