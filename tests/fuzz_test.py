"""File readers read arbitrary and damaged bytes or raise their own error."""

import pathlib

import keras
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixpro_keras.data import pipeline, sources
from pixpro_keras.data.sources import RecordFiles
from pixpro_keras.task import Task
from pixpro_keras.training.checkpoints import CheckpointError, Checkpoints
from pixpro_keras.utils.checksums import ManifestError, check_files, read_manifest

# The same examples in every run; the folder is one for all.
settings.register_profile(
    "suite",
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("suite")

# Places and values of bytes that are changed, and the share that is kept.
damage = st.tuples(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    st.floats(0, 1),
)


def damaged(content, how):
    changes, kept = how
    changed = bytearray(content)
    for place, value in changes:
        changed[int(place * len(changed))] = value
    return bytes(changed[: round(kept * len(changed)) if kept > 0.3 else len(changed)])


def make_task():
    task = Task()
    task.add_weight(name="kernel", shape=(3, 5), initializer="ones")
    task.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    task.optimizer.build(task.trainable_variables)
    return task


class FuzzTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.task = make_task()

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def read_records(self, content):
        file = self.folder / "a.tfrecord"
        file.write_bytes(content)
        try:
            records = RecordFiles([str(file)])
        except ValueError as error:
            self.assertIn("a.tfrecord", str(error))
            return
        for index in range(len(records)):
            self.assertIn(records.read(index), content)

    @given(st.binary(max_size=200))
    def test_tfrecords_of_any_bytes(self, content):
        self.read_records(content)

    @given(st.lists(st.binary(max_size=30), min_size=1, max_size=4), damage)
    def test_damaged_tfrecords(self, contents, how):
        file = self.folder / "whole.tfrecord"
        with tf.io.TFRecordWriter(str(file)) as writer:
            for content in contents:
                writer.write(content)
        self.read_records(file.read_bytes())
        self.read_records(damaged(file.read_bytes(), how))

    @given(st.binary(max_size=60))
    def test_records_that_are_no_examples(self, content):
        file = self.folder / "b.tfrecord"
        with tf.io.TFRecordWriter(str(file)) as writer:
            writer.write(content)
        # Some bytes, such as none at all, are an example without features.
        errors = "none of 1 files that were tried is an image|record 0 has no image/encoded"
        with self.assertRaisesRegex(ValueError, errors):
            pipeline.check_decodable(sources.open_source(f"tfrecord:{file}"))

    @given(st.binary(max_size=200))
    def test_manifests_of_any_bytes(self, content):
        self.read_manifest(content)

    @given(damage)
    def test_damaged_manifests(self, how):
        (self.folder / "file").write_bytes(b"content")
        line = f"{'0123456789abcdef' * 4}  file\n{'f' * 64}  folder/other\n"
        self.read_manifest(damaged(line.encode(), how))

    def read_manifest(self, content):
        file = self.folder / "sums"
        file.write_bytes(content)
        try:
            names = read_manifest(file)
            check_files(file)
        except ManifestError:
            return
        self.assertEmpty(names)  # no content has these checksums

    @given(st.sampled_from(["index", "data-00000-of-00001", "sha256"]), damage, st.booleans())
    def test_damaged_checkpoints(self, part, how, with_manifest):
        kernel = next(v for v in self.task.weights if v.name == "kernel")
        kernel.assign(tf.ones((3, 5)))
        checkpoints = Checkpoints(self.folder / "run", self.task, {"model": "tiny"})
        path = checkpoints.save()
        kernel.assign(tf.zeros((3, 5)))
        if not with_manifest:
            pathlib.Path(f"{path}.sha256").unlink()
        file = pathlib.Path(f"{path}.{part}")
        if file.exists():
            file.write_bytes(damaged(file.read_bytes(), how))
        try:
            checkpoints.restore()
        except CheckpointError as error:
            self.assertIn("ckpt-0", str(error))
        else:
            self.assertAllEqual(kernel, tf.ones((3, 5)))

    @given(st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode)))
    def test_identities_of_any_bytes(self, content):
        checkpoints = Checkpoints(self.folder / "run", self.task, {"model": "tiny"})
        checkpoints.save()
        (self.folder / "run" / "model.json").write_bytes(content)
        with self.assertRaisesRegex(CheckpointError, "model.json|of another model"):
            checkpoints.restore()


if __name__ == "__main__":
    tf.test.main()
