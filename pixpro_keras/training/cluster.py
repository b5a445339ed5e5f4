"""Addresses of the workers of a run, from the environment."""

import json
import os
import time
from collections.abc import Callable, Mapping

import tensorflow as tf

CLUSTERS = ("tf_config", "slurm", "kubernetes")
PORT = 8470  # Used if no port is given.
_POLL_SECONDS = 2.0


def make_resolver(
    name: str = "tf_config",
    *,
    selector: str = "",
    num_workers: int | None = None,
    timeout_seconds: float = 600.0,
) -> tf.distribute.cluster_resolver.ClusterResolver:
    """Finds the workers of a run, and the place of this process among them.

    Args:
        name: `tf_config` (the environment variable TF_CONFIG); `slurm` (the tasks of this job step,
            in blocks: `srun --distribution=block`); `kubernetes` (the pods that `selector` chooses,
            one on each node, with the node's network; HOST_IP holds the node's address).
        selector: label selector of the pods, such as `job-name=pixpro`.
        num_workers: number of pods.
        timeout_seconds: longest wait for all pods to run.

    Raises:
        ValueError: if the environment does not name the workers, or not in a valid form.

    Example:
        ```python
        import json
        import os
        from unittest import mock

        from pixpro_keras.training.cluster import make_resolver

        workers = ["node1:8470", "node2:8470"]
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": 1}}
        with mock.patch.dict(os.environ, TF_CONFIG=json.dumps(config)):
            resolver = make_resolver("tf_config")
            assert resolver.cluster_spec().as_dict() == {"worker": workers}
        ```
    """
    if name == "tf_config":
        return _from_tf_config()
    if name == "slurm":
        return _from_slurm()
    if name == "kubernetes":
        return from_kubernetes(_kubernetes_client(), selector, num_workers, timeout_seconds)
    raise ValueError(f"`cluster` must be one of {', '.join(CLUSTERS)}. Received: {name!r}.")


def _from_tf_config() -> tf.distribute.cluster_resolver.ClusterResolver:
    text = os.environ.get("TF_CONFIG")
    if text is None:
        raise ValueError("needs the environment variable TF_CONFIG, which names the machines")
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        addresses, index = cluster[task["type"]], int(task["index"])
        if not isinstance(addresses, list) or not 0 <= index < len(addresses):
            raise ValueError("no such worker")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            'TF_CONFIG must be {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": '
            f'"worker", "index": N}}}}, with N from 0. Received: {text}'
        ) from error
    others = sorted(set(cluster) - {"worker", "chief"})
    if others:
        raise ValueError(
            f"TF_CONFIG: only worker and chief are supported. Received: {', '.join(others)}"
        )
    return tf.distribute.cluster_resolver.TFConfigClusterResolver()


def _from_slurm() -> tf.distribute.cluster_resolver.ClusterResolver:
    # The public resolver sorts nodes by name, node10 before node2, while Slurm numbers its tasks in
    # the order of its list: two workers would take each other's address.
    from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver as slurm

    try:
        rank = int(os.environ["SLURM_PROCID"])
        hosts = slurm.expand_hostlist(os.environ["SLURM_STEP_NODELIST"])
        counts = slurm.expand_tasks_per_node(os.environ["SLURM_STEP_TASKS_PER_NODE"])
        addresses = [
            f"{host}:{PORT + place}"
            for host, count in zip(hosts, counts, strict=True)
            for place in range(count)
        ]
        addresses[rank]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(
            "needs SLURM_PROCID, SLURM_STEP_NODELIST and SLURM_STEP_TASKS_PER_NODE of a job step, "
            f"as srun sets them: {type(error).__name__} {error}"
        ) from error
    return _resolver(addresses, rank)


def from_kubernetes(
    client, selector: str, num_workers: int | None, timeout_seconds: float
) -> tf.distribute.cluster_resolver.ClusterResolver:
    """Waits until all pods that a selector chooses run, and returns their addresses.

    Args:
        client: a `kubernetes.client.CoreV1Api`.
        selector: label selector.
        num_workers: number of pods.
        timeout_seconds: longest wait for all pods to run.

    Raises:
        ValueError: if an argument or HOST_IP is missing, or the pods do not run in time.
    """
    own = os.environ.get("HOST_IP")
    if not selector or not num_workers or not own:
        raise ValueError(
            "needs a selector of the pods, their number, and HOST_IP, the pod's status.hostIP. "
            f"Received: selector={selector!r}, num_workers={num_workers}, HOST_IP={own}."
        )

    def look() -> Mapping[str, list[str]]:
        try:
            resolver = tf.distribute.cluster_resolver.KubernetesClusterResolver(
                {"worker": [selector]}, PORT, override_client=client
            )
            return resolver.cluster_spec().as_dict()
        except RuntimeError:  # a pod is not running yet
            return {}

    addresses = _wait_for(lambda: look().get("worker", []), num_workers, timeout_seconds)
    own = f"{own}:{PORT}"
    if len(set(addresses)) != num_workers or own not in addresses:
        raise ValueError(
            f"the pods of {selector!r} must run on {num_workers} nodes, {own} among them. "
            f"Received: {', '.join(addresses)}."
        )
    return _resolver(addresses, addresses.index(own))


def _wait_for(look: Callable[[], list[str]], count: int, timeout_seconds: float) -> list[str]:
    deadline = time.monotonic() + timeout_seconds
    while len(found := look()) != count:
        if time.monotonic() >= deadline:
            raise ValueError(f"{len(found)} of {count} pods ran after {timeout_seconds:g} seconds")
        time.sleep(_POLL_SECONDS)
    return found


def _kubernetes_client():
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise ValueError("needs `pip install kubernetes`") from error
    try:
        config.load_incluster_config()
    except config.ConfigException as error:
        raise ValueError(f"runs in a pod: {error}") from error
    return client.CoreV1Api()


def _resolver(addresses: list[str], rank: int) -> tf.distribute.cluster_resolver.ClusterResolver:
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": addresses}),
        task_type="worker",
        task_id=rank,
        rpc_layer="grpc",
    )
