"""The fault campaign. Prints what was tried and what did not hold; exit code 1 where something did not."""

import argparse
import sys

from tests.campaign.mutants import MUTANTS
from tests.campaign.runner import Campaign


def main() -> int:
    """Read the options, run, report."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="what they are made from (default: 0)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="repeat one run")
    parser.add_argument("--stop", action="store_true", help="end at the first violation")
    parser.add_argument("--mutant", choices=MUTANTS, help="break the program on purpose")
    options = parser.parse_args()
    campaign = Campaign(options.seed, options.mutant)
    numbers = range(options.runs) if options.only is None else [options.only]
    # What one mutant does wrong shows in one kind of pair only.
    plan = campaign.doubt if options.mutant == "sync again" else None
    campaign.run(numbers, plan, stop=options.stop)
    sys.stdout.write(campaign.summary())
    return 1 if campaign.violations else 0


if __name__ == "__main__":
    sys.exit(main())
