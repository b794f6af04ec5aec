import math

import pytest

from vaegan.config import ScheduleConfig
from vaegan.schedules import DISCRIMINATOR, EVERYONE, GENERATOR, Costs, equilibrium, phases


def walk(config, costs):
    """The phases of a step whose passes cost what `costs` (values of L_GAN, or Costs) says."""
    seen, told = [], iter(costs)
    steps = phases(config)
    phase = next(steps)
    while True:
        seen.append(phase)
        cost = next(told)
        try:
            phase = steps.send(cost if isinstance(cost, Costs) else Costs(gan=cost))
        except StopIteration:
            return seen


def names(seen):
    short = {DISCRIMINATOR: "D", GENERATOR: "G", EVERYONE: "A"}
    return "".join(short[phase.candidates] for phase in seen)


# ── the tutorial's loops ─────────────────────────────────────────────────────────────────────────

LOOPS = ScheduleConfig(kind="inner-loops", discriminator_steps=3, generator_steps=3)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        # The discriminator stops below 1.0, encoder and decoder stop above 0.4.
        ([0.9, 0.5], "DG"),
        ([0.9, 0.3, 0.3, 0.3], "DGGG"),
        ([1.2, 0.9, 0.5], "DDG"),
        ([1.2, 1.2, 1.2, 0.5], "DDDG"),
        ([1.2, 1.2, 1.2, 0.1, 0.1, 0.1], "DDDGGG"),
        ([0.9, 0.3, 0.41], "DGG"),
        # At the threshold itself nothing stops: `< 1.0` and `> 0.4`.
        ([1.0, 1.0, 1.0, 0.4, 0.4, 0.4], "DDDGGG"),
        # The tutorial's own scale, a sum / 784: always 1 to 3.
        ([0.057, 0.057, 0.057, 0.057], "DGGG"),
    ],
)
def test_the_tutorials_inner_loops(costs, expected):
    assert names(walk(LOOPS, costs)) == expected


def test_the_first_generator_step_sees_the_discriminators_batch():
    seen = walk(LOOPS, [1.2, 0.9, 0.1, 0.1, 0.1])
    assert names(seen) == "DDGGG"
    assert [phase.fresh for phase in seen] == [True, True, False, True, True]


def test_a_cost_that_is_not_a_number_stops_nothing_early():
    assert names(walk(LOOPS, [math.nan] * 6)) == "DDDGGG"


# ── Larsen's equilibrium ─────────────────────────────────────────────────────────────────────────

RULE = ScheduleConfig(kind="equilibrium")


@pytest.mark.parametrize(
    ("real", "fake", "expected"),
    [
        (0.68, 0.68, "E G D"),  # at equilibrium: everyone
        (0.32, 0.68, "E G"),  # a cost below 0.33: D is winning, hold it back
        (0.68, 0.32, "E G"),
        (0.10, 0.10, "E G"),
        (1.04, 0.68, "E D"),  # a cost above 1.03: D is losing, hold the decoder back
        (0.68, 1.04, "E D"),
        (2.00, 2.00, "E D"),
        (0.20, 2.00, "E G D"),  # both would be held back: neither is
        (2.00, 0.20, "E G D"),
        (0.34, 1.02, "E G D"),
    ],
)
def test_larsens_rule(real, fake, expected):
    letters = {"encoder": "E", "decoder": "G", "discriminator": "D"}
    active = equilibrium(RULE, Costs(real=real, fake=fake))
    assert {letters[name] for name in active} == set(expected.split())


def test_the_rule_is_applied_to_the_pass_that_is_stepped():
    (phase,) = walk(RULE, [Costs(real=0.1, fake=0.1)])
    assert phase.candidates == EVERYONE
    assert phase.active(Costs(real=0.1, fake=0.1)) == GENERATOR
    assert phase.active(Costs(real=0.7, fake=0.7)) == EVERYONE
    assert phase.active(Costs(real=1.5, fake=0.7)) == frozenset({"encoder", "discriminator"})


def test_margins_are_settings():
    wide = ScheduleConfig(kind="equilibrium", equilibrium=0.5, margin=0.4)
    assert equilibrium(wide, Costs(real=0.11, fake=0.89)) == EVERYONE
    assert equilibrium(wide, Costs(real=0.09, fake=0.5)) == GENERATOR
    assert "decoder" not in equilibrium(wide, Costs(real=0.5, fake=0.91))


# ── fixed choices ────────────────────────────────────────────────────────────────────────────────


def test_together_and_ratio():
    (phase,) = walk(ScheduleConfig(), [0.0])
    assert phase.active(Costs()) == EVERYONE
    ratio = ScheduleConfig(kind="ratio", discriminator_steps=2, generator_steps=3)
    seen = walk(ratio, [99.0] * 5)  # whatever it costs
    assert names(seen) == "DDGGG"
    assert all(phase.fresh for phase in seen)
    assert [phase.active(Costs()) for phase in seen] == [DISCRIMINATOR] * 2 + [GENERATOR] * 3


@pytest.mark.parametrize("kind", ["ratio", "inner-loops", "equilibrium"])
def test_two_walks_at_once_do_not_meet(kind):
    """Decisions are of a walk's own costs: nothing is kept beside it."""
    config = ScheduleConfig(kind=kind, discriminator_steps=2, generator_steps=2)
    costs = [
        [Costs(1.1, 0.2, 0.9), Costs(0.8, 1.2, 0.9), Costs(0.2, 0.1, 0.2), Costs(0.3, 1, 1)],
        [Costs(0.2, 0.9, 0.9), Costs(0.5, 0.2, 0.2), Costs(0.1, 1.2, 0.2), Costs(0.1, 1, 1)],
    ]
    alone = [[p.active(c) for p, c in zip(walk(config, told), told)] for told in costs]
    walks = [phases(config) for _ in costs]
    now, together = [next(one) for one in walks], [[], []]
    for step in range(4):
        for i in range(2):
            if now[i] is not None:
                together[i].append(now[i].active(costs[i][step]))
        for i in range(2):
            try:
                now[i] = now[i] and walks[i].send(costs[i][step])
            except StopIteration:
                now[i] = None
    assert together == alone
    assert kind == "ratio" or alone[0] != alone[1]
