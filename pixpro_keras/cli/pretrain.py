"""Pre-trains a backbone on unlabelled images.

Run with a preset, a data set and anything else that differs:

    python experiments/pretrain.py --flagfile=experiments/configs/pretrain/quickstart.cfg
    python experiments/pretrain.py --dataset=folder:photos --backbone=resnet18_v1_5 \
        --image_size=96 --batch_size=64 --epochs=30 --workdir=runs/photos

The same command continues a run that was cut off. `--helpshort` lists the flags.
"""

import json
import pathlib

import keras
import tensorflow as tf
from absl import flags, logging

from pixpro_keras import backbones
from pixpro_keras.cli.shared import (
    backbone_flags,
    cluster_flags,
    common_flags,
    method_flags,
    model_card,
    monitor_flags,
    training_job,
    view_flags,
)
from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame, must_be_positive
from pixpro_keras.data import pipeline, service, sources
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.data.sampler import name_images
from pixpro_keras.evaluation.compare import comparison_table
from pixpro_keras.evaluation.scenes_probe import probe_on_scenes
from pixpro_keras.layers.fpn import FPN_FILE, save_fpn
from pixpro_keras.methods import METHODS, PretrainMethod
from pixpro_keras.utils.files import write_atomically
from pixpro_keras.visualize.plots import plot_metrics
from pixpro_keras.visualize.run_pictures import RunPictures
from pixpro_keras.weights import export_backbone

flags.DEFINE_string(
    "dataset",
    "scenes",
    "Images: scenes (drawn by the package), folder:PATH, tfds:NAME[/config][:split], tfrecord:GLOB; "
    "several with + between: folder:PATH+folder:PATH.",
)
flags.DEFINE_integer(
    "picture_every_steps", 500, "Steps between pictures of views and similarity; 0: none.", 0
)
flags.DEFINE_float(
    "max_broken_share", 0.01, "Share of images that may be unreadable before the run stops.", 0, 1
)
flags.DEFINE_integer("input_threads", None, "Threads that decode and augment. Default: automatic.")
flags.DEFINE_enum(
    "augment_on",
    "host",
    ["host", "device"],
    "Where colours and blur of the views are changed: by the processor beside the training, or by the "
    "accelerator in the training step, where it would wait for the processor.",
)
flags.DEFINE_string(
    "data_service",
    None,
    "HOST:PORT of a dispatcher of data_service.py, whose workers read, decode and augment the images of "
    "folder:PATH. Gives up reproducibility: which images a step sees depends on how fast the workers "
    "are, a resumed run sees others than an uninterrupted one, and when a worker dies, the images that "
    "it had under way are left out of the pass. Broken images are passed over without a word.",
)
flags.DEFINE_enum(
    "probe",
    "none",
    ["none", "scenes"],
    "Compare the backbone with its random initialisation at the end: k-NN and linear probes of frozen "
    "features on held-out scenes.",
)
must_be_positive("input_threads")


def _main(argv: list[str]) -> int:
    """Runs the job and returns its exit code."""
    del argv
    keras.mixed_precision.set_global_policy(FLAGS.precision)
    keras.utils.set_random_seed(FLAGS.seed)
    backbone_flags.check_backbone()
    workdir = common_flags.prepare_workdir()
    strategy, replica_batch = training_job.start_devices()
    is_host_done = FLAGS.augment_on == "host"
    with blame("augment_on", "augmentation"):
        config = view_flags.build_config(
            num_views=METHODS[FLAGS.method].num_views,
            with_jigsaw=METHODS[FLAGS.method].uses_jigsaw,
            max_broken_share=FLAGS.max_broken_share,
            num_parallel_calls=FLAGS.input_threads,
            colors_on_device=not is_host_done,
        )
    with cluster_flags.chief_first(strategy), blame("dataset"):
        source = sources.open_source(FLAGS.dataset, data_dir=FLAGS.data_dir)
        pipeline.check_decodable(source)
    if FLAGS.data_service:
        with blame("data_service"):
            service.check_address(FLAGS.data_service)
            service.check_source(source)
    method_flags.check_data(source)
    steps_per_epoch = training_job.resolve_steps_per_epoch(source.num_examples)

    with strategy.scope():
        method = method_flags.build_training(
            steps_per_epoch, synchronized=strategy.num_replicas_in_sync > 1
        )
    checkpoints, first_step = training_job.open_checkpoints(
        workdir, strategy, method, method_flags.identity()
    )
    logging.info(
        "%s on %s: %d images, %d steps of %d, %d replica(s), %s",
        FLAGS.method,
        FLAGS.backbone,
        source.num_examples,
        FLAGS.epochs * steps_per_epoch,
        FLAGS.batch_size,
        strategy.num_replicas_in_sync,
        FLAGS.precision,
    )

    broken = BrokenImages(source, config.max_broken_share)
    preprocess = backbones.preprocess_input(FLAGS.backbone)
    if not is_host_done:
        method.prepare = pipeline.finish_on_device(config, preprocess)
    monitor = monitor_flags.build_monitor(method.encoder.backbone, preprocess, strategy)

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return pipeline.make_dataset(
            source,
            config,
            global_batch_size=FLAGS.batch_size,
            replica_batch_size=replica_batch,
            preprocess=preprocess if is_host_done else None,
            start_step=first_step,
            input_pipeline_id=context.input_pipeline_id,
            num_input_pipelines=context.num_input_pipelines,
            broken=broken,
            data_service=FLAGS.data_service,
        )

    def chief_callbacks() -> list[keras.callbacks.Callback]:
        callbacks: list[keras.callbacks.Callback] = []
        # At the start, so that curves of a run that is going on have them, too.
        bounds = json.dumps(dict(method.loss_bounds))
        write_atomically(workdir / "loss_bounds.json", bounds.encode())
        if monitor is not None:
            callbacks.append(monitor)
        if FLAGS.picture_every_steps and config.num_views == 2:
            batch = next(iter(batches(tf.distribute.InputContext())))
            pictures = RunPictures(
                workdir,
                batch if method.prepare is None else method.prepare(batch),
                method.encoder,
                preprocess,
                every_steps=FLAGS.picture_every_steps,
                threshold=FLAGS.threshold,
                gamma=FLAGS.gamma,
            )
            callbacks.append(pictures)
        return callbacks

    exit_code = training_job.run_training(
        workdir,
        strategy,
        method,
        checkpoints,
        batches,
        broken,
        lambda step: name_images(source, FLAGS.seed, FLAGS.batch_size, step, broken.names),
        chief_callbacks,
    )
    if exit_code is None:
        with cluster_flags.chief_alone(strategy) as is_chief:
            if is_chief:
                try:
                    finish(workdir, method, source.num_examples)
                except OSError as error:
                    raise FlagError(
                        f"--workdir={FLAGS.workdir}: trained and saved, but the results cannot be "
                        f"written: {error}. The same command writes them"
                    ) from error
    return exit_code or 0


def finish(workdir: pathlib.Path, method: PretrainMethod, num_images: int) -> None:
    """Exports the backbone, compares it with its random initialisation, says where all is.

    Args:
        workdir: the run's directory.
        method: trained.
        num_images: number of images it was trained on.
    """
    backbone = method.encoder.backbone
    exported = export_backbone(backbone, FLAGS.backbone, workdir / "export")
    if method.encoder.fpn is not None:
        save_fpn(method.encoder.fpn, workdir / "export" / FPN_FILE)
        exported[workdir / "export" / FPN_FILE] = "the FPN, for Mask R-CNN FPN"
    exported[model_card.write(workdir, workdir / "export", method, num_images)] = (
        "what the backbone is, for those it is given to"
    )
    plot_metrics(workdir / "metrics.jsonl", workdir / "curves.png", method.loss_bounds)
    print()
    if FLAGS.probe == "scenes":
        keras.utils.set_random_seed(FLAGS.seed)  # the initialisation of this very run
        untrained = backbone_flags.build_backbone()
        rows = probe_on_scenes(
            {"random initialisation": untrained, "pre-trained": backbone},
            backbones.preprocess_input(FLAGS.backbone),
            FLAGS.data_dir,
        )
        write_atomically(workdir / "probe.json", json.dumps(rows, indent=2).encode())
        print("Held-out scenes, frozen features:\n")
        print(comparison_table(rows) + "\n")
    print(f"Run in {workdir}:")
    for path, what in [
        ("checkpoints/", "to continue from"),
        ("metrics.jsonl", "all scalars; the charts: tensorboard --logdir " + str(workdir)),
        ("curves.png", "the scalars as charts"),
        ("pictures/", "views and similarity maps"),
        ("flags.cfg", "repeats the run: --flagfile=" + str(workdir / "flags.cfg")),
        *((f"export/{path.name}", how) for path, how in exported.items()),
    ]:
        print(f"  {path:28} {what}")


def main() -> None:
    """Runs the command."""
    common_flags.run(_main)
