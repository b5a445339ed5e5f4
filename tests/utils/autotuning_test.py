import tensorflow as tf

from pixpro_keras.utils.autotuning import NUM_THREADS, without_autotuning


class WithoutAutotuningTest(tf.test.TestCase):
    def test_elements_stay_and_what_follows_is_not_tuned_either(self):
        data = without_autotuning(tf.data.Dataset.range(5))
        data = data.map(lambda x: 2 * x, num_parallel_calls=NUM_THREADS).prefetch(2)
        self.assertIs(data.options().autotune.enabled, False)
        self.assertEqual(list(data.as_numpy_iterator()), [0, 2, 4, 6, 8])


if __name__ == "__main__":
    tf.test.main()
