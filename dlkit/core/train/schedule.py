"""Learning-rate schedules as functions of the position in the run."""

PLATEAU = 5  # epochs without a better score, after which the schedule of that name goes down


def one_cycle(done: float) -> float:
    """The rate after a share `done` of the run (Smith and Topin 2019), as a share of the highest.

    It rises from a 25th over 30 % of the run and falls to a ten-thousandth, in straight lines.
    """
    if done < 0.3:
        return 0.04 + 0.96 * done / 0.3
    return 1e-4 + (1 - 1e-4) * (1 - done) / 0.7
