"""The tables and the plot of docs/speed.md, for ``benchmarks.tables``: each from the newest sources that were measured.

A ratio is taken round by round, between figures of the same minutes, and the median of the rounds is told. A share of
the peak is beside the product of matrices, at the same precision, that the machine reached in the same round: an image
is trained on with two operations for each multiply-accumulate of the network, and three passes of it.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.time_to_accuracy import QUESTIONS, RACED

Line = dict[str, Any]
NOTHING = "not measured yet"
PASSES, OPERATIONS = 3, 2
EXAMPLES = ("pytorch example, as published", "keras example, as published")
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito 2008: told apart whatever one's eyes


def time_to_accuracy_table(lines: list[Line]) -> str:
    """Ours by question beside the fastest of the peers, then every peer's seconds to each target."""
    text = _time_to_accuracy(_of(lines, "cpu"))
    return f"{text}\n{_gpu(lines, _time_to_accuracy)}"


def throughput_table(lines: list[Line]) -> str:
    """One row an arm: images a second, how many times as fast ours is, and the share of the peak."""
    text = _throughput(_of(lines, "cpu"))
    return f"{text}\n{_gpu(lines, _throughput)}"


def input_table(lines: list[Line]) -> str:
    """One row an arm: the first epoch and the fastest of the later ones."""
    known = _of(lines, "cpu")
    rows = [
        "| data | | first epoch | ours is faster by | later epochs | ours is faster by | rounds |",
        "|---|---|---|---|---|---|---|",
    ]
    for question in _questions(known):
        for arm in _arms(known, question):
            asked = _asked(known, question, arm)
            cells = []
            for name in ("first_seconds", "later_seconds"):
                cells += [_spread(asked, name, "s"), _times(known, question, arm, "vitreous", name)]
            rows.append(f"| {question} | {arm} | {' | '.join(cells)} | {len(asked)} |")
    if len(rows) == 2:
        return f"{NOTHING.capitalize()}.\n"
    shares = []
    for line in (line for question in _questions(known) for line in _asked(known, question, "vitreous")):
        moved = line["num_images"] * 3 * 224 * 224 * (1 + 4)  # uint8 read, fp32 written
        shares.append(moved / line["later_seconds"] / _ceiling(known, line, "bytes_per_second"))
    told = [f"Our later epochs move {statistics.median(shares):.0%} of the bytes that a copy does."] if shares else []
    return "\n".join([*rows, "", *told, *_told(known), ""])


def neighbour_table(lines: list[Line]) -> str:
    """One row for each network and arm: quiet, and how many times slower beside the neighbour."""
    known = _of(lines, "cpu")
    rows = [
        "| network | | quiet | a neighbour from the start | slower by | it comes later | slower by | rounds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for question in _questions(known):
        for name in dict.fromkeys(arm.rpartition(", ")[0] for arm in _arms_with_commas(known, question)):
            quiet = _asked(known, question, f"{name}, quiet")
            cells = [_spread(quiet, "images_per_second", "images/s")]
            for when in ("from the start", "comes later"):
                arm = f"{name}, {when}"
                cells.append(_spread(_asked(known, question, arm), "images_per_second", "images/s"))
                cells.append(_times(known, question, arm, f"{name}, quiet", "images_per_second", is_rate=True))
            rows.append(f"| {question} | {name} | {' | '.join(cells)} | {len(quiet)} |")
    return "\n".join([*rows, "", *_told(known), ""]) if len(rows) > 2 else f"{NOTHING.capitalize()}.\n"


def start_table(lines: list[Line]) -> str:
    """One row an arm: seconds to the first step, and ours in parts."""
    known = _of(lines, "cpu")
    names = ("import", "reading", "probe", "recipe", "first step")
    rows = [f"| data | | to the first step | {' | '.join(names)} | rounds |", f"|{'---|' * (len(names) + 4)}"]
    for question in _questions(known):
        for arm in _arms(known, question):
            asked = _asked(known, question, arm)
            parts = [[line["parts"][name] for line in asked if name in line.get("parts", {})] for name in names]
            cells = [f"{statistics.median(each):.2f} s" if each else "" for each in parts]
            rows.append(
                f"| {question} | {arm} | {_spread(asked, 'seconds', 's')} | {' | '.join(cells)} | {len(asked)} |"
            )
    return "\n".join([*rows, "", *_told(known), ""]) if len(rows) > 2 else f"{NOTHING.capitalize()}.\n"


def growth_table(lines: list[Line]) -> str:
    """One row a size, and the plot."""
    known = [line for line in _of(lines, "cpu") if "num_images" in line]
    if not known:
        return f"{NOTHING.capitalize()}.\n"
    rows = [
        "| images | classes | reading, ms an image | training, ms an image and epoch | the rest, ms an image "
        "| memory of its own | with mapped files | rounds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for _, asked in _by_size(known):
        times = [
            f"{statistics.median(line[name] for line in asked):.3g}"
            for name in ("reading_ms", "training_ms", "rest_ms")
        ]
        memory = [
            f"{statistics.median(line[name] for line in asked) / 1e6:,.0f} MB" for name in ("own_bytes", "all_bytes")
        ]
        sizes = f"{asked[0]['num_images']:,} | {asked[0]['num_classes']:,}"
        rows.append(f"| {sizes} | {' | '.join(times)} | {' | '.join(memory)} | {len(asked)} |")
    plot = "![Milliseconds for each image, and memory, over images and classes](speed-growth.svg)"
    return "\n".join([*rows, "", plot, "", *_told(_of(lines, "cpu")), ""])


def draw_growth(lines: list[Line], target: Path) -> None:
    """Time for each image over images and over classes, and memory over images; nothing without lines."""
    from matplotlib import pyplot as plt

    known = [line for line in _of(lines, "cpu") if "num_images" in line]
    if not known:
        return
    figure, panels = plt.subplots(1, 3, figsize=(9.6, 3.4))
    times = (("reading_ms", "reading", BLUE, "o"), ("training_ms", "training", ORANGE, "s"))
    times += (("rest_ms", "the rest", GREEN, "^"),)
    memory = (("own_bytes", "of its own", BLUE, "o"), ("all_bytes", "with mapped files", ORANGE, "s"))
    for axes, question, size, series, unit, label in (
        (panels[0], "images", "num_images", times, 1, "milliseconds for each image"),
        (panels[1], "classes", "num_classes", times, 1, "milliseconds for each image"),
        (panels[2], "images", "num_images", memory, 1e6, "peak memory, MB"),
    ):
        asked = _by_size([line for line in known if line["question"] == question])
        for name, said, colour, marker in series:
            points = [(runs[0][size], statistics.median(run[name] for run in runs) / unit) for _, runs in asked]
            axes.plot(*zip(*points, strict=True), marker=marker, color=colour, label=said) if points else None
        axes.set(xscale="log", xlabel=question, ylabel=label)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd")
        axes.set_axisbelow(True)
        axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


TABLES: dict[str, Callable[[list[Line]], str]] = {
    "time_to_accuracy": time_to_accuracy_table,
    "throughput": throughput_table,
    "input": input_table,
    "neighbour": neighbour_table,
    "growth": growth_table,
    "start": start_table,
}


# --- the two that have a GPU's rows -----------------------------------------------------------------------------------


def _gpu(lines: list[Line], table: Callable[[list[Line]], str]) -> str:
    known = _of(lines, "cuda")
    return f"On a GPU:\n\n{table(known)}" if known else f"On a GPU: {NOTHING}.\n"


def _time_to_accuracy(known: list[Line]) -> str:
    rows = [
        "| target | `vitreous train` | test accuracy | training | PyTorch's example | ours is faster by "
        "| Keras' example | ours is faster by | fastest peer, however set | ours is faster by "
        "| share of the peak | seeds |",
        f"|{'---|' * 12}",
    ]
    for question in QUESTIONS:
        runs = _asked(known, question.name, "vitreous")
        goal = f"{question.data}, {100 * question.target:g} %"
        command = runs[0]["command"].partition(" --device")[0] if runs else _command(question)
        if not runs:
            rows.append(f"| {goal} | `{command}` | {NOTHING} |{' |' * 9}")
            continue
        accuracies, seconds = ([run[name] for run in runs] for name in ("accuracy", "training_seconds"))
        cells = [f"{_percent(accuracies)}{'' if statistics.mean(accuracies) >= question.target else ', missed'}"]
        spread = f" ({min(seconds):.1f} to {max(seconds):.1f})" if len(seconds) > 1 else ""
        cells.append(f"{statistics.mean(seconds):.1f} s{spread}")
        curves = {arm: _mean_curve(_asked(known, question.data, arm)) for arm in _arms(known, question.data)}
        everyone = tuple(curves) if set(curves) - set(EXAMPLES) else ()  # the examples alone are not all there is
        for arms in (EXAMPLES[:1], EXAMPLES[1:], everyone):
            cells += _beside(curves, arms, question.target, statistics.mean(seconds))
        rows.append(f"| {goal} | `{command}` | {' | '.join(cells)} | {_share_reached(known, runs)} | {len(runs)} |")
    parts = ["\n".join(rows), *(table for data in RACED if (table := _peers_curves(known, data)))]
    return "\n\n".join([*parts, "\n".join(_told(known))]) + "\n"


def _peers_curves(known: list[Line], data: str) -> str:
    targets = [question.target for question in QUESTIONS if question.data == data]
    header = " | ".join(f"to {100 * target:g} %" for target in targets)
    rows = [
        f"| {data} | {header} | epochs | last test accuracy | training | seeds |",
        f"|{'---|' * (5 + len(targets))}",
    ]
    for arm in _arms(known, data):
        runs = _asked(known, data, arm)
        curve = _mean_curve(runs)
        cells = [f"{seconds:.0f} s" if (seconds := _seconds_to(curve, target)) else "not reached" for target in targets]
        seconds, reached = curve[-1]
        rows.append(f"| {arm} | {' | '.join(cells)} | {len(curve)} | {reached:.2%} | {seconds:.0f} s | {len(runs)} |")
    return "\n".join(rows) if len(rows) > 2 else ""


def _mean_curve(runs: list[Line]) -> list[tuple[float, float]]:
    """Seconds and accuracy after each epoch, the mean of the seeds."""
    epochs = zip(*(run["curve"] for run in runs), strict=False)
    return [tuple(statistics.mean(at[name] for at in epoch) for name in ("seconds", "accuracy")) for epoch in epochs]


def _seconds_to(curve: list[tuple[float, float]], target: float) -> float | None:
    return next((seconds for seconds, accuracy in curve if accuracy >= target), None)


def _beside(
    curves: dict[str, list[tuple[float, float]]], arms: Sequence[str], target: float, ours: float
) -> tuple[str, str]:
    """The seconds of the fastest of the arms, and how many times ours they are; bounds where none gets there."""
    known = [arm for arm in arms if arm in curves]
    if not known:
        return NOTHING, ""
    reached = {arm: seconds for arm in known if (seconds := _seconds_to(curves[arm], target))}
    if not reached:
        longest = max(curves[arm][-1][0] for arm in known)
        return f"not in {longest:.0f} s", f"> {_two_digits(longest / ours)} x" if len(known) == 1 else ""
    name, seconds = min(reached.items(), key=lambda pair: pair[1])
    return f"{seconds:.0f} s" if len(arms) == 1 else f"{name}, {seconds:.0f} s", f"{_two_digits(seconds / ours)} x"


def _command(question: Any) -> str:
    return " ".join(("vitreous train", question.data, *question.options))


def _throughput(known: list[Line]) -> str:
    rows = [
        "| network | | images/s | ours is faster by | the engine alone | share of the peak | rounds |",
        f"|{'---|' * 7}",
    ]
    for question in ("resnet18", "example"):
        for arm in _arms(known, question):
            asked = _asked(known, question, arm)
            precision = asked[0].get("engine", asked[0])["precision"]
            engine = f"vitreous, {precision}"
            main = engine if question == "example" else "vitreous"
            cells = [_spread(asked, "images_per_second", "")]
            for ours in (main, engine):
                is_ours = arm.startswith("vitreous")
                cells.append("" if is_ours else _times(known, question, arm, ours, "images_per_second", is_rate=True))
            of_network = next((line["macs"] for line in known if line["question"] == question and line.get("macs")), 0)
            shares = [
                PASSES * OPERATIONS * of_network * line["images_per_second"] / _ceiling(known, line, f"mm_{precision}")
                for line in asked
            ]
            cells.append(f"{statistics.median(shares):.0%} of {precision}")
            rows.append(f"| {question} | {arm} | {' | '.join(cells)} | {len(asked)} |")
    return "\n".join([*rows, "", *_told(known), ""]) if len(rows) > 2 else f"{NOTHING.capitalize()}.\n"


# --- parts of tables --------------------------------------------------------------------------------------------------


def _of(lines: list[Line], device: str) -> list[Line]:
    """Those of the newest sources that were measured on the device."""
    here = [line for line in lines if line["device"] == device]
    return [line for line in here if line["sources"] == here[-1]["sources"]]


def _asked(known: Iterable[Line], question: str, arm: str) -> list[Line]:
    """One line a round, the newest, without failures."""
    of_round = {line["round"]: line for line in known if (line["question"], line["arm"]) == (question, arm)}
    return [line for line in of_round.values() if "error" not in line]


def _arms(known: Iterable[Line], question: str) -> list[str]:
    """Those that have a figure, as they were asked."""
    return list(dict.fromkeys(e["arm"] for e in known if e["question"] == question and "error" not in e))


def _questions(known: Iterable[Line]) -> list[str]:
    return list(dict.fromkeys(line["question"] for line in known if line["question"] != "ceilings"))


def _arms_with_commas(known: Iterable[Line], question: str) -> list[str]:
    return [arm for arm in _arms(known, question) if ", " in arm]


def _by_size(known: Sequence[Line]) -> list[tuple[tuple[str, int, int], list[Line]]]:
    def size(line: Line) -> tuple[str, int, int]:
        return line["question"] != "images", line["num_images"], line["num_classes"]

    return [(key, list(runs)) for key, runs in groupby(sorted(known, key=size), key=size)]


def _ceiling(known: list[Line], line: Line, name: str) -> float:
    """What the machine reached in the round of a line, or in the newest round that looked."""
    looks = [each for each in known if each["question"] == "ceilings" and name in each]
    of_round = [each for each in looks if each["round"] == line["round"]]
    return (of_round or looks)[-1][name]


def _share_reached(known: list[Line], runs: list[Line]) -> str:
    """Of the peak at the precision that the engine chose."""
    shares = []
    for run in runs:
        precision = run["engine"]["precision"]
        work = PASSES * OPERATIONS * run["macs"] * run["num_train"] * run["n"]
        shares.append(work / run["training_seconds"] / _ceiling(known, run, f"mm_{precision}"))
    return f"{statistics.median(shares):.0%}"


def _times(known: list[Line], question: str, arm: str, base: str, name: str, *, is_rate: bool = False) -> str:
    """How many times as fast the base is as a peer, in the rounds that have both."""
    if arm.startswith("vitreous"):
        return ""
    theirs, ours = ({line["round"]: line[name] for line in _asked(known, question, each)} for each in (arm, base))
    rounds = sorted(theirs.keys() & ours.keys())
    ratios = [ours[each] / theirs[each] if is_rate else theirs[each] / ours[each] for each in rounds]
    if not ratios:
        return ""
    spread = f" ({_two_digits(min(ratios))} to {_two_digits(max(ratios))})" if len(ratios) > 1 else ""
    return f"{_two_digits(statistics.median(ratios))} x{spread}"


def _two_digits(ratio: float) -> str:
    """Or more, where it is large.

    >>> _two_digits(3.456), _two_digits(123.4)
    ('3.5', '123')
    """
    return f"{ratio:.2g}" if ratio < 99.5 else f"{ratio:,.0f}"


def _spread(asked: list[Line], name: str, unit: str) -> str:
    values = [line[name] for line in asked]
    if not values:
        return NOTHING
    spread = f" ({min(values):.4g} to {max(values):.4g})" if len(values) > 1 else ""
    return f"{statistics.median(values):.4g}{spread} {unit}".strip()


def _percent(values: list[float]) -> str:
    spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.2f}{spread} %"


def _told(known: list[Line]) -> list[str]:
    """What failed, the machine and its peak, and the versions; each a line."""
    told = []
    failed = {f"{line['arm']} ({line['error']})": line for line in known if "error" in line}
    failed = {why: line for why, line in failed.items() if not _asked(known, line["question"], line["arm"])}
    if failed:
        told.append(f"Not measured: {'; '.join(sorted(failed))}.")
    looks = [line for line in known if line["question"] == "ceilings" and "mm_fp32" in line]
    if looks:
        peak = {
            name: statistics.median(line[name] for line in looks)
            for name in ("mm_fp32", "mm_bf16", "conv_fp32", "conv_bf16", "bytes_per_second")
        }
        told.append(
            f"The machine's peak in these rounds, in 10^9 operations a second: products of matrices "
            f"{peak['mm_fp32'] / 1e9:,.0f} (fp32), {peak['mm_bf16'] / 1e9:,.0f} (bf16); 3x3 convolutions "
            f"{peak['conv_fp32'] / 1e9:,.0f} and {peak['conv_bf16'] / 1e9:,.0f}; "
            f"{peak['bytes_per_second'] / 1e9:.1f} GB/s copied."
        )
    pairs = {pair for line in known for pair in line.get("versions", {}).items()}
    if pairs:
        told.append(f"Versions: {', '.join(f'{name} {number}' for name, number in sorted(pairs))}.")
    machines = sorted({line["machine"] for line in known})
    return [*told, f"Machine: {'; '.join(machines)}."] if machines else told
