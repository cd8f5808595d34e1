import pytest

from mednext_engine.errors import InputError
from mednext_engine.training import Phase, Recipe
from mednext_engine.training.schedule import learning_rate, phase_at, warmed_up_after

DECODER = Phase("decoder", 10, 10, 1e-3, trains="decoder")
WHOLE = Phase("whole", 30, 10, 1e-3)


def test_steps_belong_to_their_phases():
    phases = (DECODER, WHOLE)
    assert phase_at(phases, 0) == (0, 0)
    assert phase_at(phases, 9) == (0, 9)
    assert phase_at(phases, 10) == (1, 0)
    assert phase_at(phases, 39) == (1, 29)


def test_rate_rises_in_a_line_and_falls_as_a_power():
    phases = (DECODER, WHOLE)
    assert learning_rate(phases, 0) == pytest.approx(1e-4)
    assert learning_rate(phases, 4) == pytest.approx(5e-4)
    assert learning_rate(phases, 9) == pytest.approx(1e-3)
    assert learning_rate(phases, 10) == pytest.approx(1e-4)
    assert learning_rate(phases, 20) == pytest.approx(1e-3)
    assert learning_rate(phases, 30) == pytest.approx(1e-3 * 0.5**0.9)  # half of the decay
    assert 0 < learning_rate(phases, 39) < 1e-4


def test_a_warm_up_may_begin_above_zero_and_end_in_a_plateau():
    phase = Phase("p", 10, 4, 1e-2, start=2e-3, poly=False)
    assert learning_rate((phase,), 1) == pytest.approx(6e-3)
    assert learning_rate((phase,), 9) == pytest.approx(1e-2)


def test_the_last_warm_up_ends_where_it_ends():
    assert warmed_up_after((DECODER, WHOLE)) == 20
    assert warmed_up_after((Phase("p", 5, 0, 1e-3),)) == 0


def test_impossible_recipes_are_refused():
    with pytest.raises(InputError):
        Recipe((16, 16, 16), (Phase("p", 5, 6, 1e-3),))
    with pytest.raises(InputError):
        Recipe((16, 16, 16), ())
    with pytest.raises(InputError):
        Recipe((16, 16, 16), (WHOLE,), mirror_axes=(3,))


def test_the_recipe_knows_its_length():
    recipe = Recipe((16, 16, 16), (DECODER, WHOLE), steps_per_epoch=15)
    assert (recipe.steps, recipe.epochs) == (40, 3)
