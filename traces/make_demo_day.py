#!/usr/bin/env python3
"""Writes demo_day.csv: a made-up day of marginal carbon intensity at three sites.

usage: make_demo_day.py > demo_day.csv

Same output on every machine: the seed is fixed and only random.Random.random() is used. The levels follow the real
day of the feasibility study (a solar site, a windy site, a site with a long surplus); no value is taken from it.
"""
import datetime
import random
import sys

SEED = 20260601
START = datetime.datetime(2026, 6, 1, tzinfo=datetime.timezone.utc)
STEP_MIN = 5
LENGTH_MIN = 18 * 60

# Site: (intensity while fossil plants set the margin, while wind or sun do, windows in minutes after the start).
SITES = {
    "california": (450, 75, [(40, 250)]),
    "texas": (640, 15, [(140, 340), (730, 900)]),
    "south_australia": (840, 0, [(560, 830)]),
}


def intensity(noise, minute, high, low, windows):
    """One sample in g/kWh: a level with a few percent of noise."""
    is_open = any(begin <= minute < end for begin, end in windows)
    level = low if is_open else high
    spread = 0.25 * low if is_open else 0.04 * high
    return level + spread * (2 * noise.random() - 1)


def main():
    if len(sys.argv) != 1:
        print(__doc__, file=sys.stderr)
        return 64
    noise = random.Random(SEED)
    print("point_time," + ",".join(SITES))
    for minute in range(0, LENGTH_MIN, STEP_MIN):
        stamp = START + datetime.timedelta(minutes=minute)
        cells = [f"{intensity(noise, minute, *site):.1f}" for site in SITES.values()]
        print(stamp.strftime("%Y-%m-%dT%H:%M:%SZ") + "," + ",".join(cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
