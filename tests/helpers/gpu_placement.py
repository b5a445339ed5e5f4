"""Placement of a graph's operations on a machine with a GPU, from TensorFlow's list of kernels.

TensorFlow runs an operation on the GPU if one of its kernels is for GPUs, or for any device, and takes its
types. Some of these kernels read or write host memory: those of most operations on int32.
"""

import functools
import math

import tensorflow as tf
from tensorflow.core.framework import kernel_def_pb2
from tensorflow.python.framework import kernels, op_def_registry

# Operations that call functions: an int32 goes in and out through host memory.
_CALLS = {
    "PartitionedCall",
    "StatefulPartitionedCall",
    "If",
    "StatelessIf",
    "While",
    "StatelessWhile",
    "Case",
    "StatelessCase",
}
_BRANCHES = {"If", "StatelessIf", "Case", "StatelessCase"}


def has_gpu_kernels() -> bool:
    """True if this TensorFlow was built with kernels for GPUs."""
    return any(kernel.device_type == "GPU" for kernel in _kernels("Conv2D"))


def without_kernel(graph: tf.Graph) -> set[str]:
    """Operations of a graph and its functions that a GPU cannot run."""
    return {
        f"{node.op} {_types(node)}"
        for _, nodes, _ in _bodies(graph)
        for node in nodes
        if _kernels(node.op) and node.op not in _CALLS and _gpu_kernel(node) is None
    }


def copies_to_host(graph: tf.Graph, least: int) -> list[str]:
    """Tensors of at least `least` elements that are made on the GPU and read in host memory."""
    found = []
    for body, nodes, arguments in _bodies(graph):
        by_name = {node.name: node for node in nodes}
        for node in nodes:
            names = [name for name in node.input if not name.startswith("^")]
            for name, is_read_on_host in zip(names, _inputs_on_host(node), strict=False):
                producer, output = _source(name, by_name)
                if not is_read_on_host or producer is None or name in arguments:
                    continue
                shapes = producer.attr["_output_shapes"].list.shape
                shape = [one.size for one in shapes[output].dim] if output < len(shapes) else []
                if math.prod(shape) >= least and not _outputs_on_host(producer)[output]:
                    found.append(f"{producer.op} {shape} {name} -> {node.op} in {body}")
    return found


def _bodies(graph: tf.Graph):
    """Name, nodes and names of the arguments of the graph and of each function."""
    definition = graph.as_graph_def(add_shapes=True)
    yield "the graph", definition.node, set()
    for function in definition.library.function:
        arguments = {one.name for one in function.signature.input_arg}
        yield function.signature.name, function.node_def, arguments


def _source(name, by_name):
    """The node that makes a tensor, and the number of its output."""
    # In a graph `node:number`, in a function `node:output:number`.
    first, *rest = name.split(":")
    producer = by_name.get(first)
    if producer is None or len(rest) < 2:
        return producer, int(rest[0]) if rest else 0
    return producer, _flat(_definition(producer).output_arg, producer).index(rest[0]) + int(rest[1])


def _inputs_on_host(node) -> list[bool]:
    if node.op not in _CALLS:
        return _on_host(node, _definition(node).input_arg)
    types = node.attr["Tin" if "Tin" in node.attr else "T"].list.type
    # The first input of a branch decides.
    return [True] * (node.op in _BRANCHES) + [one == tf.int32.as_datatype_enum for one in types]


def _outputs_on_host(node) -> list[bool]:
    if node.op in _CALLS:
        kinds = node.attr["Tout" if "Tout" in node.attr else "T"].list.type
        return [one == tf.int32.as_datatype_enum for one in kinds]
    return _on_host(node, _definition(node).output_arg)


def _on_host(node, arguments) -> list[bool]:
    if node.op in {"Placeholder", "Const"} or not _kernels(node.op):
        return [True] * len(
            _flat(arguments, node)
        )  # An int32 argument; a constant is known before.
    kernel = _gpu_kernel(node)
    return [kernel is None or name in kernel.host_memory_arg for name in _flat(arguments, node)]


def _flat(arguments, node) -> list[str]:
    """The argument's name of each input or output: an argument may be a list of tensors."""
    names: list[str] = []
    for one in arguments:
        count = 1
        if one.number_attr:
            count = node.attr[one.number_attr].i
        elif one.type_list_attr:
            count = len(node.attr[one.type_list_attr].list.type)
        names += [one.name] * count
    return names


def _definition(node):
    return op_def_registry.get(node.op)


@functools.cache
def _kernels(op: str) -> list[kernel_def_pb2.KernelDef]:
    return list(kernels.get_registered_kernels_for_op(op).kernel)


def _gpu_kernel(node) -> kernel_def_pb2.KernelDef | None:
    fitting = {
        kernel.device_type: kernel
        for kernel in _kernels(node.op)
        if all(
            set(_types_of(node, one.name)) <= set(one.allowed_values.list.type)
            for one in kernel.constraint
        )
    }
    return fitting.get("GPU", fitting.get("DEFAULT"))


def _types(node) -> str:
    names = sorted(node.attr)
    return ", ".join(f"{x}: {tf.as_dtype(t).name}" for x in names for t in _types_of(node, x))


def _types_of(node, name: str) -> list[int]:
    value = node.attr[name]
    if value.HasField("list"):
        return list(value.list.type)
    return [value.type] if value.type else []
