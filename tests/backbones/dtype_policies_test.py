import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.backbones.dtype_policies import global_policy, with_policy


class DtypePoliciesTest(tf.test.TestCase):
    def test_a_config_gets_the_policy_in_all_layers_only(self):
        inner = keras.Sequential([keras.layers.ReLU(dtype="mixed_float16", name="inner")])
        inputs = keras.Input((4,), dtype="int32")
        outputs = inner(keras.ops.cast(inputs, "float16"))
        outputs = keras.layers.TimeDistributed(
            keras.layers.ReLU(dtype="float16"), dtype="mixed_float16", name="outer"
        )(keras.ops.expand_dims(outputs, 1))
        config = keras.Model(inputs, outputs).get_config()
        network = keras.Model.from_config(with_policy(config, "mixed_bfloat16"))
        outer = network.get_layer("outer")
        layers = [network.get_layer(inner.name).get_layer("inner"), outer, outer.layer]
        self.assertEqual({x.dtype_policy.name for x in layers}, {"mixed_bfloat16"})
        self.assertEqual(network.input.dtype, "int32")
        cast = next(x for x in network.operations if type(x).__name__ == "Cast")
        self.assertEqual(cast.output.dtype, "float16")
        self.assertEqual(config["layers"], keras.Model(inputs, outputs).get_config()["layers"])

    def test_float_inputs_become_float32(self):
        inputs = keras.Input((4,), dtype="float16")
        inner = keras.Sequential([keras.layers.ReLU()])
        config = keras.Model(inputs, inner(inputs)).get_config()
        network = keras.Model.from_config(with_policy(config, "float32"))
        self.assertEqual(network.input.dtype, "float32")
        value = np.array([[1.0001, 2.0, 3.0, 4.0]], "float32")
        self.assertAllEqual(network(value), value)

    def test_the_global_policy_is_restored_after_an_error(self):
        before = keras.config.dtype_policy().name
        with self.assertRaises(KeyError), global_policy("mixed_float16"):
            self.assertEqual(keras.layers.ReLU().compute_dtype, "float16")
            raise KeyError
        self.assertEqual(keras.config.dtype_policy().name, before)


if __name__ == "__main__":
    tf.test.main()
