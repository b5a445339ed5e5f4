import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.cli.options.method_options import ModelOptions, check_method
from pixpro_keras.cli.options.option_fields import FlagError


class CheckMethodTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("simclr", "supervised")
    def test_a_momentum_without_a_target_encoder_is_refused(self, method):
        options = ModelOptions(method=method, base_momentum=0.9, given=frozenset({"base_momentum"}))
        with self.assertRaisesRegex(
            FlagError, f"--base_momentum=0.9: --method={method} does not have it"
        ):
            check_method(options)

    def test_a_momentum_of_a_target_encoder_is_taken(self):
        check_method(
            ModelOptions(method="byol", base_momentum=0.9, given=frozenset({"base_momentum"}))
        )


if __name__ == "__main__":
    tf.test.main()
