"""Images with boxes, and masks where there are any: the form of all data sets of detection."""

import dataclasses
from collections.abc import Callable, Collection, Sequence

import numpy as np
import tensorflow as tf

from pixpro_keras.data.lookalikes import only_in
from pixpro_keras.detection.notes import Notes
from pixpro_keras.detection.objects import Objects
from pixpro_keras.types import Tensor
from pixpro_keras.utils.fingerprint import fingerprint

# Metrics of a data set.
COCO, VOC07, VOC12 = "coco", "voc07", "voc12"


@dataclasses.dataclass(frozen=True)
class BoxSource:
    """Encoded images by index, with their objects.

    Attributes:
        name: specification that opened the source.
        read: in a graph, scalar int64 index to encoded bytes.
        describe: index to a readable name.
        sizes: `(N, 2)` int32, height and width.
        objects: objects of each image.
        class_names: names of the classes 0, 1, ...
        image_ids: identifier of each image in the data set.
        class_ids: identifier of each class in the data set.
        metric: `COCO`, `VOC07` or `VOC12`.
        notes: counts of annotations that were ignored or changed.
        content_fingerprint: checksum of the sizes of the images' files and of the masks, or of a sample of
            them; empty where it is not known.

    Example:
        ```python
        import numpy as np
        import tensorflow as tf
        from pixpro_keras.detection.box_source import COCO, BoxSource
        from pixpro_keras.detection.objects import make_objects

        image = tf.io.encode_png(tf.zeros((40, 60, 3), tf.uint8)).numpy()
        source = BoxSource(
            "black",
            lambda index: tf.constant([image])[index],
            str,
            sizes=np.array([[40, 60]], np.int32),
            objects=[make_objects("black", (40, 60), [[0, 0, 9, 9]], [0], [False])],
            class_names=("corner",),
            image_ids=[1],
            class_ids=[1],
            metric=COCO,
        )
        assert source.num_examples == 1 and not source.has_masks
        ```
    """

    name: str
    read: Callable[[Tensor], Tensor]
    describe: Callable[[int], str]
    sizes: np.ndarray
    objects: Sequence[Objects]
    class_names: tuple[str, ...]
    image_ids: Sequence[int | str]
    class_ids: Sequence[int]
    metric: str
    notes: Notes = dataclasses.field(default_factory=Notes)
    content_fingerprint: str = ""

    @property
    def num_examples(self) -> int:
        """Number of images."""
        return len(self.objects)

    @property
    def fingerprint(self) -> str:
        """Checksum of the images' identifiers and sizes, and of the boxes and their classes."""
        objects = (part.tobytes() for one in self.objects for part in (one.boxes, one.classes))
        return fingerprint([*map(str, self.image_ids), self.sizes.tobytes(), *objects])

    @property
    def has_masks(self) -> bool:
        """True if objects have masks, though not necessarily all of them."""
        return any(any(one.segmentations or ()) for one in self.objects)


def for_training(source: BoxSource, with_masks: bool) -> BoxSource:
    """Leaves out crowds and boxes without area, and images that are then empty.

    Difficult objects of VOC stay, as in detectron2. One line of the log counts what is left out here and
    what was left out when the files were read.

    Args:
        source: images with boxes.
        with_masks: if True, objects without a mask are left out too.

    Raises:
        ValueError: if nothing is left, or no object has a mask.

    Example:
        ```python
        import numpy as np
        import tensorflow as tf
        from pixpro_keras.detection.box_source import COCO, BoxSource, for_training
        from pixpro_keras.detection.objects import make_objects

        objects = [
            make_objects("a", (40, 60), [[0, 0, 9, 9]], [0], [False]),
            make_objects("b", (40, 60), [], [], []),
        ]
        sizes = np.array([[40, 60]] * 2, np.int32)
        source = BoxSource(
            "two", lambda index: b"", "ab".__getitem__, sizes, objects, ("corner",), [1, 2], [1], COCO
        )
        assert for_training(source, with_masks=False).num_examples == 1
        ```
    """
    notes = source.notes.copy()
    objects, kept = [], []
    if with_masks and not source.has_masks:
        first = next((n for n, one in enumerate(source.objects) if len(one.boxes)), 0)
        raise ValueError(
            f"{source.describe(first)} has no masks, which --model needs, nor has any other image"
        )
    for index, one in enumerate(source.objects):
        is_crowd = one.is_ignored & (source.metric == COCO)
        is_flat = ~one.has_area
        is_without_mask = ~one.has_mask if with_masks else np.zeros(len(one.boxes), bool)
        case = f"one of {source.describe(index)}"
        for kind, is_out, is_expected in (
            ("crowds, not trained on", is_crowd, True),
            ("boxes without area, left out", is_flat & ~is_crowd, False),
            ("objects without a mask, left out", is_without_mask & ~is_flat & ~is_crowd, False),
        ):
            if is_out.any():
                notes.add(kind, case, int(is_out.sum()), is_expected=is_expected)
        keep = ~(is_crowd | is_flat | is_without_mask)
        if keep.any():
            kept.append(index)
            objects.append(one.select(np.flatnonzero(keep)))
        else:
            notes.add("images without a box for training, left out", source.describe(index))
    if not kept:
        reasons = f"; {notes}" if notes.counts else ""
        raise ValueError(f"{source.name} has no image with a box for training{reasons}")
    notes.log(f"{source.name}, for training")
    return dataclasses.replace(pick(source, kept), objects=objects, notes=notes)


def for_testing(source: BoxSource, with_masks: bool) -> BoxSource:
    """Counts objects that are scored in a special way. All images and objects stay.

    One line of the log has these counts and those of the files.

    Args:
        source: images with boxes.
        with_masks: whether masks are scored too.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.detection.box_source import COCO, BoxSource, for_testing
        from pixpro_keras.detection.objects import make_objects

        objects = [make_objects("a", (40, 60), [[5, 5, 9, 5]], [0], [False])]
        sizes = np.array([[40, 60]], np.int32)
        source = BoxSource("one", lambda index: b"", str, sizes, objects, ("line",), [1], [1], COCO)
        assert for_testing(source, False).notes.counts == {"boxes without area, scored anyway": 1}
        ```
    """
    notes = source.notes.copy()
    for index, one in enumerate(source.objects):
        counts = ~one.is_ignored
        kinds = {"boxes without area, scored anyway": counts & ~one.has_area}
        if with_masks:
            kinds["objects without a mask, left out of the mask AP"] = counts & ~one.has_mask
        for kind, is_so in kinds.items():
            if is_so.any():
                notes.add(kind, f"one of {source.describe(index)}", int(is_so.sum()))
    if all(one.is_ignored.all() for one in source.objects):
        kind = "images of a set without an object that counts, which has no AP"
        notes.add(kind, source.describe(0), source.num_examples)
    notes.log(f"{source.name}, to test on")
    return dataclasses.replace(source, notes=notes)


def with_classes(source: BoxSource, class_names: Sequence[str]) -> BoxSource:
    """Renumbers the classes of a source to those of another, by name.

    Args:
        source: images with boxes.
        class_names: names of the other source's classes; those that `source` lacks stay without
            objects.

    Raises:
        ValueError: if `source` has a class that the other one lacks, with all names that differ.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.detection.box_source import COCO, BoxSource, with_classes
        from pixpro_keras.detection.objects import make_objects

        objects = [make_objects("a", (40, 60), [[0, 0, 9, 9]], [0], [False])]
        sizes = np.array([[40, 60]], np.int32)
        source = BoxSource("one", lambda index: b"", str, sizes, objects, ("dog",), [1], [7], COCO)
        source = with_classes(source, ["cat", "dog"])
        assert source.objects[0].classes.tolist() == [1] and list(source.class_ids) == [8, 7]
        ```
    """
    class_names = tuple(class_names)
    if source.class_names == class_names:
        return source
    ours, others = set(source.class_names), set(class_names)
    if len(ours) < len(source.class_names) or len(others) < len(class_names) or ours - others:
        raise ValueError(
            f"other classes than in training. Only here: {only_in(source.class_names, others)}; only in "
            f"training: {only_in(class_names, ours)}"
        )
    numbers = np.array([class_names.index(name) for name in source.class_names], np.int32)
    # Classes that the source does not have get new ids.
    ids = dict(zip(source.class_names, source.class_ids, strict=True))
    for name in class_names:
        ids.setdefault(name, max(ids.values(), default=0) + 1)
    objects = [dataclasses.replace(one, classes=numbers[one.classes]) for one in source.objects]
    return dataclasses.replace(
        source,
        objects=objects,
        class_names=class_names,
        class_ids=[ids[name] for name in class_names],
    )


def without(source: BoxSource, indices: Collection[int]) -> BoxSource:
    """Leaves out images that cannot be decoded, and counts them in the notes.

    Args:
        source: images with boxes.
        indices: indices of the images.

    Example:
        ```python
        import numpy as np
        import tensorflow as tf
        from pixpro_keras.detection.box_source import COCO, BoxSource, without
        from pixpro_keras.detection.objects import make_objects

        objects = [make_objects("a", (40, 60), [[0, 0, 9, 9]], [0], [False])] * 2
        sizes = np.array([[40, 60]] * 2, np.int32)
        source = BoxSource("two", lambda i: b"", str, sizes, objects, ("cat",), [7, 8], [1], COCO)
        assert without(source, [0]).image_ids == [8]
        ```
    """
    if not indices:
        return source
    notes = source.notes.copy()
    kind = "images that cannot be decoded, left out"
    notes.add(kind, source.describe(min(indices)), len(indices))
    kept = [index for index in range(source.num_examples) if index not in indices]
    return dataclasses.replace(pick(source, kept), notes=notes)


def pick(source: BoxSource, kept: Sequence[int]) -> BoxSource:
    """Selects images by index.

    Args:
        source: images with boxes.
        kept: indices of the images.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.detection.box_source import COCO, BoxSource, pick
        from pixpro_keras.detection.objects import make_objects

        objects = [make_objects("a", (40, 60), [[0, 0, 9, 9]], [0], [False])] * 2
        sizes = np.array([[40, 60]] * 2, np.int32)
        source = BoxSource("two", lambda i: b"", str, sizes, objects, ("cat",), [7, 8], [1], COCO)
        assert pick(source, [1]).image_ids == [8]
        ```
    """
    indices = np.array(kept, np.int64)

    def read(index: Tensor) -> Tensor:
        return source.read(tf.constant(indices)[index])

    return dataclasses.replace(
        source,
        read=read,
        describe=lambda index: source.describe(kept[index]),
        sizes=source.sizes[indices],
        objects=[source.objects[index] for index in kept],
        image_ids=[source.image_ids[index] for index in kept],
    )


def class_presence(source: BoxSource) -> np.ndarray:
    """Finds the classes that each image has an object of, `(N, K)` bool.

    Args:
        source: images with boxes.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.detection.box_source import COCO, BoxSource, class_presence
        from pixpro_keras.detection.objects import make_objects

        objects = [make_objects("a", (40, 60), [[0, 0, 9, 9]], [1], [False])]
        sizes = np.array([[40, 60]], np.int32)
        names, read = ("cat", "dog"), lambda index: b""
        source = BoxSource("one", read, str, sizes, objects, names, [1], [1, 2], COCO)
        assert class_presence(source).tolist() == [[False, True]]
        ```
    """
    presence = np.zeros((source.num_examples, len(source.class_names)), bool)
    for row, one in zip(presence, source.objects, strict=True):
        row[one.classes] = True
    return presence


def unscored_classes(source: BoxSource) -> list[str]:
    """Names of the classes without an object that counts, which have no AP.

    Args:
        source: images with boxes.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.detection.box_source import COCO, BoxSource, unscored_classes
        from pixpro_keras.detection.objects import make_objects

        objects = [make_objects("a", (40, 60), [[0, 0, 9, 9]], [0], [False])]
        sizes = np.array([[40, 60]], np.int32)
        names, read = ("cat", "dog"), lambda index: b""
        source = BoxSource("one", read, str, sizes, objects, names, [1], [1, 2], COCO)
        assert unscored_classes(source) == ["dog"]
        ```
    """
    present = {int(number) for one in source.objects for number in one.classes[~one.is_ignored]}
    return [name for number, name in enumerate(source.class_names) if number not in present]
