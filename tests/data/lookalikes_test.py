import unittest

from absl.testing import parameterized

from pixpro_keras.data.lookalikes import lookalike, only_in, spelled, warn_of_lookalikes
from pixpro_keras.data.sources import number_classes

COMPOSED, DECOMPOSED = "caf\xe9", "cafe\u0301"


class LookalikesTest(parameterized.TestCase):
    def test_names_that_look_alike_are_shown_with_their_characters(self):
        self.assertEqual(
            only_in(["cat", COMPOSED], ["cat", DECOMPOSED]), rf"{COMPOSED} (NFC, 'caf\xe9')"
        )
        self.assertEqual(
            only_in([DECOMPOSED, "dog"], [COMPOSED]), rf"{DECOMPOSED} (NFD, 'cafe\u0301'), dog"
        )

    def test_other_names_are_shown_as_they_are(self):
        self.assertEqual(only_in(["Cat", COMPOSED, "dog"], ["cat", "dog"]), f"Cat, {COMPOSED}")
        self.assertEqual(only_in(["dog"], ["cat", "dog"]), "none")
        # It is in both.
        self.assertEqual(only_in([COMPOSED, "eel"], [COMPOSED, DECOMPOSED]), "eel")

    @parameterized.parameters("cat\u200b", "cat ", "cat\xa0", "c\xadat", "\uff43at")
    def test_invisible_characters_are_shown(self, name):
        self.assertEqual(lookalike(name, ["dog", "cat"]), "cat")
        self.assertIn(ascii(name), only_in([name], ["cat"]))
        self.assertEqual(spelled("cat"), "cat ('cat')")

    @parameterized.parameters("Cat", "traffic light", "c\xe0t")
    def test_visible_differences_do_not_look_alike(self, name):
        self.assertIsNone(lookalike(name, ["cat", "trafficlight"]))

    def test_classes_of_one_set_that_look_alike_are_named(self):
        folders = [name.encode() for name in ("cat", COMPOSED, DECOMPOSED)]
        with self.assertLogs("absl", "WARNING") as logs:
            self.assertLen(number_classes(folders), 3)
        self.assertLen(logs.output, 1)
        self.assertIn(r"(NFD, 'cafe\u0301') and ", logs.output[0])
        self.assertIn(r"(NFC, 'caf\xe9') look alike", logs.output[0])
        with self.assertNoLogs("absl", "WARNING"):
            warn_of_lookalikes(["cat", "Cat", COMPOSED])


if __name__ == "__main__":
    unittest.main()
