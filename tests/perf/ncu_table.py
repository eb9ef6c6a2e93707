#!/usr/bin/env python3
"""Prints one line per kernel and grid of what `ncu --csv --page raw` wrote.

usage: ncu_table.py RAW.csv    exit 0, or 1 where the file has no kernel

Percentages are of what the whole GPU could do in the kernel's time. A metric that the file does not have is printed as '-'.
"""
import csv
import re
import sys

TENSOR = ["sm__pipe_tensor_cycles_active", "sm__pipe_tensor_op_gmma_cycles_active", "sm__pipe_tensor_op_hmma_cycles_active"]
CLOCK = ["sm__cycles_elapsed.avg.per_second", "smsp__cycles_elapsed.avg.per_second", "gpc__cycles_elapsed.avg.per_second"]
L2 = ["lts__throughput"]
DRAM = ["gpu__dram_throughput", "dram__throughput"]
# Warps that wait, per reason: averages over issued instructions, else samples.
STALLS = [r"smsp__average_warps_issue_stalled_(\w+)_per_issue_active", r"smsp__average_warp_latency_issue_stalled_(\w+)",
          r"smsp__pcsamp_warps_issue_stalled_(\w+)"]
PREFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}


def number(text):
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def seconds_per(unit):
    """Of 'ns', 'nsecond', 'us', 'second' …"""
    match = re.fullmatch(r"(n|u|m|)s(ec(ond)?)?", unit.lower())
    return PREFIXES[match[1]] if match else 1e-9


def hertz_per(unit):
    """Of 'hz', 'Ghz', 'cycle/second', 'cycle/nsecond' …"""
    unit = unit.lower()
    if "/" in unit:
        return 1 / seconds_per(unit.split("/")[1])
    return {"k": 1e3, "m": 1e6, "g": 1e9}.get(unit[:1], 1.0)


def short_name(name):
    """The function with its template arguments, without namespaces, parameters and the types of constants."""
    name = re.sub(r"\(anonymous namespace\)::|<unnamed>::|\{anonymous\}::", "", name)
    name = re.sub(r"\([\w:]+\)(?=-?\d)", "", name)
    depth = 0
    for i, c in enumerate(name):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            name = name[:i]
            break
    name = re.sub(r"\b(\w+::)+", "", re.sub(r"^void ", "", name)).replace(", ", ",")
    name = name.replace("cudnn_generated_fort_native_", "cudnn_")
    return name if len(name) <= 56 else name[:55] + "…"


class Table:
    """The columns of a raw page: metrics by name, units beside them."""

    def __init__(self, lines):
        rows = list(csv.reader(lines))
        start = next((i for i, row in enumerate(rows) if "Kernel Name" in row), None)
        if start is None:
            self.names, self.units, self.kernels = [], {}, []
            return
        self.names = rows[start]
        body = [dict(zip(self.names, row)) for row in rows[start + 1:] if len(row) == len(self.names)]
        # The row of units has no number of a launch.
        self.units = next((row for row in body if not row.get("ID", "").strip()), {})
        self.kernels = [row for row in body if row.get("ID", "").strip()]

    def first(self, row, metrics, suffix=".avg.pct_of_peak_sustained_elapsed"):
        """The first of the metrics that the row has a number for, and its name."""
        for metric in metrics:
            name = metric if "." in metric else metric + suffix
            value = number(row.get(name, ""))
            if value is not None:
                return value, name
        return None, None

    def clock_ghz(self, row):
        value, name = self.first(row, CLOCK)
        return None if value is None else value * hertz_per(self.units.get(name, "")) * 1e-9

    def time_us(self, row):
        value, name = self.first(row, ["gpu__time_duration.sum"])
        return None if value is None else value * seconds_per(self.units.get(name, "ns")) * 1e6

    def tensor(self, row):
        values = [self.first(row, [metric])[0] for metric in TENSOR]
        return max((value for value in values if value is not None), default=None)

    def l2(self, row):
        return self.first(row, L2)[0]

    def dram(self, row):
        return self.first(row, DRAM)[0]

    def stall(self, row):
        """The most frequent reason to wait, with its share of all reasons."""
        for pattern in STALLS:
            reasons = {}
            for name in self.names:
                match = re.fullmatch(pattern, name.split(".")[0])
                value = number(row.get(name, ""))
                if match and value is not None and not re.search(r"not_issued|^(selected)$", match[1]):
                    reasons[match[1]] = value
            if sum(reasons.values()) > 0:
                top = max(reasons, key=reasons.get)
                return f"{top} {100 * reasons[top] / sum(reasons.values()):.0f} %"
        return "-"


def mean(rows, read, places):
    """Of what `read` finds in the rows, as text."""
    present = [value for value in map(read, rows) if value is not None]
    return f"{sum(present) / len(present):.{places}f}" if present else "-"


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 64
    with open(sys.argv[1], encoding="utf-8", errors="replace") as lines:
        table = Table(lines)
    groups = {}
    for row in table.kernels:
        grid = re.sub(r"[() ]", "", row.get("Grid Size", "-")).replace(",", "x")
        groups.setdefault((short_name(row["Kernel Name"]), grid), []).append(row)
    if not groups:
        print("ncu_table.py: no kernels in the file", file=sys.stderr)
        return 1
    print(f"{'kernel':<56} {'grid':>12} {'launches':>8} {'us':>8} {'tensor %':>8} {'SM GHz':>6} {'L2 %':>6} {'DRAM %':>6}  "
          "waits most for")
    for (name, grid), rows in groups.items():
        print(f"{name:<56} {grid:>12} {len(rows):>8} {mean(rows, table.time_us, 1):>8} {mean(rows, table.tensor, 1):>8} "
              f"{mean(rows, table.clock_ghz, 2):>6} {mean(rows, table.l2, 1):>6} {mean(rows, table.dram, 1):>6}  "
              f"{table.stall(rows[0])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
