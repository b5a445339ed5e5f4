"""Decoder of image files for training, evaluation and serving."""

from collections.abc import Callable

import tensorflow as tf
from absl import logging

from pixpro_keras.types import Tensor

_ORIENTATION = 0x0112
# EXIF data, at most 64 KB, come first in a JPEG and before the pixels of a PNG.
_HEAD_BYTES = 1 << 16
_SMALL_RANGE = 1 << 14  # Cameras and scanners count to 2**10, 2**12 or 2**14.

# A function that TensorFlow does not inline: even an operation that does not run costs a microsecond, and
# these functions have hundreds of them for rare kinds of images.
_rare = tf.function(experimental_attributes={"_noinline": True}, autograph=False)


def decode(encoded: Tensor) -> Tensor:
    """Decodes JPEG, PNG, BMP, WebP or the first frame of a GIF, upright.

    Images are rotated according to their EXIF orientation, palettes of BMP files are applied, and
    transparency is dropped. An animated WebP file is an error.
    JPEG files are decoded with the accurate inverse DCT and smooth chroma upsampling, to the same
    pixels as in Pillow. Only TensorFlow operations are used, so that other processes can run the
    graph.

    Args:
        encoded: scalar string.

    Returns:
        `(H, W, 3)` uint8 RGB.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data import decode

        image = decode(tf.io.encode_png(tf.zeros((4, 6, 3), tf.uint8)))
        assert image.shape == (4, 6, 3)
        ```
    """
    encoded = tf.convert_to_tensor(encoded)
    head = tf.strings.substr(encoded, 0, _HEAD_BYTES)
    signature = tf.strings.substr(encoded, 0, 2)
    is_webp = tf.strings.substr(encoded, 0, 4) == b"RIFF"
    image = tf.cond(
        signature == b"\xff\xd8",
        lambda: _decode_jpeg(encoded),
        lambda: tf.case(
            [
                (signature == b"BM", lambda: _decode_bmp(encoded)),
                (is_webp, lambda: _decode_webp(encoded)),
            ],
            default=lambda: _decode(encoded),
        ),
    )
    # Searching for the marker takes microseconds; headers are parsed only if it is found.
    is_marked = tf.strings.regex_full_match(head, rb"\C*(?:Exif\x00\x00|eXIf)\C*")
    image = tf.cond(is_marked | is_webp, lambda: _turned(image, encoded), lambda: image)
    return tf.ensure_shape(image, (None, None, 3))


def _decode_jpeg(encoded: Tensor) -> Tensor:
    # TensorFlow's default, also in `decode_image`, is the fast transform, one gray level off on average.
    return tf.io.decode_jpeg(
        encoded, channels=3, fancy_upscaling=True, dct_method="INTEGER_ACCURATE"
    )


def _decode(encoded: Tensor) -> Tensor:
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return tf.ensure_shape(image, (None, None, 3))


def exif_orientation(encoded: Tensor) -> Tensor:
    """Reads the EXIF orientation of an encoded image.

    Args:
        encoded: scalar string, JPEG, PNG or WebP.

    Returns:
        Scalar int64 in 1..8, as EXIF defines them; 1, upright, where there is none.

    Example:
        ```python
        import io

        import tensorflow as tf
        from PIL import Image
        from pixpro_keras.data.decoding import exif_orientation

        exif, file = Image.Exif(), io.BytesIO()
        exif[0x0112] = 6
        Image.new("RGB", (8, 4)).save(file, "jpeg", exif=exif)
        assert int(exif_orientation(tf.constant(file.getvalue()))) == 6
        ```
    """
    length = tf.cast(tf.strings.length(encoded), tf.int64)
    padded = tf.strings.join([encoded, b"\0" * 16])  # Reading beyond the end is an error.

    def number(position: Tensor, size: int, is_little: bool = False) -> Tensor:
        return _number(_bytes(tf.strings.substr(padded, position, size)), is_little)

    def jpeg(position: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        marker, size = number(position, 2), number(position + 2, 2)
        is_exif = (marker == 0xFFE1) & (tf.strings.substr(padded, position + 4, 4) == b"Exif")
        is_last = ((marker < 0xFFE0) | (marker > 0xFFEF)) & (marker != 0xFFFE)
        return is_exif, is_last, position + 4, position + 2 + size

    def png(position: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        kind = tf.strings.substr(padded, position + 4, 4)
        end = position + 12 + number(position, 4)
        return kind == b"eXIf", kind == b"IDAT", position + 8, end

    def webp(position: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        size = number(position + 4, 4, is_little=True)
        is_exif = tf.strings.substr(padded, position, 4) == b"EXIF"
        return is_exif, tf.constant(False), position + 8, position + 8 + size + size % 2

    def find(first: int, chunk: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]) -> Tensor:
        def step(position: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
            is_exif, is_last, content, following = chunk(position)
            following = tf.where(is_last | is_exif, length, following)
            return following, tf.where(is_exif, content, found)

        begin = tf.constant(first, tf.int64)
        _, found = tf.while_loop(lambda at, _: at < length, step, (begin, length))
        return tf.strings.substr(padded, found, _HEAD_BYTES)

    kind = tf.strings.substr(padded, 0, 4)
    tiff = tf.case(
        [
            (tf.strings.substr(padded, 0, 2) == b"\xff\xd8", lambda: find(2, jpeg)),
            (kind == b"\x89PNG", lambda: find(8, png)),
            (kind == b"RIFF", lambda: find(12, webp)),
        ],
        default=lambda: tf.constant(b""),
    )
    return _tiff_orientation(tf.strings.regex_replace(tiff, rb"^Exif\x00\C", b""))


def _tiff_orientation(tiff: Tensor) -> Tensor:
    """Reads the orientation from EXIF data, a TIFF table of tags and values."""
    data = tf.pad(_bytes(tiff), [[0, 16]])
    is_little = data[0] == ord("I")

    def number(table: Tensor) -> Tensor:
        return tf.where(is_little, _number(table, True), _number(table, False))

    begin = tf.minimum(number(data[4:8]), tf.size(data, tf.int64) - 2)
    count = number(data[begin : begin + 2])
    entries = data[begin + 2 : begin + 2 + 12 * count]
    entries = tf.reshape(entries[: tf.size(entries) // 12 * 12], (-1, 12))
    is_it = number(entries[:, :2]) == _ORIENTATION
    value = tf.reduce_max(tf.where(is_it, number(entries[:, 8:10]), 1))
    value = tf.maximum(value, 1)
    return tf.where(value > 8, tf.constant(1, tf.int64), value)


# Outside of graphs, its operations would take some 10 ms one by one.
_traced_orientation = tf.function(
    _tiff_orientation, input_signature=[tf.TensorSpec((), tf.string)], autograph=False
)


def _bytes(text: Tensor) -> Tensor:
    return tf.cast(tf.io.decode_raw(text, tf.uint8), tf.int64)


def _number(digits: Tensor, is_little: bool) -> Tensor:
    """Integers from the bytes in the last axis."""
    size = digits.shape[-1] or tf.shape(digits, tf.int64)[-1]
    powers = tf.range(tf.cast(size, tf.int64))
    powers = powers if is_little else powers[::-1]
    return tf.reduce_sum(tf.bitwise.left_shift(digits, 8 * powers), axis=-1)


@_rare
def _turned(image: Tensor, encoded: Tensor) -> Tensor:
    """Turns and mirrors an image upright."""
    orientation = exif_orientation(encoded)

    def mirrored(image: Tensor, axis: int, orientations: tuple[int, ...]) -> Tensor:
        is_mirrored = tf.reduce_any(orientation == tf.constant(orientations, tf.int64))
        return tf.cond(is_mirrored, lambda: tf.reverse(image, [axis]), lambda: image)

    image = tf.cond(orientation > 4, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    image = tf.ensure_shape(image, (None, None, 3))
    return mirrored(mirrored(image, 1, (2, 3, 6, 7)), 0, (3, 4, 7, 8))


@_rare
def _decode_webp(encoded: Tensor) -> Tensor:
    padded = tf.strings.join([encoded, b"\0" * 21])
    flags = tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 20, 1), tf.uint8), tf.int64)
    is_animated = (tf.strings.substr(padded, 12, 4) == b"VP8X") & (flags[0] // 2 % 2 == 1)
    # TensorFlow writes four channels of a frame into the memory of three.
    message = ["an animated WebP file; save one of its frames"]
    with tf.control_dependencies([tf.debugging.Assert(~is_animated, message)]):
        image = tf.io.decode_image(tf.identity(encoded), expand_animations=False)
    return tf.ensure_shape(image[..., :3], (None, None, 3))


@_rare
def _decode_bmp(encoded: Tensor) -> Tensor:
    bits = tf.strings.substr(tf.strings.join([encoded, b"\0" * 30]), 28, 2)
    has_palette = tf.reduce_any(bits == tf.constant([b"\1\0", b"\4\0", b"\x08\0"]))
    return tf.cond(has_palette, lambda: _decode_palette_bmp(encoded), lambda: _decode(encoded))


@_rare
def _decode_palette_bmp(encoded: Tensor) -> Tensor:
    """Decodes a BMP file with a palette (1, 4 or 8 bits per pixel), which TensorFlow would read as gray."""
    header = _bytes(tf.strings.substr(encoded, 0, 54))
    offset, header_size, width, height = (
        _number(header[begin : begin + 4], True) for begin in (10, 14, 18, 22)
    )
    bits, compression = _number(header[28:30], True), _number(header[30:34], True)
    is_top_down = height >= 1 << 31
    height = tf.where(is_top_down, (1 << 32) - height, height)
    row_size = (width * bits + 31) // 32 * 4
    length = tf.cast(tf.strings.length(encoded), tf.int64)
    is_known = (compression == 0) & (header_size >= 40) & (height * row_size <= length - offset)
    message = ["a BMP file with a palette that is compressed, truncated or of an old version"]
    with tf.control_dependencies([tf.debugging.Assert(is_known, message)]):
        data = _bytes(tf.strings.substr(encoded, offset, height * row_size))
    shifts = tf.range(8 - bits, -1, -bits)
    highest = tf.bitwise.left_shift(tf.ones_like(bits), bits) - 1
    pixels = tf.bitwise.bitwise_and(tf.bitwise.right_shift(data[:, None], shifts), highest)
    pixels = tf.reshape(pixels, (height, -1))[:, :width]
    pixels = tf.cond(is_top_down, lambda: pixels, lambda: tf.reverse(pixels, [0]))
    table_size = (offset - 14 - header_size) // 4 * 4
    table = tf.strings.substr(encoded, 14 + header_size, table_size)
    colors = tf.reshape(tf.io.decode_raw(table, tf.uint8), (-1, 4))
    # On a GPU, indices beyond the palette would give black without an error.
    with tf.device("cpu"):
        return tf.ensure_shape(tf.gather(colors[:, 2::-1], pixels), (None, None, 3))


def upright_size(image) -> tuple[int, int]:
    """Width and height in pixels that `decode` gives an image, from its header alone.

    Args:
        image: opened by PIL.

    Example:
        ```python
        from PIL import Image
        from pixpro_keras.data.decoding import upright_size

        assert upright_size(Image.new("RGB", (8, 4))) == (8, 4)
        ```
    """
    return image.size[::-1] if header_orientation(image) > 4 else image.size


def header_orientation(image) -> int:
    """EXIF orientation that `decode` undoes, 1 to 8 as EXIF defines them, from an image's header alone.

    Args:
        image: opened by PIL.

    Example:
        ```python
        from PIL import Image
        from pixpro_keras.data.decoding import header_orientation

        assert header_orientation(Image.new("RGB", (8, 4))) == 1
        ```
    """
    tiff = image.info.get("exif", b"")
    if not tiff or image.format not in ("JPEG", "PNG", "WEBP"):
        return 1
    return int(_traced_orientation(tf.constant(tiff.removeprefix(b"Exif\0\0"))))


def warn_of_small_ranges(
    read: Callable[[int], bytes], describe: Callable[[int], str], indices: list[int]
) -> None:
    """Warns about 16-bit PNG files whose values use a small part of the range.

    `decode` keeps the upper 8 of 16 bits, so that an image with 12-bit values is almost black.

    Args:
        read: index to an encoded image.
        describe: index to its name.
        indices: indices of the images to check.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data.decoding import warn_of_small_ranges

        dark = tf.io.encode_png(tf.fill((4, 4, 1), tf.constant(4000, tf.uint16))).numpy()
        warn_of_small_ranges(lambda index: dark, lambda index: "dark.png", [0])  # logs a line
        ```
    """
    ranges = {}
    for index in indices:
        try:
            encoded = read(index)
            if encoded[:4] != b"\x89PNG" or encoded[24:25] != b"\x10":
                continue
            values = tf.io.decode_png(encoded, dtype=tf.uint16).numpy()
        except (tf.errors.OpError, UnicodeDecodeError, OSError):  # Reported elsewhere.
            continue
        if values.shape[-1] in (2, 4):
            values = values[..., :-1]  # Without alpha, which is full where nothing shows through.
        ranges[index] = int(values.min()), int(values.max())
    if ranges and max(high for _, high in ranges.values()) < _SMALL_RANGE:
        index, (low, high) = max(ranges.items(), key=lambda item: item[1][1])
        logging.warning(
            "%s: its 16-bit values are %d to %d of 65535 and become %d to %d of 255, so that the image is "
            "nearly black; so are %d of %d checked images. Scale them to the full range",
            describe(index),
            low,
            high,
            low >> 8,
            high >> 8,
            len(ranges),
            len(indices),
        )
