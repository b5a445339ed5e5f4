import pathlib

import pytest
import tensorflow as tf

from pixpro_keras.cli.make_tfrecords import escape_pattern
from pixpro_keras.data import sources
from tests.helpers.jobs import run_job, write_photos


class PatternTest(tf.test.TestCase):
    def test_any_name_is_matched(self):
        root = pathlib.Path(self.create_tempdir().full_path)
        for name in ("a[1]", "b{2}", "c*d", "e?f", "g h'i", "j(k)", "l+m"):
            file = root / name / "set[x]-00000-of-00001.tfrecord"
            file.parent.mkdir()
            file.touch()
            pattern = escape_pattern(str(root / name / "set[x]")) + "-*.tfrecord"
            self.assertEqual(tf.io.gfile.glob(pattern), [str(file)])


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

    def test_large_images_are_shrunk(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        write_photos(folder / "in", count=2, size=40)
        write_photos(folder / "in" / "large", count=2, size=200)
        (folder / "in" / "broken.jpg").write_bytes(b"no image")
        result = run_job(
            "make_tfrecords.py",
            f"--input={folder / 'in'}",
            f"--output={folder / 'set'}",
            "--num_shards=1",
            "--short_side=80",
        )
        self.assertEqual(result.returncode, 0, msg=result.stderr)
        source = sources.open_source(f"tfrecord:{folder / 'set'}*")
        contents = [source.read(tf.constant(k, tf.int64))["image"].numpy() for k in range(5)]
        self.assertIn(b"no image", contents)
        self.assertIn((folder / "in" / "0.jpg").read_bytes(), contents)
        shapes, errors = [], []
        for content in contents:
            if content == b"no image":
                continue
            image = tf.cast(tf.io.decode_jpeg(content), tf.float32)
            shapes.append(tuple(image.shape[:2]))
            if shapes[-1][0] == 80:
                originals = [
                    tf.io.decode_jpeg(path.read_bytes())
                    for path in (folder / "in" / "large").iterdir()
                ]
                resized = [tf.image.resize(one, image.shape[:2], "area") for one in originals]
                errors.append(min(float(tf.reduce_mean(abs(image - one))) for one in resized))
        self.assertCountEqual(shapes, [(40, 40), (40, 41), (80, 80), (80, 80)])
        self.assertLess(max(errors), 3)

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
