import pathlib
import tempfile

from absl.testing import parameterized

from pixpro_keras.training.history import (
    HISTORY_FILE,
    FewerStepsError,
    Period,
    RunChangedError,
    continue_history,
    find_differences,
    read_history,
    write_history,
)

FIRST = Period(0, {"seed": 0, "data": "a"})
SECOND = Period(4, {"seed": 1, "data": "a"})


class HistoryTest(parameterized.TestCase):
    def test_all_that_differs_is_listed(self):
        changed = {"seed": 1, "data": "b", "sides": [1], "new": 3}
        before = {"seed": 0, "data": "a", "sides": [1], "old": 2}
        self.assertEqual(
            find_differences(before, changed), ["seed was 0, is 1", "data was a, is b"]
        )

    def test_the_same_goes_on(self):
        self.assertEqual(continue_history([FIRST], 4, 6, dict(FIRST.recipe)), [FIRST])

    def test_a_tuple_is_the_list_that_was_recorded(self):
        recipe, workdir = {"levels": ("c4", "c5")}, tempfile.mkdtemp()
        write_history(workdir, continue_history([], 0, 6, recipe))
        recorded = read_history(workdir)
        self.assertEqual(continue_history(recorded, 4, 6, recipe), recorded)

    def test_settings_that_are_not_recorded_are_added(self):
        (period,) = continue_history([FIRST], 4, 6, {**FIRST.recipe, "warmup_steps": 5})
        self.assertEqual(period, Period(0, {**FIRST.recipe, "warmup_steps": 5}))
        with self.assertRaisesRegex(RunChangedError, "warmup_steps was 5, is 6"):
            continue_history([period], 5, 6, {**FIRST.recipe, "warmup_steps": 6})

    def test_another_recipe_is_refused(self):
        with self.assertRaisesRegex(
            RunChangedError, "its 4 steps were .*: seed was 0, is 1. .*on_c"
        ):
            continue_history([FIRST], 4, 6, SECOND.recipe)

    def test_another_recipe_goes_on_knowingly(self):
        periods = continue_history([FIRST], 4, 6, SECOND.recipe, "continue")
        self.assertEqual(periods, [FIRST, SECOND])
        with self.assertRaisesRegex(RunChangedError, "its 5 steps .*seed was 1, is 0"):
            continue_history(periods, 5, 6, FIRST.recipe)

    def test_a_period_without_steps_is_forgotten(self):
        self.assertEqual(continue_history([FIRST, SECOND], 4, 6, FIRST.recipe), [FIRST])
        self.assertEqual(
            continue_history([FIRST, SECOND], 0, 6, SECOND.recipe), [Period(0, SECOND.recipe)]
        )

    def test_fewer_steps_are_refused_and_more_are_not(self):
        with self.assertRaisesRegex(FewerStepsError, "4 steps are done already, more than the 3"):
            continue_history([FIRST], 4, 3, FIRST.recipe)
        self.assertEqual(continue_history([FIRST], 4, 9, FIRST.recipe), [FIRST])

    def test_what_differs_is_said_before_the_number_of_steps(self):
        with self.assertRaises(RunChangedError):
            continue_history([FIRST], 4, 3, SECOND.recipe)

    def test_a_finished_run_has_no_more_periods(self):
        self.assertEqual(continue_history([FIRST], 4, 4, SECOND.recipe, "continue"), [FIRST])

    def test_steps_of_which_nothing_is_recorded(self):
        periods = continue_history([], 4, 6, FIRST.recipe)
        self.assertEqual(periods, [Period(0, {}), Period(4, FIRST.recipe)])

    def test_the_action_is_checked(self):
        with self.assertRaisesRegex(ValueError, "`on_change` must be one of stop, continue"):
            continue_history([], 0, 6, {}, "ask")

    @parameterized.parameters("{", "{}x", '[{"recipe": {}}]', "[1]", '{"a": 1}')
    def test_a_damaged_record_is_named(self, text):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (folder / HISTORY_FILE).write_text(text)
        with self.assertRaisesRegex(RunChangedError, f"{folder / HISTORY_FILE}, .* is damaged"):
            read_history(folder)

    def test_reads_what_it_writes(self):
        with tempfile.TemporaryDirectory() as folder:
            write_history(folder, [FIRST, SECOND])
            self.assertEqual(read_history(folder), [FIRST, SECOND])


if __name__ == "__main__":
    from absl.testing import absltest

    absltest.main()
