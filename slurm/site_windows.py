"""Windows of a plan, tasks of an array, and which task gets which window: what submit-windows decides, without Slurm."""

import dataclasses
import datetime
import json
import math
import os

EX_DATA = 65

ENDING = {"COMPLETING", "STAGE_OUT", "SIGNALING"}
STARTED = {"RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED"} | ENDING
FINISHED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
            "REVOKED", "TIMEOUT"}


class Failure(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


@dataclasses.dataclass(frozen=True)
class Window:
    """[open_s, close_s) in whole unix seconds, on so many nodes."""

    open_s: int
    close_s: int
    nodes: int


@dataclasses.dataclass
class Assignment:
    """What a task is to do: `window` is None where it is no longer needed."""

    task: str  # "<array>_<index>"; empty: a task that does not exist yet
    window: Window | None
    change: str  # kept | moved | extended | shortened | resized | added | cancelled | suspended
    before: Window | None = None


def utc(unix_s):
    return datetime.datetime.fromtimestamp(unix_s, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---- reading -------------------------------------------------------------------------------------------------------


def instant(window, key):
    """`start_unix_s` or `start` (ISO 8601 with a zone) of a window of a plan."""
    if f"{key}_unix_s" in window:
        return float(window[f"{key}_unix_s"])
    moment = datetime.datetime.fromisoformat(window[key].replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError(f"{window[key]} has no time zone")
    return moment.timestamp()


def read_plan(text, name, site, nodes):
    """The site's windows of the JSON of `spillway windows` ({windows}) or `spillway plan` ({sites: [{name, windows}]})."""
    try:
        document = json.loads(text)
        if "sites" in document:
            found = [entry for entry in document["sites"] if entry["name"] == site]
            if not found:
                known = ", ".join(entry["name"] for entry in document["sites"])
                raise Failure(EX_DATA, f"{name}: no site '{site}'; it has {known}")
            document = found[0]
        windows = []
        for entry in document["windows"]:
            # A window's own number of nodes, or the part of the site's that the excess power carries.
            own = int(entry["nodes"]) if "nodes" in entry else max(1, math.floor(nodes * float(entry.get("part", 1)) + 1e-9))
            # Whole seconds, and never outside the window.
            window = Window(math.ceil(instant(entry, "start")), math.floor(instant(entry, "end")), own)
            if window.nodes < 1:
                raise ValueError(f"window at {utc(window.open_s)}: {window.nodes} nodes")
            if window.close_s > window.open_s:
                windows.append(window)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Failure(EX_DATA, f"{name}: not the JSON of spillway windows or spillway plan: {error}") from error
    windows.sort(key=lambda window: window.open_s)
    for first, second in zip(windows, windows[1:]):
        if second.open_s < first.close_s:
            raise Failure(EX_DATA, f"{name}: windows at {utc(first.open_s)} and {utc(second.open_s)} overlap")
    return windows


def read_state(path):
    """{task: Window} of the windows file; empty where there is none."""
    rows = {}
    if not path.exists():
        return rows
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        try:
            task, open_s, close_s, nodes = line.split("\t")
            rows[task] = Window(int(open_s), int(close_s), int(nodes))
        except ValueError as error:
            raise Failure(EX_DATA, f"{path}:{number}: expected task, open, close, nodes: {error}") from error
    return rows


def read_array(path):
    """Id of the array that the windows file belongs to; empty where there is none."""
    first = path.read_text().splitlines()[:1] if path.exists() else []
    return first[0].removeprefix("# array ").strip() if first and first[0].startswith("# array ") else ""


def write_state(path, array, rows):
    """Replaces the file as a whole: running tasks read it every second."""
    lines = [f"# array {array}", "# task\topen_unix_s\tclose_unix_s\tnodes"]
    lines += [f"{task}\t{w.open_s}\t{w.close_s}\t{w.nodes}" for task, w in sorted(rows.items(), key=lambda row: row[1].open_s)]
    temporary = path.with_suffix(".new")
    temporary.write_text("\n".join(lines) + "\n")
    os.replace(temporary, path)


# ---- deciding ------------------------------------------------------------------------------------------------------


def overlap_s(a, b):
    return min(a.close_s, b.close_s) - max(a.open_s, b.open_s)


def described(task, before, after):
    """The assignment of a task that had a window and has one again."""
    change = "kept"
    if before.open_s != after.open_s:
        change = "moved"
    elif after.close_s != before.close_s:
        change = "extended" if after.close_s > before.close_s else "shortened"
    elif after.nodes != before.nodes:
        change = "resized"
    return Assignment(task, after, change, before)


def reconcile(rows, live, windows, now_s, lead_s):
    """Which task does what, so that the array becomes the plan. Pure.

    rows: {task: Window} as last told; live: {task: state} of Slurm; windows: the plan. A running task follows the window
    that holds this moment, or is suspended where there is none. Waiting tasks keep the window that they overlap; what is
    left of both is paired in order of time; then tasks without a window so far are used, and at last ones are asked for
    that do not exist (task ""). Windows whose rest is no longer than the lead are left out.
    """
    result = []
    left = [window for window in windows if window.close_s > now_s]
    for task in sorted(task for task, state in live.items() if state in STARTED):
        before = rows.get(task)
        current = next((window for window in left if window.open_s <= now_s), None)
        if before is None:
            continue  # it finds no window in the file and ends on its own
        if current is None:
            result.append(Assignment(task, None, "suspended", before))
            continue
        left.remove(current)
        # A width cannot change while it runs, and an opening that has passed is no change.
        result.append(described(task, before, Window(before.open_s, current.close_s, before.nodes)))
    left = [window for window in left if window.close_s - lead_s > now_s]

    waiting = {task: rows[task] for task, state in live.items() if state not in STARTED and task in rows}
    for task, before in sorted(waiting.items(), key=lambda row: row[1].open_s):
        same = max(left, key=lambda window: overlap_s(before, window), default=None)
        if same is None or overlap_s(before, same) <= 0:
            continue
        left.remove(same)
        del waiting[task]
        result.append(described(task, before, same))
    for task, before in sorted(waiting.items(), key=lambda row: row[1].open_s):
        if left:
            result.append(described(task, before, left.pop(0)))
        else:
            result.append(Assignment(task, None, "cancelled", before))
    spare = sorted((task for task, state in live.items() if state not in STARTED and task not in rows), key=task_order)
    for window in left:
        result.append(Assignment(spare.pop(0) if spare else "", window, "added"))
    return sorted(result, key=lambda a: (a.window or a.before).open_s)


def task_order(task):
    array, _, index = task.partition("_")
    return int(array), int(index)
