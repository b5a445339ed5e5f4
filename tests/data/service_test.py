import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from pixpro_keras.cli import data_service
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.data import pipeline, sources
from pixpro_keras.data.service import check_address, check_source, through_service
from pixpro_keras.data.sources.joined import join
from tests.helpers.jobs import ROOT, write_photos

service = tf.data.experimental.service


def start_worker(dispatcher):
    address = dispatcher.target.removeprefix("grpc://")
    return service.WorkerServer(
        service.WorkerConfig(
            dispatcher_address=address, heartbeat_interval_ms=100, dispatcher_timeout_ms=2000
        )
    )


def start_worker_process(address):
    """Starts the command, as on another machine, and waits until it serves."""
    command = [sys.executable, ROOT / "experiments" / "data_service.py", "--role=worker"]
    process = subprocess.Popen(
        [*command, f"--dispatcher={address}"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
    )
    assert process.stdout.readline() == f"worker of {address}\n"
    return process


class ServiceTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.dispatcher = service.DispatchServer(
            service.DispatcherConfig(worker_timeout_ms=1000, job_gc_check_interval_ms=1000)
        )
        self.address = self.dispatcher.target.removeprefix("grpc://")

    def test_every_element_comes_once(self):
        workers = [start_worker(self.dispatcher) for _ in range(2)]
        data = through_service(tf.data.Dataset.range(100).batch(10), self.address)
        self.assertEqual(sorted(np.concatenate([*data.as_numpy_iterator()])), list(range(100)))
        del workers

    @pytest.mark.slow
    def test_goes_on_when_a_worker_process_is_killed(self):
        photos = write_photos(pathlib.Path(self.create_tempdir().full_path) / "photos")
        (photos / "broken.jpg").write_bytes(b"no image")
        workers = [start_worker_process(self.address) for _ in range(2)]
        for worker in workers:
            self.addCleanup(worker.kill)
        data = pipeline.make_dataset(
            sources.open_source(f"folder:{photos}"),
            pipeline.DataConfig(image_size=16),
            global_batch_size=4,
            preprocess=lambda views: views / 127.5 - 1,
            data_service=self.address,
        )
        iterator = iter(data)
        for step in range(40):
            if step == 10:
                workers[0].kill()
                self.assertEqual(workers[0].wait(), -9)
            batch = next(iterator)
            self.assertEqual(batch["view1"].shape, (4, 16, 16, 3))
            self.assertAllInRange(batch["view1"], -1.001, 1.001)
        self.assertIsNone(workers[1].poll())
        workers[1].terminate()
        self.assertEqual(workers[1].wait(60), 0)

    def test_sources_that_need_python_are_refused(self):
        def read(index):
            image = tf.numpy_function(lambda _: b"", [index], tf.string)
            return {"image": image, "label": tf.constant(0)}

        numbers = sources.Source("numbers", 1, read, str)
        with self.assertRaisesRegex(ValueError, "numbers is read through Python.*folder:"):
            check_source(numbers)
        photos = sources.open_source(
            f"folder:{write_photos(self.create_tempdir().full_path, count=2)}"
        )
        with self.assertRaisesRegex(ValueError, "is read through Python"):
            check_source(join("both", [photos, numbers]))

    def test_a_port_in_use_is_named(self):
        with socket.create_server(("", 0)) as other:
            port = other.getsockname()[1]
            options = data_service.ServiceOptions.make(role="dispatcher", port=port)
            with self.assertRaisesRegex(FlagError, f"--port={port}: Could not start"):
                data_service.start(options)

    def test_addresses(self):
        check_address(self.address)
        for address, message in (("here", "HOST:PORT"), ("localhost:1", "no answer")):
            with self.assertRaisesRegex(ValueError, message):
                check_address(address)


if __name__ == "__main__":
    tf.test.main()
