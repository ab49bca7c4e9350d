"""The bounded wait for disks: goes on as soon as the labels say that nothing is missing, and never sits mute."""

from __future__ import annotations

import time
from collections.abc import Callable

from init.config import BootConfig
from init.console.console import Console
from init.machine.devices import Disks
from init.machine.modules import Modules
from init.phases import CLOCK, DEVICES, ENTRIES, POOLS
from init.survey import Survey, missing_text
from init.trust import Trust

POLL = 0.05  # seconds between looks at /sys
MUTE = 1.0  # seconds of waiting without a word
REMIND = 10.0  # seconds between further words


class Clock:
    """Time as the wait sees it; a test has its own."""

    now: Callable[[], float] = staticmethod(time.monotonic)
    sleep: Callable[[float], None] = staticmethod(time.sleep)


def gather(
    disks: Disks,
    modules: Modules,
    config: BootConfig,
    console: Console,
    clock: Clock | None = None,
    trust: Callable[[], Trust] = Trust,
) -> Survey:
    """Wait until there is something to boot on complete pools, at most ``config.wait`` seconds; what there is then.

    ``trust`` tells how far the disks of the moment are trusted: who is quick wins nothing.
    """
    clock = clock or Clock()
    start = clock.now()
    deadline, speak = start + config.wait, start + MUTE
    survey: Survey | None = None
    told: set[str] = set()
    while True:
        CLOCK.enter(DEVICES)
        modules.coldplug()
        for problem in modules.problems:
            console.once(problem)
        if disks.scan() or survey is None:
            with CLOCK.of(POOLS):
                survey = Survey(disks.devices, config, trust())
        with CLOCK.of(ENTRIES):
            lack = lacking(survey)
        now = clock.now()
        if lack is None or now >= deadline:
            return survey
        if now >= speak and lack not in told:
            told.add(lack)
            console.say(f"waiting up to {config.wait - (now - start):.0f} s more for {lack}; {prospect(survey)}")
            speak = now + MUTE
        elif now >= speak + REMIND:
            told.clear()
        clock.sleep(POLL)


def lacking(survey: Survey) -> str | None:
    """What the wait is for, in words, or None when there is something to boot and nothing is missing."""
    if not survey.pools:
        return f"{survey.sought}: no disk has one so far"
    if not survey.matching:
        return f"{survey.sought}: not among the {len(survey.pools)} pools so far"
    if survey.incomplete:
        return " and ".join(missing_text(pool) for pool in survey.incomplete)
    entries = survey.entries()
    if not entries:
        return "something to boot: the pools so far hold no kernel"
    if survey.away:
        return f"the pool that was booted from last ({survey.away})"
    if all(entry.plugged for entry in entries):
        return f"something to boot on a disk that is built in: so far it is on {entries[0].disk or 'others'} alone"
    return None


def prospect(survey: Survey) -> str:
    """What happens when the wait was in vain."""
    if not survey.incomplete:
        return "then it boots what there is" if survey.entries() else "then the rescue prompt"
    return {
        "auto": "then it goes on degraded",
        "ask": "then you are asked whether to go on degraded",
        "never": "then the rescue prompt, as poolboot.degraded=never",
    }[survey.config.degraded]
