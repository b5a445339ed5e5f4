"""Decodes and augments images on other machines, for `pretrain.py --data_service=ADDRESS`.

One dispatcher, and workers on as many machines as the training wants images from:

    python experiments/data_service.py --role=dispatcher --port=5050
    python experiments/data_service.py --role=worker --dispatcher=HOST:5050

Workers may come and go while the training runs. They read the images by the same paths as the trainer.
"""

import signal
import threading

import tensorflow as tf
from absl import flags

from pixpro_keras.cli.shared import common_flags
from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame
from pixpro_keras.data.service import check_address

flags.DEFINE_enum("role", None, ["dispatcher", "worker"], "What this process is.", required=True)
flags.DEFINE_integer("port", 0, "Port to listen on; 0: a free one.", 0, 65535)
flags.DEFINE_string("dispatcher", None, "HOST:PORT of the dispatcher, for workers.")
flags.DEFINE_string(
    "host", None, "Name by which trainers reach this worker. Default: localhost, for trying it."
)
flags.DEFINE_string(
    "journal",
    None,
    "Directory in which the dispatcher notes its state, so that it can be started again. Default: none.",
)
flags.DEFINE_integer(
    "lost_after_seconds", 20, "Seconds of silence after which a worker counts as lost.", 1
)


def _main(argv: list[str]) -> int:
    """Serves until a signal comes."""
    del argv
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    server = start()
    ended.wait()
    server._stop()  # the only way to leave without losing the batches under way
    return 0


def start() -> tf.data.experimental.service.DispatchServer:
    """The server that the flags describe, running."""
    service = tf.data.experimental.service
    if FLAGS.role == "dispatcher":
        with blame("port"):
            server = service.DispatchServer(
                service.DispatcherConfig(
                    port=FLAGS.port,
                    work_dir=FLAGS.journal,
                    fault_tolerant_mode=FLAGS.journal is not None,
                    worker_timeout_ms=FLAGS.lost_after_seconds * 1000,
                )
            )
        print(f"dispatcher at {server.target.removeprefix('grpc://')}", flush=True)
        return server
    if not FLAGS.dispatcher:
        raise FlagError("--role=worker: --dispatcher=HOST:PORT is missing")
    with blame("dispatcher"):
        check_address(FLAGS.dispatcher)
    host = FLAGS.host or "localhost"
    with blame("port"):
        server = service.WorkerServer(
            service.WorkerConfig(
                dispatcher_address=FLAGS.dispatcher,
                worker_address=f"{host}:{FLAGS.port or '%port%'}",
                port=FLAGS.port,
            )
        )
    print(f"worker of {FLAGS.dispatcher}", flush=True)
    return server


def main() -> None:
    """Runs the command."""
    common_flags.run(_main)
