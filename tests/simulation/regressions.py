"""Seeds that found something once: what it was, and what became of it. They are run for ever.

A seed may mean another scenario when the way in which scenarios are drawn changes. So each fault that was mended is
also planted again in :mod:`tests.simulation.planted`, where it has to be found whatever the seeds mean.
"""

from __future__ import annotations

#: Seed, and what it found in its day.
REGRESSIONS: dict[int, str] = {
    9: "A caller with a short time-out got an error beside a suspect token. It gets the token now.",
    187: "A token that was over when its flight landed was handed out. The caller looks again now.",
    344: "A process with a token that was over turned down the record of a store that counted anew, and failed.",
}
