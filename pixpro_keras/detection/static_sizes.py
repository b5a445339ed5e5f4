"""Computation on the first rows of an array in static shapes, if their number is known only at run time."""

from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

from pixpro_keras.types import Tensor

ResultT = TypeVar("ResultT")

# Below this size, half of the rows take as long as all.
_SMALLEST = 16


def call_with_fewest(function: Callable[[int], ResultT], count: Tensor, total: int) -> ResultT:
    """Calls a function with the smallest number of rows that contains all valid rows.

    The numbers are a quarter, half and all of `total`. Each is a branch of its own, of which one runs;
    nothing is traced again when `count` changes. A branch must not reduce over replicas: they may take
    different ones.

    Args:
        function: number of rows to tensors, whose shapes and dtypes do not depend on it.
        count: number of valid rows, at most `total`; a scalar.
        total: number of all rows.

    Returns:
        Result of the function.

    Example:
        ```python
        import tensorflow as tf

        from pixpro_keras.detection.static_sizes import call_with_fewest

        rows = tf.range(100)
        assert call_with_fewest(lambda size: tf.size(rows[:size]), tf.constant(30), 100) == 50
        ```
    """
    sizes = [-(-total // parts) for parts in (4, 2, 1)]
    if sizes[0] < _SMALLEST:
        return function(total)
    index = tf.reduce_sum(tf.cast(count > tf.constant(sizes[:-1], count.dtype), tf.int32))
    return tf.switch_case(index, [lambda size=size: function(size) for size in sizes])
