#!/usr/bin/env python3
"""Generates traces/demo_day.csv: a synthetic day of marginal carbon intensity at three sites.

usage: generate.py > demo_day.csv

18 hours in steps of 5 minutes, g/kWh. Low values mean curtailed wind or sun. Shaped like the day of the feasibility study
(arXiv 2602.22760): long windows that open one after the other, overlaps, an interval without any, and short dips that are
not worth starting for. Seeded: the output is always the same.
"""
import datetime
import random

START = datetime.datetime(2026, 1, 11, 17, tzinfo=datetime.timezone.utc)
STEP_MIN = 5
LENGTH_MIN = 18 * 60
# Minutes after START at which each site's power is curtailed: [from, to).
WINDOWS = {
    "california": [(20, 300), (900, 1050)],
    "texas": [(180, 420), (640, 850)],
    "south_australia": [(480, 720), (880, 1040)],
}
# Dips shorter than a quarter of an hour.
DIPS = {"california": [(520, 530)], "texas": [(60, 70), (980, 985)], "south_australia": [(150, 160), (790, 800)]}
# Mean and spread outside windows, g/kWh.
LEVEL = {"california": (420, 60), "texas": (610, 80), "south_australia": (790, 70)}


def value(site, minute, noise):
    if any(a <= minute < b for a, b in WINDOWS[site] + DIPS[site]):
        return max(0.0, 35 + 25 * noise)
    mean, spread = LEVEL[site]
    return mean + spread * noise


def main():
    random.seed(20260111)
    print("point_time," + ",".join(WINDOWS))
    for minute in range(0, LENGTH_MIN + 1, STEP_MIN):
        stamp = START + datetime.timedelta(minutes=minute)
        cells = [f"{value(site, minute, max(-1.4, min(1.4, random.gauss(0, 1)))):.1f}" for site in WINDOWS]
        print(stamp.isoformat(sep=" ") + "," + ",".join(cells))


if __name__ == "__main__":
    main()
