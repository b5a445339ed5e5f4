from absl.testing import absltest

from pixpro_keras.cli.options.monitor_options import MonitorOptions, check_measurements
from pixpro_keras.cli.options.option_fields import FlagError


class CheckMeasurementsTest(absltest.TestCase):
    def test_flags_without_effect_are_refused(self):
        for values, message in (
            ({"eval_train_dataset": "scenes"}, "--eval_train_dataset=scenes: needs --eval_every"),
            ({"eval_mask_dataset": "scenes"}, "--eval_mask_dataset=scenes: needs --eval_every"),
            ({"eval_mask_size": ["16", "16"]}, "--eval_mask_size=16,16: there is no --eval_mask"),
            ({"eval_every_epochs": 1}, "--eval_every_epochs=1: needs --eval_train_dataset and"),
            (
                {"eval_every_epochs": 1, "eval_mask_dataset": "scenes", "eval_mask_size": []},
                "--eval_mask_size=: must be height,width in pixels",
            ),
        ):
            with self.assertRaisesRegex(FlagError, message):
                check_measurements(MonitorOptions.make(**values))
        check_measurements(MonitorOptions.make())


if __name__ == "__main__":
    absltest.main()
