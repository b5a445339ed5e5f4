import contextlib
import io
import json
import pathlib
import signal

import tensorflow as tf

from pixpro_keras import backbones
from pixpro_keras.cli.knn import KnnOptions
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.shared.comparison import run_each
from pixpro_keras.training import RunResult
from pixpro_keras.weights import export_backbone
from tests.helpers.tables import unpadded


class RunEachTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        # Runs are named from there: a long path would turn the table.
        self.enter_context(contextlib.chdir(self.folder))
        self.done = []

    def job(self, options):
        """Fake job that records its options and writes a result."""
        self.done.append((options.backbone, options.weights))
        workdir = pathlib.Path(options.workdir)
        workdir.mkdir(parents=True)
        row = {"backbone": options.weights, "test images": 4, "top-1": len(self.done) / 10}
        (workdir / "knn.json").write_text(json.dumps(row | {"all_classifiers": []}))
        return RunResult(steps=1)

    def compare(self, *weights, job=None, **options):
        options = KnnOptions.make(
            compare=[str(x) for x in weights], workdir=self.folder / "all", **options
        )
        with contextlib.redirect_stdout(io.StringIO()):
            return run_each(options, job or self.job, "knn")

    def run_of(self, name):
        export_backbone(backbones.build("resnet10_v1_5"), "resnet10_v1_5", self.folder / name)
        return pathlib.Path(name)

    def test_one_table_and_a_chart(self):
        a, b = self.run_of("a/run"), self.run_of("b/run")
        self.compare("random", a, b)
        # The baseline is of the network that is compared.
        self.assertEqual(self.done[0], ("resnet10_v1_5", "random"))
        self.assertEqual([weights for _, weights in self.done[1:]], [str(a), str(b)])
        table = unpadded((self.folder / "all" / "compare.md").read_text()).splitlines()
        self.assertEqual(table[0], "| backbone | test images | top-1 |")
        self.assertEqual(table[2], "| random | 4 | 10.0% |")
        self.assertLen(table, 5)
        self.assertLen(json.loads((self.folder / "all" / "compare.json").read_text()), 3)
        self.assertTrue((self.folder / "all" / "compare.png").exists())
        flags = (self.folder / "all" / "flags.cfg").read_text()
        self.assertIn(f"--compare=random,{a},{b}\n", flags)
        folders = {path.name for path in (self.folder / "all").iterdir() if path.is_dir()}
        self.assertEqual(
            folders, {"random", *(str(x).strip("/").replace("/", "_") for x in (a, b))}
        )

    def test_flags_of_new_weights_are_those_of_the_random_ones(self):
        closed = []

        def job(options):
            closed.append(options.zero_init_residual)
            return self.job(options)

        self.compare("random", self.run_of("run"), job=job, zero_init_residual=True)
        self.assertEqual(closed, [True, False])

    def test_a_signal_ends_it(self):
        def stopped(options):
            self.job(options)
            return RunResult(steps=1, stop_signal=signal.SIGTERM)

        result = self.compare("random", "resnet10_v1_5", job=stopped)
        self.assertEqual(result.exit_code, 143)
        self.assertLen(self.done, 1)

    def test_what_cannot_be_compared_is_refused_first(self):
        for weights, options, error in (
            (["random", "nowhere"], {}, "--compare=random,nowhere: nowhere does not exist"),
            (["random", "random"], {}, "random is listed twice"),
            (["random"], {"weights": "a"}, "replaces --weights=a"),
            (["imagenet"], {"backbone": "resnet18_v1_5"}, "no ImageNet weights of resnet18_v1_5"),
            (["imagenet", "resnet10_v1_5"], {}, "no ImageNet weights of resnet10_v1_5"),
            (["random"], {"strategy": "multi_worker"}, "runs on one machine"),
        ):
            with self.assertRaisesRegex(FlagError, error):
                self.compare(*weights, **options)
        self.assertEmpty(self.done)


if __name__ == "__main__":
    tf.test.main()
