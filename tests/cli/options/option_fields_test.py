import dataclasses
import math
import os
import pathlib

from absl.testing import parameterized

from pixpro_keras.cli.options.option_fields import (
    FlagError,
    Options,
    option,
    with_default,
    without_effect,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape(Options):
    """Options of a shape."""

    sides: int = option(3, "Number of sides.", minimum=3, maximum=9)
    size: float = option(1.0, "Side in pixels.", above=0, is_main=True)
    share: float | None = option(None, "Share.", below=1)
    color: str = option("red", "Color.", choices=("red", "blue"))
    is_filled: bool = option(True, "Fill it.")
    corners: tuple[str, ...] = option((), "Names of the corners.")
    name: str = option(None, "Name.", is_required=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Square(Shape):
    """Options of a square."""

    sides: int = with_default(Shape, "sides", 4)
    corners: tuple[str, ...] = without_effect(Shape, "corners", "they have no names")


class OptionsTest(parameterized.TestCase):
    @parameterized.parameters(
        ({"sides": 2}, "--sides=2: must be at least 3"),
        ({"sides": 10}, "--sides=10: must be at most 9"),
        ({"sides": 3.5}, "--sides=3.5: must be of type int"),
        ({"sides": True}, "--sides=True: must be of type int"),
        ({"sides": None}, "--sides: must not be None"),
        ({"size": 0}, "--size=0.0: must be positive"),
        ({"size": "1"}, "--size='1': must be of type float"),
        ({"size": math.inf}, "--size=inf: must be a finite number"),
        ({"share": math.nan}, "--share=nan: must be a finite number"),
        ({"share": 1.0}, "--share=1.0: must be below 1"),
        ({"color": "green"}, "--color=green: must be one of red, blue"),
        ({"is_filled": 1}, "--is_filled=1: must be of type bool"),
        ({"corners": "a,b"}, "--corners='a,b': must be a list"),
        (
            {"name": pathlib.Path(os.fsdecode(b"caf\xe9"))},
            "--name='caf\\udce9': must be UTF-8; a link can give a path another name",
        ),
    )
    def test_wrong_values_are_named(self, values, message):
        with self.assertRaisesWithLiteralMatch(FlagError, message):
            Shape(**values)

    def test_values_take_the_type_of_their_field(self):
        shape = Shape(size=2, corners=[1, "b"], name=pathlib.Path("x") / "y")
        self.assertEqual((shape.size, shape.corners, shape.name), (2.0, ("1", "b"), "x/y"))
        self.assertIsInstance(shape.size, float)

    def test_a_group_changes_a_default_and_keeps_the_range(self):
        self.assertEqual(Square().sides, 4)
        with self.assertRaisesRegex(FlagError, "--sides=2: must be at least 3"):
            Square(sides=2)

    def test_arguments_override_a_preset(self):
        preset = Shape(sides=5, size=7.0, given=frozenset({"sides", "size"}))
        shape = Shape.make(preset, sides=6, name="hexagon")
        self.assertEqual((shape.sides, shape.size), (6, 7.0))
        self.assertEqual(shape.given, {"sides", "size", "name"})
        self.assertFalse(shape.is_given("color"))

    def test_an_unknown_name_gets_the_closest(self):
        with self.assertRaisesRegex(TypeError, "there is no option `colors`. Did you mean `color`"):
            Shape.make(colors="red", name="x")

    def test_a_required_option(self):
        with self.assertRaisesWithLiteralMatch(FlagError, "--name: must be given"):
            Shape.make(sides=3)


if __name__ == "__main__":
    from absl.testing import absltest

    absltest.main()
