"""Batches that other machines make, by the tf.data service."""

import socket

import tensorflow as tf

from pixpro_keras.data.sources.source import Source

_CONNECT_SECONDS = 10.0


def check_address(address: str) -> None:
    """Checks that a dispatcher listens at an address.

    Args:
        address: `HOST:PORT`.

    Raises:
        ValueError: if it is not an address, or nothing listens there.

    Example:
        ```python
        import socket

        from pixpro_keras.data.service import check_address

        with socket.create_server(("localhost", 0)) as server:
            check_address(f"localhost:{server.getsockname()[1]}")
        ```
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("must be HOST:PORT of a dispatcher")
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"no answer from there: {error}") from error


def through_service(data: tf.data.Dataset, address: str) -> tf.data.Dataset:
    """Lets the workers of a service compute the elements of a data set.

    Each worker takes the next elements of the source as soon as it is free. If a worker is lost, its
    batches in progress are lost, and the others continue.

    Args:
        data: data set of TensorFlow operations only, without Python.
        address: `HOST:PORT` of the dispatcher.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data.service import through_service

        dispatcher = tf.data.experimental.service.DispatchServer()
        address = dispatcher.target.removeprefix("grpc://")
        config = tf.data.experimental.service.WorkerConfig(dispatcher_address=address)
        worker = tf.data.experimental.service.WorkerServer(config)
        data = through_service(tf.data.Dataset.range(3), address)
        assert sorted(data.as_numpy_iterator()) == [0, 1, 2]
        ```
    """
    return data.apply(
        tf.data.experimental.service.distribute(
            processing_mode=tf.data.experimental.service.ShardingPolicy.DYNAMIC,
            service=f"grpc://{address}",
            # Views compress badly, and compression takes more time than it saves.
            compression=None,
        )
    )


def check_source(source: Source) -> None:
    """Checks that other processes can read a source.

    Args:
        source: source of the images.

    Raises:
        ValueError: if it is read through Python.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data import Source
        from pixpro_keras.data.service import check_source

        def read(index):
            return {"image": tf.constant(b""), "label": tf.constant(-1)}

        check_source(Source("nothing", 1, read, str))
        ```
    """
    function = tf.function(source.read).get_concrete_function(tf.TensorSpec((), tf.int64))
    graph = function.graph.as_graph_def()
    # The parts of a joined source are functions that the graph calls.
    nodes = [*graph.node, *(node for part in graph.library.function for node in part.node_def)]
    if any("PyFunc" in node.op for node in nodes):
        raise ValueError(
            f"{source.name} is read through Python, which other machines cannot do; use folder:PATH"
        )
