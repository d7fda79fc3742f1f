"""The engine calculates margins a second time, by other means, and halts when the two disagree."""

from decimal import Decimal

from engine.batch import StreamPosition
from engine.selfcheck import Sampler, margin_problem
from engine.state import Counters
from engine.step import SAMPLE_EVERY, CommandsTaken, Committed, Failure, Halt, Recovered, Step, Taken
from tests.support.world import World
from trading.commands import Deposit
from trading.orders import Side


def holding_world() -> World:
    world = World()
    for account in (1, 2):
        world.open_account(account)
    world.price("EURUSD", "1.10000", "1.10010")
    for account in (1, 2):
        world.place(account, "EURUSD", Side.BUY, "0.10")
    return world


def test_a_true_margin_has_no_problem() -> None:
    world = holding_world()
    assert [margin_problem(world.state, account) for account in (1, 2, 3)] == ["", "", ""]


def test_every_account_gets_its_turn() -> None:
    world = holding_world()
    world.state.margins[2].margin += Decimal("0.01")
    sampler = Sampler()
    problems = [sampler.next_problem(world.state) for _ in range(4)]
    assert [bool(problem) for problem in problems] == [True, False, True, False]
    assert problems[0] == "the margin of account 2 runs at 366.72, the reference says 366.71"


def test_a_wrong_margin_halts_the_shard() -> None:
    world = holding_world()
    step = Step()
    step.handle(Recovered(state=world.state, epoch=1, seq=0, position=StreamPosition(), at_us=world.now_us))
    world.state.counters = Counters(order=100, deal=100, position=100, transaction=100)
    world.state.margins[1].margin += Decimal("0.01")
    world.state.margins[2].margin += Decimal("0.01")
    for seq in range(1, SAMPLE_EVERY + 1):
        money = Deposit(id=f"d{seq}", key=f"d{seq}", account=1, amount=Decimal(1))
        step.handle(CommandsTaken([Taken(money, f"{seq}-0")], world.now_us))
        outputs = step.handle(Committed(seq))
    halts = [output for output in outputs if isinstance(output, Halt)]
    assert [halt.failure for halt in halts] == [Failure.VIOLATED]
    assert "the reference says 366.71" in halts[0].reason
