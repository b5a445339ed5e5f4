import json
import pathlib
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from pixpro_keras import backbones
from pixpro_keras.cli import visualize
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.data.broken_images import BrokenImagesError
from pixpro_keras.data.sources import open_source
from pixpro_keras.evaluation.features import IMAGE, image_batches
from pixpro_keras.methods import PixPro
from pixpro_keras.training.checkpoints import latest_checkpoint, load_weights
from pixpro_keras.visualize.correspondences import to_display
from pixpro_keras.visualize.figures import figure_to_array, new_figure
from pixpro_keras.visualize.similarity import draw_similarity
from tests.helpers.jobs import TINY_RUN, run_job, write_photos


def read_png(path):
    return tf.io.decode_png(path.read_bytes(), channels=3).numpy().astype(int)


class VisualizeTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def visualize(self, *flags):
        """Runs the job. Returns the folder of the pictures and the printed text."""
        out = self.folder / "out"
        result = run_job("visualize.py", *flags, f"--workdir={out}")
        self.assertEqual(result.returncode, 0, msg=result.stderr)
        return out, result.stdout

    def test_places_are_fractions(self):
        for places in (["0.5"], ["0.5:0.5:0.5"], ["0.5:0.5", "x:0"], ["0:1.1"], ["nan:0"], []):
            with self.assertRaisesRegex(
                FlagError,
                f"--places={','.join(places)}: must be cells x:y, of two fractions in 0..1",
            ):
                visualize.VisualizeOptions.make(places=places)
        options = visualize.VisualizeOptions.make(places=["0:1", "1:0.25"])
        self.assertEqual(visualize._cells(options, (4, 8)), [(3, 0), (1, 7)])

    def test_broken_images_are_passed_over(self):
        photos = write_photos(self.folder / "photos", count=5)
        (photos / "4.jpg").write_bytes(b"")
        source = open_source(f"folder:{photos}")
        with self.assertLogs("absl", "WARNING") as logs:
            chosen = visualize.spread(source, 3, max_broken_share=0.01)
        self.assertIn("4.jpg", logs.output[0])
        names = [pathlib.Path(chosen.describe(index)).name for index in range(chosen.num_examples)]
        self.assertEqual(names, ["0.jpg", "2.jpg"])
        with self.assertRaisesRegex(BrokenImagesError, "4.jpg"):
            visualize.spread(source, 3, max_broken_share=0.0)

    def test_matching_cells_are_those_of_the_pixel_loss(self):
        source = open_source(f"folder:{write_photos(self.folder / 'photos', count=2)}")
        sizes = []
        for flags in ({}, {"pixel_levels": ["c4", "c5"]}, {"fpn": True}):
            options = visualize.VisualizeOptions.make(
                backbone="resnet10_v1_5", image_size=64, **flags
            )
            with mock.patch.object(visualize, "draw_correspondences") as drawn:
                drawn.return_value = new_figure(1, 1)
                visualize.draw_views(options, self.folder, source, None)
            sizes.append(tuple(drawn.call_args.args[4]))
        self.assertEqual(sizes, [(2, 2), (4, 4), (4, 4)])

    @pytest.mark.slow
    def test_pictures(self):
        photos = write_photos(self.folder / "photos", count=5)
        names = ["correspondences.png", "similarity.png", "pca.png", "retrieval.png"]
        out, stdout = self.visualize(
            f"--dataset=folder:{photos}",
            "--backbone=resnet10_v1_5",
            "--image_size=64",
            "--level=c4",
            "--num_images=3",
            "--gallery_size=4",
        )
        for name in names:
            self.assertGreater(read_png(out / name).std(), 10)
        page = (out / "click_map.html").read_text()
        self.assertIn('"shape": [3, 4, 4, 256]', page)
        self.assertIn('"names": ["0.jpg", "1.jpg", "4.jpg"]', page)  # three of 0, 1, 2 and 4
        self.assertEqual(stdout.split(), [str(out / name) for name in (*names, "click_map.html")])

    @pytest.mark.slow
    def test_run_of_pixpro(self):
        photos, run = write_photos(self.folder / "photos"), self.folder / "run"
        of_views = ("--augmentation=simclr", "--min_crop_area=0.3", "--threshold=0.9", "--seed=5")
        flags = (*TINY_RUN, "--backbone=resnet10_v1_5", "--gamma=3", "--epochs=1", *of_views)
        dataset = f"--dataset=folder:{photos}"
        result = run_job("pretrain.py", *flags, dataset, f"--workdir={run}")
        self.assertEqual(result.returncode, 0, msg=result.stderr)
        self.assertEqual(json.loads((run / "loss_bounds.json").read_text()), {"pixel": [-4, 4]})
        looked_at = (dataset, "--num_images=2", "--image_size=64", f"--weights={run}")
        out, stdout = self.visualize(
            *looked_at,
            "--pictures=correspondences,similarity,curves",
            f"--runs={run}",
            "--output_stride=16",
            "--places=0.9:0.1",
        )
        self.assertLen(stdout.split(), 4)
        self.assertGreater(read_png(out / "curves.png").std(), 10)
        of_run = read_png(out / "correspondences.png")

        # The module's: of projections by the newest checkpoint, with the run's exponent.
        network = backbones.build("resnet10_v1_5", output_stride=16)
        method = PixPro(network, total_steps=1, hidden_dim=16, out_dim=8, gamma=3.0)
        load_weights(method, latest_checkpoint(run / "checkpoints"))
        preprocess = backbones.preprocess_input("resnet10_v1_5")
        batches = image_batches(open_source(f"folder:{photos}"), 64, preprocess, 8)
        inputs = next(iter(batches))[IMAGE].numpy()[[0, 7]]
        projections = method.encoder(inputs, training=False)["pixel"]
        figure = draw_similarity(to_display(inputs, preprocess), projections, [(0, 3)], 3.0)
        figure.suptitle(f"Weights in the propagation module, {run}", fontsize=11)
        expected = figure_to_array(figure).astype(int)
        self.assertLess(np.abs(read_png(out / "similarity_ppm.png") - expected).mean(), 0.5)

        # Views are those of the run, whatever the size at which its features are looked at.
        out, _ = self.visualize(
            dataset,
            "--num_images=2",
            "--pictures=correspondences",
            "--backbone=resnet10_v1_5",
            "--image_size=32",
            *of_views,
        )
        self.assertAllEqual(read_png(out / "correspondences.png"), of_run)
        wrong = run_job("visualize.py", *looked_at, f"--workdir={run}")
        self.assertIn(f"error: --workdir={run}: contains a run", wrong.stderr)

    @pytest.mark.slow
    def test_wrong_flags(self):
        for flags, message in (
            (["--pictures=curve"], "--pictures=curve: take correspondences"),
            (["--pictures=curves"], "--runs must be given"),
            (["--pictures=curves", f"--runs={self.folder}"], "--runs=.*metrics.jsonl"),
            (["--pictures=pca"], "--dataset must be given"),
            ([f"--dataset=folder:{self.folder}"], "--dataset=.*no image"),
        ):
            result = run_job("visualize.py", *flags, f"--workdir={self.folder / 'out'}")
            self.assertEqual(result.returncode, 1)
            self.assertRegex(result.stderr, f"error: .*{message}")


if __name__ == "__main__":
    tf.test.main()
