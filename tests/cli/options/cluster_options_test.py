import tensorflow as tf

from pixpro_keras.cli.options.cluster_options import DeviceOptions, make_devices
from pixpro_keras.cli.options.option_fields import FlagError


class MakeDevicesTest(tf.test.TestCase):
    def test_flags_of_several_machines_are_refused_on_one(self):
        for values, message in (
            (
                {"cluster": "slurm"},
                "--cluster=slurm: needs --strategy=multi_worker; --strategy=auto",
            ),
            ({"start_timeout_seconds": 5}, "--start_timeout_seconds=5.0: needs --strategy=multi"),
            ({"num_workers": 2}, "--num_workers=2: only --cluster=kubernetes has pods"),
        ):
            with self.assertRaisesRegex(FlagError, message):
                make_devices(DeviceOptions.make(**values))
        options = DeviceOptions.make(strategy="one_device", cluster="tf_config")
        self.assertEqual(make_devices(options).num_replicas_in_sync, 1)

    def test_those_of_a_flag_file_are_named(self):
        options = DeviceOptions.make(cluster="slurm").replace(from_files=frozenset(["cluster"]))
        with self.assertLogs("absl", "WARNING") as logs:
            make_devices(options)
        self.assertIn("--cluster=slurm: needs --strategy=multi_worker", logs.output[0])

    def test_deterministic_is_refused_once_a_device_was_used(self):
        tf.zeros(1)
        with self.assertRaisesRegex(FlagError, "--deterministic: TensorFlow has used a device"):
            make_devices(DeviceOptions(), deterministic=True)


if __name__ == "__main__":
    tf.test.main()
