"""Worker of `input_ratio.py`: two views per image by our pipeline, on one thread."""

import argparse

import pixpro_keras  # noqa: F401  # isort: skip
import tensorflow as tf
import worker

from pixpro_keras.data import pipeline, sources

# ImageNet statistics, as usual with torchvision. Conventions of other backbones cost about the same.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def main() -> None:
    """Serves batches to the coordinator."""
    parser = argparse.ArgumentParser()
    worker.add_input_arguments(parser)
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    source = sources.open_source(f"folder:{args.folder}")
    mean, scale = tf.constant(_MEAN), 1 / tf.constant(_STD)
    data = pipeline.make_dataset(
        source,
        pipeline.DataConfig(args.image_size, num_parallel_calls=1),
        global_batch_size=args.batch_size,
        preprocess=lambda view: (view - mean) * scale,
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    batches = iter(data.with_options(options))

    def step(_: int) -> float:
        batch = next(batches)
        return sum(float(tf.reduce_mean(batch[key])) for key in ("view1", "view2")) / 2

    worker.serve(step)


if __name__ == "__main__":
    main()
