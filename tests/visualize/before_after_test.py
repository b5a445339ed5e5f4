import numpy as np
import tensorflow as tf

from pixpro_keras.visualize.before_after import draw_before_after


class BeforeAfterTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (2, 32, 48, 3), np.uint8)
        self.maps = {f"step {k}": rng.random((2, 4, 6, 8), np.float32) for k in (0, 9)}

    def test_a_column_for_each_state(self):
        panels = draw_before_after(self.images, self.maps, [(0.5, 0.5)]).axes
        titles = [panel.get_title().split("\n")[0] for panel in panels[:5]]
        expected = ["image and places", "like 1, step 0", "like 1, step 9"]
        self.assertEqual(titles, [*expected, "features, step 0", "features, step 9"])

    def test_heat_is_the_cosine_with_the_place(self):
        panel = draw_before_after(self.images, self.maps, [(0.5, 0.5)]).axes[2]
        maps = self.maps["step 9"][0] / np.linalg.norm(
            self.maps["step 9"][0], axis=-1, keepdims=True
        )
        self.assertAllClose(panel.images[1].get_array(), maps @ maps[2, 3], atol=1e-6)
        self.assertAllClose(panel.images[1].get_clim()[1], 1.0)

    def test_both_states_have_one_projection(self):
        same = {"a": self.maps["step 0"], "b": 3 * self.maps["step 0"]}
        *_, first, second = draw_before_after(self.images, same, [(0.5, 0.5)]).axes[:5]
        self.assertAllClose(first.images[0].get_array(), second.images[0].get_array(), atol=1e-5)

    def test_a_note_stands_below(self):
        figure = draw_before_after(self.images, self.maps, note="Step 0 is another's.")
        self.assertEqual(figure.get_supxlabel(), "Step 0 is another's.")

    def test_places_outside(self):
        with self.assertRaisesRegex(ValueError, "`places` must be shares"):
            draw_before_after(self.images, self.maps, [(1.0, 0.5)])


if __name__ == "__main__":
    tf.test.main()
