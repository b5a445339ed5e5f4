import pathlib

import pytest
import tensorflow as tf

from pixpro_keras.data import sources
from tests.experiments.cli import run_job, write_photos


@pytest.mark.slow
class MakeTfrecordsTest(tf.test.TestCase):
    def test_bytes_and_labels_survive(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        for number, name in enumerate(("cat", "dog")):
            write_photos(folder / "in" / name, count=5, seed=number)
        result = run_job(
            "make_tfrecords.py",
            f"--input={folder / 'in'}",
            f"--output={folder / 'out' / 'set'}",
            "--num_shards=3",
            "--workers=2",
        )
        self.assertEqual(result.returncode, 0, msg=result.stderr)
        self.assertIn("10 images in 3 files", result.stdout)
        files = sorted(path.name for path in (folder / "out").iterdir())
        self.assertEqual(files, [f"set-0000{k}-of-00003.tfrecord" for k in range(3)])
        packed = sources.open_source(f"tfrecord:{folder / 'out' / 'set'}*")
        plain = sources.open_source(f"folder:{folder / 'in'}")

        def content(source):
            examples = [source.read(tf.constant(k, tf.int64)) for k in range(10)]
            return sorted((e["image"].numpy(), int(e["label"])) for e in examples)

        self.assertEqual(content(packed), content(plain))
        self.assertEqual({label for _, label in content(packed)}, {0, 1})

    def test_bad_input_is_one_line(self):
        folder = self.create_tempdir().full_path
        for flags, named in (
            ((f"--input={folder}/no", f"--output={folder}/x"), "--input="),
            ((f"--input={folder}", f"--output={folder}/x"), "--input="),
            ((f"--output={folder}/x",), "input"),
        ):
            result = run_job("make_tfrecords.py", *flags)
            self.assertEqual(result.returncode, 1)
            (line,) = [x for x in result.stderr.splitlines() if x.startswith("error:")]
            self.assertIn(named, line)


if __name__ == "__main__":
    tf.test.main()
