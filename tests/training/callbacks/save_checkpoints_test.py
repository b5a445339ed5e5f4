import pathlib
import shutil

import tensorflow as tf

from pixpro_keras.training.callbacks import SaveCheckpoints
from pixpro_keras.training.checkpoints import Checkpoints, SaveError, checkpoint_steps
from tests.helpers.tiny_runs import compiled_square


class SaveCheckpointsTest(tf.test.TestCase):
    def test_a_run_goes_on_or_stops(self):
        folder, model = pathlib.Path(self.create_tempdir().full_path), compiled_square()
        checkpoints = Checkpoints(folder, model, {"model": "square"})
        model.step.assign(8)
        checkpoints.save()
        callback = SaveCheckpoints(checkpoints, 2, is_error_fatal=False)
        fatal = SaveCheckpoints(checkpoints, 2)
        for one in (callback, fatal):
            one.on_train_begin({"step": 8})
        shutil.rmtree(folder)
        folder.write_text("a file where the folder was")
        model.step.assign(10)
        with self.assertLogs("absl", "ERROR") as logs:
            callback.on_train_batch_end(0, {"step": 10})
        self.assertRegex(logs.output[0], "step 10 cannot be written.*of step 8.*continues")
        with self.assertRaisesRegex(SaveError, "last good state is that of step 8"):
            fatal.on_train_batch_end(0, {"step": 10})
        with self.assertRaises(SaveError):  # what the run ends with is not given up lightly
            callback.on_train_end({"step": 10})
        folder.unlink()
        callback.on_train_end({"step": 10})
        self.assertEqual(checkpoint_steps(folder), [10])


if __name__ == "__main__":
    tf.test.main()
