"""Decodes and augments images on other machines, for `pixpro-pretrain --data_service=ADDRESS`.

One dispatcher, and workers on as many machines as the training wants images from:

    pixpro-data-service --role=dispatcher --port=5050
    pixpro-data-service --role=worker --dispatcher=HOST:5050

Workers may join and leave during the training. They read the images under the same paths as the
trainer.
"""

import contextlib
import dataclasses
import pathlib
import signal
import threading
from collections.abc import Iterator

import tensorflow as tf

from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.option_fields import FlagError, Options, option
from pixpro_keras.cli.shared import command
from pixpro_keras.data.service import check_address
from pixpro_keras.utils.errors import first_line


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServiceOptions(Options):
    """Options of a data service."""

    role: str = option(
        None, "Role of this process.", choices=("dispatcher", "worker"), is_required=True
    )
    port: int = option(0, "Port to listen on; 0: a free one.", minimum=0, maximum=65535)
    dispatcher: str | None = option(None, "HOST:PORT of the dispatcher, for workers.")
    host: str | None = option(
        None,
        "Host name under which trainers reach this worker. Default: localhost, for tests on one machine.",
    )
    journal: str | None = option(
        None,
        "Directory in which the dispatcher stores its state, so that it can be restarted. Default: none.",
    )
    lost_after_seconds: int = option(
        20, "Seconds without a heartbeat after which a worker counts as lost.", minimum=1
    )


def run(options: ServiceOptions) -> None:
    """Serves until a signal arrives."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    server = start(options)
    ended.wait()
    server._stop()  # The only way to stop without losing batches in progress.


def start(options: ServiceOptions) -> tf.data.experimental.service.DispatchServer:
    """Starts the server that the options describe and returns it."""
    service = tf.data.experimental.service
    if options.role == "dispatcher":
        journal = options.journal and str(pathlib.Path(options.journal).expanduser())
        with flag_errors(options, "port", "journal"), _server_errors():
            server = service.DispatchServer(
                service.DispatcherConfig(
                    port=options.port,
                    work_dir=journal,
                    fault_tolerant_mode=journal is not None,
                    worker_timeout_ms=options.lost_after_seconds * 1000,
                )
            )
        print(f"dispatcher at {server.target.removeprefix('grpc://')}", flush=True)
        return server
    if not options.dispatcher:
        raise FlagError("--role=worker: --dispatcher=HOST:PORT is missing")
    with flag_errors(options, "dispatcher"):
        check_address(options.dispatcher)
    host = options.host or "localhost"
    with flag_errors(options, "port"), _server_errors():
        server = service.WorkerServer(
            service.WorkerConfig(
                dispatcher_address=options.dispatcher,
                worker_address=f"{host}:{options.port or '%port%'}",
                port=options.port,
            )
        )
    print(f"worker of {options.dispatcher}", flush=True)
    return server


@contextlib.contextmanager
def _server_errors() -> Iterator[None]:
    """Context that converts TensorFlow's errors of a server that cannot start to a ValueError of one line."""
    try:
        yield
    except (RuntimeError, tf.errors.OpError) as error:
        raise ValueError(first_line(error)) from error


def main() -> None:
    """Runs the command."""
    command.run(ServiceOptions, run, __doc__ or "")
