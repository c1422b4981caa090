"""Doubt stands while the loss on tokens is near that of guessing."""

import math

import torch

from dtcwsi.compressors.doubt import Doubt

CHANCE = math.log(2)


def close(doubt, *losses, chance=CHANCE):
    doubt.observe(torch.tensor(losses))
    doubt.close_step(chance)
    return doubt.stands


def test_a_new_model_is_not_doubted_before_its_first_step_is_closed():
    doubt = Doubt()
    assert not doubt.stands
    doubt.observe(torch.tensor([0.69, 0.7]))
    assert not doubt.stands
    doubt.close_step(CHANCE)
    assert doubt.stands


def test_doubt_ends_below_six_tenths_of_chance_and_returns_above():
    doubt = Doubt()
    assert close(doubt, 0.61 * CHANCE)
    assert not close(doubt, 0.4 * CHANCE)  # 0.9 x 0.61 + 0.1 x 0.4 = 0.589
    assert close(doubt, 0.8 * CHANCE)  # 0.610


def test_a_step_is_the_mean_of_its_bags_however_they_are_passed():
    whole, parts = Doubt(), Doubt()
    whole.observe(torch.tensor([0.1, 0.2, 0.9]))
    parts.observe(torch.tensor([0.1]))
    parts.observe(torch.tensor([0.2, 0.9]))
    for doubt in (whole, parts):
        doubt.close_step(0.66)  # the mean is 0.4, above 0.6 x 0.66
        assert doubt.stands
        assert not close(doubt, 0.3, chance=0.66)  # 0.9 x 0.4 + 0.1 x 0.3 = 0.39
    assert not close(Doubt(), 0.4, chance=0.67)
    assert close(Doubt(), 0.4, chance=0.66)


def test_closing_a_step_without_bags_changes_nothing_and_one_class_leaves_no_doubt():
    doubt = Doubt()
    close(doubt, 0.69)
    doubt.close_step(CHANCE)
    assert doubt.stands
    assert not close(Doubt(), 0.5, chance=0.0)


def test_nothing_is_doubted_or_understood_before_a_step_has_told_it():
    doubt = Doubt()
    doubt.close_step(CHANCE)
    assert not doubt.stands
    assert doubt.tokens_weight(0.5) == 0


def test_tokens_weigh_nothing_until_whole_bags_are_below_six_tenths_of_chance():
    doubt = Doubt()
    for loss, weight in [(0.61, 0.0), (0.4, 0.3), (0.8, 0.0)]:  # running means 0.61, 0.589, 0.610
        doubt.observe(torch.tensor([loss * CHANCE]), whole=True)
        close(doubt, CHANCE)
        assert doubt.tokens_weight(0.89) == weight
    assert doubt.tokens_weight(0.9) == 0.3
