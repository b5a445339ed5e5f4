"""Projectors of the pixel-level methods: on C5, on the maps of an FPN, or on several maps of the backbone."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from pixpro_keras.layers.fpn import FPN
from pixpro_keras.utils import checks

__all__ = ["make_heads"]


def make_heads(
    projector: Callable[..., keras.layers.Layer],
    levels: Sequence[str],
    *,
    use_fpn: bool,
    has_pixel: bool,
    has_instance: bool,
    bn_momentum: float,
) -> dict[str, Any]:
    """Makes the projectors of a pixel-level method, and the FPN below them where it has one.

    Args:
        projector: function of a name to a new projector.
        levels: the backbone's maps with a pixel loss, of `"c3"`, `"c4"` and `"c5"`.
        use_fpn: whether the pixel loss is on an FPN.
        has_pixel: whether there is a pixel loss.
        has_instance: whether there is an instance branch, which is always on C5.
        bn_momentum: fraction of the FPN's moving statistics that is kept in each step.

    Returns:
        Arguments `heads`, `fpn`, `pyramid_heads` and `level_heads` of `Encoder`.

    Raises:
        ValueError: if a level is unknown or occurs twice, or does not fit the other arguments.

    Example:
        ```python
        import functools

        from pixpro_keras.layers import PointwiseMLP
        from pixpro_keras.methods.pixel_heads import make_heads

        projector = functools.partial(PointwiseMLP, 64, 16)
        made = make_heads(
            projector, ["c5"], use_fpn=False, has_pixel=True, has_instance=True, bn_momentum=0.9
        )
        print(list(made["heads"]))  # pixel, instance
        ```
    """
    levels = tuple(levels)
    _check_levels(levels, use_fpn, has_pixel, has_instance)
    heads: dict[str, keras.layers.Layer] = {}
    pyramid_heads: dict[str, keras.layers.Layer] = {}
    level_heads: dict[str, dict[str, keras.layers.Layer]] = {}
    if has_pixel and levels != ("c5",):
        level_heads["pixel"] = {level: projector(name=f"projector_{level}") for level in levels}
    elif has_pixel:
        (pyramid_heads if use_fpn else heads)["pixel"] = projector(name="projector")
    if has_instance:
        heads["instance"] = projector(name="projector_instance")
    return {
        "heads": heads,
        "fpn": FPN(bn_momentum=bn_momentum, name="fpn") if use_fpn else None,
        "pyramid_heads": pyramid_heads,
        "level_heads": level_heads,
    }


def _check_levels(
    levels: tuple[str, ...], use_fpn: bool, has_pixel: bool, has_instance: bool
) -> None:
    for level in levels:
        checks.one_of("pixel_levels", level, ("c3", "c4", "c5"))
    if not levels or len({*levels}) < len(levels):
        raise ValueError(f"`pixel_levels` must be different levels. Received: {levels}.")
    if use_fpn and not has_pixel:
        raise ValueError("`use_fpn` needs a pixel loss. Received: pixel_weight=0.")
    if levels != ("c5",) and (use_fpn or not has_pixel):
        raise ValueError(
            "`pixel_levels` needs a pixel loss, and no FPN, which has levels of its own. "
            f"Received: pixel_levels={levels}."
        )
    if "c5" not in levels and not has_instance:
        raise ValueError(
            "`pixel_levels` without c5 needs an instance branch, else nothing trains the last stage. "
            f"Received: pixel_levels={levels}."
        )
