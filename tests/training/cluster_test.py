import json
import os
import types
from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.training import cluster

TWO = {"worker": ["a:1", "b:1"]}


def environment(**variables):
    return mock.patch.dict(os.environ, variables, clear=True)


def pod(name, host, phase="Running"):
    return types.SimpleNamespace(
        metadata=types.SimpleNamespace(name=name),
        status=types.SimpleNamespace(phase=phase, host_ip=host),
    )


class FakeClient:
    """Answers as Kubernetes does, with another list at each question."""

    def __init__(self, *answers):
        self.answers, self.selectors = list(answers), []

    def list_pod_for_all_namespaces(self, label_selector):
        self.selectors.append(label_selector)
        return types.SimpleNamespace(items=self.answers.pop(0))


class ClusterTest(tf.test.TestCase, parameterized.TestCase):
    def test_tf_config(self):
        config = {"cluster": TWO, "task": {"type": "worker", "index": 1}}
        with environment(TF_CONFIG=json.dumps(config)):
            resolver = cluster.make_resolver("tf_config")
            self.assertEqual(resolver.cluster_spec().as_dict(), TWO)
            self.assertEqual((resolver.task_type, resolver.task_id), ("worker", 1))

    @parameterized.parameters(
        "no json",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": -1}}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
    )
    def test_bad_tf_config_is_shown(self, text):
        with environment(TF_CONFIG=text), self.assertRaisesRegex(ValueError, "TF_CONFIG must be"):
            cluster.make_resolver("tf_config")

    def test_parameter_servers_are_refused(self):
        config = {"cluster": TWO | {"ps": ["c:1"]}, "task": {"type": "worker", "index": 0}}
        with (
            environment(TF_CONFIG=json.dumps(config)),
            self.assertRaisesRegex(ValueError, "only worker and chief are supported. Received: ps"),
        ):
            cluster.make_resolver("tf_config")

    def test_slurm_in_the_order_of_its_tasks(self):
        with environment(
            SLURM_PROCID="2", SLURM_STEP_NODELIST="gpu[9-10],z", SLURM_STEP_TASKS_PER_NODE="2(x2),1"
        ):
            resolver = cluster.make_resolver("slurm")
        addresses = ["gpu9:8470", "gpu9:8471", "gpu10:8470", "gpu10:8471", "z:8470"]
        self.assertEqual(resolver.cluster_spec().as_dict(), {"worker": addresses})
        self.assertEqual((resolver.task_type, resolver.task_id), ("worker", 2))

    @parameterized.parameters(
        {}, {"SLURM_PROCID": "3", "SLURM_STEP_NODELIST": "a", "SLURM_STEP_TASKS_PER_NODE": "2"}
    )
    def test_outside_a_slurm_step(self, **variables):
        with environment(**variables), self.assertRaisesRegex(ValueError, "SLURM_PROCID.*srun"):
            cluster.make_resolver("slurm")

    def test_kubernetes_waits_for_all_pods(self):
        client = FakeClient(
            [pod("run-0", "10.0.0.2")],
            [pod("run-0", "10.0.0.2"), pod("run-1", "10.0.0.1", "Pending")],
            [pod("run-1", "10.0.0.1"), pod("run-0", "10.0.0.2")],
        )
        with environment(HOST_IP="10.0.0.1"), mock.patch("time.sleep"):
            resolver = cluster.from_kubernetes(client, "job-name=run", 2, 100)
        self.assertEqual(
            resolver.cluster_spec().as_dict(), {"worker": ["10.0.0.2:8470", "10.0.0.1:8470"]}
        )
        self.assertEqual(resolver.task_id, 1)
        self.assertEqual(set(client.selectors), {"job-name=run"})

    @parameterized.parameters(
        ([pod("a", "1")], 2, "1 of 2 pods ran after 0 seconds"),
        ([pod("a", "1"), pod("b", "1")], 2, "on 2 nodes"),
        ([pod("a", "2")], 1, "on 1 nodes, 1:8470 among them"),
        ([], None, "num_workers=None"),
    )
    def test_kubernetes_that_cannot_be(self, pods, num_workers, message):
        with environment(HOST_IP="1"), self.assertRaisesRegex(ValueError, message):
            cluster.from_kubernetes(FakeClient(pods), "job-name=run", num_workers, 0)

    def test_unknown_name(self):
        with self.assertRaisesRegex(ValueError, "kubernetes. Received: 'mesos'"):
            cluster.make_resolver("mesos")


if __name__ == "__main__":
    tf.test.main()
