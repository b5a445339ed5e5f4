import tensorflow as tf

from pixpro_keras.detection.box_source import make_objects


class MakeObjectsTest(tf.test.TestCase):
    def test_small_excess_is_cut_off(self):
        objects = make_objects("image", (40, 60), [[-1, 0, 61, 40.5]], [0], [False])
        self.assertAllEqual(objects.boxes, [[0, 0, 60, 40]])


if __name__ == "__main__":
    tf.test.main()
