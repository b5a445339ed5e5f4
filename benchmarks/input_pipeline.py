"""CPU time of the input pipeline per image, by part, and images/s.

python benchmarks/input_pipeline.py --dataset=folder:PATH --image_size=224
"""

import dataclasses
import os
import time

from pixpro_keras.data.decoding import decode

import pixpro_keras  # noqa: F401  # isort: skip
import tensorflow as tf
from absl import app, flags

from pixpro_keras.data import pipeline, sources
from pixpro_keras.data.transforms import recipes

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", "scenes", "As in experiments/pretrain.py.")
flags.DEFINE_string("data_dir", None, "Directory of TFDS data sets. Default: TFDS's own place.")
flags.DEFINE_enum("recipe", "byol", list(recipes.RECIPES), "Augmentation.")
flags.DEFINE_integer("image_size", 224, "Side of the views in pixels.", 1)
flags.DEFINE_integer("batch_size", 16, "Images per batch.", 1)
flags.DEFINE_integer("batches", 4, "Batches in a timed round.", 1)
flags.DEFINE_integer("rounds", 5, "Timed rounds of each part, in turn; the fastest counts.", 1)
flags.DEFINE_boolean("use_xla", True, "Compile color and blur with XLA.")
# Steps of the accelerator that is waited for, and its time for one, in those of the input.
_STEPS, _SLACK = 50, 1.3


def make_stages(source: sources.Source) -> dict[str, tf.data.Dataset]:
    """Data sets that do one thing more each, the last one everything."""
    one, two = (dataclasses.replace(view, blur=0.0) for view in recipes.RECIPES[FLAGS.recipe])
    recipes.RECIPES["sharp"] = one, two
    recipes.RECIPES["uncolored"] = (
        recipes.ViewRecipe(jitter=0.0, grayscale=0.0, blur=0.0, solarize=0.0),
    ) * 2

    def whole(recipe: str) -> tf.data.Dataset:
        config = pipeline.DataConfig(FLAGS.image_size, recipe=recipe, use_xla=FLAGS.use_xla)
        return pipeline.make_dataset(source, config, global_batch_size=FLAGS.batch_size)

    numbers = tf.data.Dataset.range(source.num_examples).repeat()
    encoded = numbers.map(lambda index: source.read(index)["image"])
    # A pixel of each image: sizes differ, and a batch of them would be another part.
    decoded = encoded.map(lambda image: decode(image)[0, 0])
    return {
        "read": encoded.batch(FLAGS.batch_size),
        "decode": decoded.batch(FLAGS.batch_size),
        "two crops, substitution, batch": whole("uncolored"),
        "two times color": whole("sharp"),
        "blur": whole(FLAGS.recipe),
    }


def on_one_thread(data: tf.data.Dataset) -> tf.data.Dataset:
    """The same data, made by one thread."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return data.with_options(options)


def time_round(data: tf.data.Dataset) -> tuple[float, float]:
    """CPU and wall seconds per image, after a first batch that is not counted."""
    # To the end of a finite set: what is fetched ahead would run into the next measurement.
    batches = iter(data.take(1 + FLAGS.batches))
    next(batches)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in batches:
        pass
    count = FLAGS.batches * FLAGS.batch_size
    return (time.process_time() - cpu) / count, (time.perf_counter() - wall) / count


def waiting_share(data: tf.data.Dataset, seconds: float) -> float:
    """Share of its time that an accelerator waits for batches, whose steps take some seconds each.

    The accelerator sleeps, so that the processors are the input's alone.
    """
    batches = iter(data.take(2 + _STEPS))
    for _ in range(2):
        next(batches)
    waited, begun = 0.0, time.perf_counter()
    for _ in range(_STEPS):
        time.sleep(seconds)
        asked = time.perf_counter()
        next(batches)
        waited += time.perf_counter() - asked
    return waited / (time.perf_counter() - begun)


def main(argv: list[str]) -> None:
    """Measures and prints a Markdown table."""
    del argv
    # Images are worked on side by side; threads within one op would only blur the sums.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    source = sources.open_source(FLAGS.dataset, data_dir=FLAGS.data_dir)
    stages = make_stages(source)
    times: dict[str, list[float]] = {name: [] for name in stages}
    for number in range(1 + FLAGS.rounds):
        for name, data in stages.items():
            seconds, _ = time_round(on_one_thread(data))
            if number > 0:  # The first round compiles.
                times[name].append(seconds)
    rate = 1 / min(time_round(stages["blur"])[1] for _ in range(FLAGS.rounds))
    print(
        f"\n{source.name}, {source.num_examples} images, {FLAGS.recipe}, {FLAGS.image_size} px, "
        f"XLA {'on' if FLAGS.use_xla else 'off'}, {os.cpu_count()} cores\n"
    )
    print("| part | CPU ms per image (two views) |\n|---|---|")
    before = 0.0
    for name in stages:
        until = min(times[name])  # What else the machine does can only add.
        print(f"| {name} | {1e3 * (until - before):.2f} |")
        before = until
    print(f"| all | {1e3 * before:.2f} |")
    print(f"\n{rate:.0f} images/s with as many threads as tf.data takes")
    share = waiting_share(stages["blur"], _SLACK * FLAGS.batch_size / rate)
    print(f"An accelerator whose step takes {_SLACK} times as long waits {share:.1%} of its time")


if __name__ == "__main__":
    app.run(main)
