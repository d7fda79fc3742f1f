"""The desk's kill switches: stop new risk of everybody, in one symbol, of one account, at one provider; and allow it again."""

from msgspec.structs import replace

from engine.replies import Asked, late, refuse, use_key
from engine.work import Work
from trading import controls
from trading.answers import Answer
from trading.breaker import Breakers, after_reset, breaker_of
from trading.checks import Refused
from trading.commands import NoteDiskSpace, SetSwitch, SwitchScope
from trading.controls import KillSwitches
from trading.desk import Desk
from trading.events import DeskChanged
from trading.refusals import Refusal


def set_switch(work: Work, command: SetSwitch, asked: Asked) -> None:
    desk = work.state.desk
    refused = late(work, command) or _check_target(work, command)
    if refused is not None:
        refuse(work, asked, refused)
        return
    after = _after(desk, command)
    if after == desk:
        refuse(work, asked, Refused(Refusal.NO_CHANGES, "the switch stands so already"))
        return
    use_key(work, asked, 0)
    work.emit(DeskChanged(after))
    work.answer(command.reply_to, Answer(command_id=command.id))


def note_disk_space(work: Work, command: NoteDiskSpace, asked: Asked) -> None:
    """The engine's own switch, beside the desk's."""
    desk = work.state.desk
    use_key(work, asked, 0)
    if desk.switches.is_disk_low is not command.is_low:
        work.emit(DeskChanged(replace(desk, switches=controls.note_disk(desk.switches, is_low=command.is_low))))
    work.answer(command.reply_to, Answer(command_id=command.id))


def _check_target(work: Work, command: SetSwitch) -> Refused | None:
    """What is stopped can be allowed again, also when it is no longer offered."""
    switches, target = work.state.desk.switches, command.target
    match command.scope:
        case SwitchScope.FIRM:
            return Refused(Refusal.INVALID_REQUEST, "the firm's switch has no target") if target else None
        case SwitchScope.SYMBOL:
            if target not in work.config.instruments and target not in switches.symbols:
                return Refused(Refusal.UNKNOWN_SYMBOL, "the symbol is not offered")
        case SwitchScope.ACCOUNT:
            if _number(target) not in work.state.accounts:
                return Refused(Refusal.UNKNOWN_ACCOUNT, "there is no such account")
        case SwitchScope.LP:
            if target not in work.config.lps and target not in switches.lps:
                return Refused(Refusal.INVALID_REQUEST, "there is no such liquidity provider")
    return None


def _number(target: str) -> int:
    """An account's number in plain digits; 0, which no account has, for anything else."""
    return int(target) if target.isascii() and target.isdigit() and len(target) < 20 else 0


def _after(desk: Desk, command: SetSwitch) -> Desk:
    """A provider that a person allows again starts with a closed breaker, also where nobody had killed it."""
    switches = _switched(desk.switches, command)
    if command.scope is SwitchScope.LP and not command.stops:
        return replace(desk, switches=switches, breakers=_closed(desk, command.target))
    return replace(desk, switches=switches)


def _closed(desk: Desk, lp: str) -> Breakers:
    """What a closed breaker has counted stays: there is nothing to allow."""
    return after_reset(desk.breakers, lp) if breaker_of(desk.breakers, lp).pause_us else desk.breakers


def _switched(switches: KillSwitches, command: SetSwitch) -> KillSwitches:
    if command.scope is SwitchScope.FIRM:
        return controls.kill_firm(switches) if command.stops else controls.revive_firm(switches)
    if command.scope is SwitchScope.SYMBOL:
        change = controls.kill_symbol if command.stops else controls.revive_symbol
        return change(switches, command.target)
    if command.scope is SwitchScope.LP:
        aim = controls.kill_lp if command.stops else controls.revive_lp
        return aim(switches, command.target)
    turn = controls.kill_account if command.stops else controls.revive_account
    return turn(switches, _number(command.target))
