"""CPU time per image for each part of the input pipeline, and images/s.

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
flags.DEFINE_string("dataset", "scenes", "Data set, as for pretrain.py.")
flags.DEFINE_string("data_dir", None, "Directory of TFDS data sets. Default: that of TFDS.")
flags.DEFINE_enum("recipe", "byol", list(recipes.RECIPES), "Augmentation.")
flags.DEFINE_integer("image_size", 224, "Side of the views in pixels.", 1)
flags.DEFINE_integer("batch_size", 16, "Images per batch.", 1)
flags.DEFINE_integer("batches", 4, "Batches per timed round.", 1)
flags.DEFINE_integer(
    "rounds", 5, "Timed rounds of each part, alternately; the fastest is printed.", 1
)
flags.DEFINE_boolean("use_xla", True, "Compile color and blur with XLA.")
# Simulated accelerator: number of steps, and time of a step / time of a batch of the input.
_STEPS, _SLACK = 50, 1.3


def make_stages(source: sources.Source) -> dict[str, tf.data.Dataset]:
    """Data sets by name, each with one part more than the one before."""
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
    # One pixel of each image: images differ in size and cannot be batched.
    decoded = encoded.map(lambda image: decode(image)[0, 0])
    return {
        "read": encoded.batch(FLAGS.batch_size),
        "decode": decoded.batch(FLAGS.batch_size),
        "two crops, substitution, batch": whole("uncolored"),
        "two times color": whole("sharp"),
        "blur": whole(FLAGS.recipe),
    }


def on_one_thread(data: tf.data.Dataset) -> tf.data.Dataset:
    """Limits a data set to one thread."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return data.with_options(options)


def time_round(data: tf.data.Dataset) -> tuple[float, float]:
    """CPU and wall-clock seconds per image, without the first batch."""
    # Read to the end of a finite data set, so that no prefetching runs during the next measurement.
    batches = iter(data.take(1 + FLAGS.batches))
    next(batches)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in batches:
        pass
    count = FLAGS.batches * FLAGS.batch_size
    return (time.process_time() - cpu) / count, (time.perf_counter() - wall) / count


def waiting_share(data: tf.data.Dataset, seconds: float) -> float:
    """Share of time that an accelerator waits for batches.

    The accelerator is simulated by sleeping, so that the input has all CPU cores.

    Args:
        data: batches.
        seconds: time of a step.
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
    # Images are processed in parallel; threads within an operation would only add noise.
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
        until = min(times[name])  # Other load can only add time.
        print(f"| {name} | {1e3 * (until - before):.2f} |")
        before = until
    print(f"| sum | {1e3 * before:.2f} |")
    print(f"\n{rate:.0f} images/s with tf.data's default number of threads")
    share = waiting_share(stages["blur"], _SLACK * FLAGS.batch_size / rate)
    print(
        f"An accelerator whose step takes {_SLACK} times as long as a batch waits {share:.1%} of the time"
    )


if __name__ == "__main__":
    app.run(main)
