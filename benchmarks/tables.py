"""Write the tables and plots of README and docs from the lines in benchmarks/results/.

python -m benchmarks.tables [--check]
"""

import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path

import matplotlib as mpl

from benchmarks import speed_tables
from benchmarks.depth import NETWORKS
from benchmarks.gain import QUESTIONS as GAIN_QUESTIONS
from benchmarks.lines import read_lines

ROOT = Path(__file__).parent.parent
END = "<!-- end -->"
BLUE, ORANGE = "#0072b2", "#d55e00"  # Okabe and Ito 2008: told apart whatever one's eyes


def main() -> None:
    write_table("accuracy", ROOT / "README.md", accuracy_table)
    write_table("gain", ROOT / "docs" / "transfer.md", gain_table)
    write_table("depth", ROOT / "docs" / "depth.md", depth_table)
    write_table("mirroring", ROOT / "docs" / "augmentation.md", mirroring_table)
    write_table("proof", ROOT / "docs" / "proof.md", proof_table)
    write_table("seethrough", ROOT / "docs" / "seethrough.md", seethrough_table)
    write_table("summary_growth", ROOT / "docs" / "seethrough.md", summary_growth_table)
    write_table("blur", ROOT / "docs" / "seethrough.md", blur_table)
    for results, table in speed_tables.TABLES.items():
        write_table(results, ROOT / "docs" / "speed.md", table)
    if "--check" not in sys.argv:
        mpl.use("svg")
        mpl.rcParams |= {"svg.hashsalt": "vitreous", "svg.fonttype": "none", "font.family": "sans-serif"}
        draw_gain(read_lines("gain"), ROOT / "docs" / "transfer.svg")
        draw_depth(read_lines("depth"), ROOT / "docs" / "depth.svg")
        speed_tables.draw_growth(read_lines("growth"), ROOT / "docs" / "speed-growth.svg")


def write_table(results: str, place: Path, table: Callable[[list[dict]], str]) -> None:
    """Replace what stands between the marks of ``results`` in ``place``."""
    start = f"<!-- {results}: written by benchmarks/tables.py -->"
    old = place.read_text(encoding="utf-8")
    before, rest = old.split(start)
    new = f"{before}{start}\n{table(read_lines(results))}{END}{rest.split(END, 1)[1]}"
    if "--check" in sys.argv and new != old:
        sys.exit(f"{place.name} is not what benchmarks/results says; run python -m benchmarks.tables")
    place.write_text(new, encoding="utf-8")


def accuracy_table(lines: list[dict]) -> str:
    """One row a question: the newest sources that answered it, all their seeds."""
    groups: dict[str, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        groups[line["question"]][line["sources"]].append(line)
    rows = ["| command | test images | test accuracy, mean ± sd | seeds | training, median |", "|---|---|---|---|---|"]
    newest = {question: list(by_sources.values())[-1] for question, by_sources in groups.items()}
    for runs in newest.values():
        accuracies = [run["accuracy"] for run in runs]
        spread = statistics.stdev(accuracies) if len(runs) > 1 else 0.0
        command = runs[0]["command"].rpartition(" --seed")[0]
        seconds = statistics.median(run["seconds"] for run in runs)
        rows.append(
            f"| `{command}` | {runs[0]['num_images']:,} | {statistics.mean(accuracies):.2%} ± {spread:.2%} "
            f"| {len(runs)} | {seconds:.0f} s |"
        )
    recalls = [recall_sentence(runs) for question, runs in newest.items() if question == "lights"]
    machines = sorted({run["machine"] for runs in newest.values() for run in runs})
    return "\n".join([*rows, "", *recalls, f"Machine: {'; '.join(machines)}.", ""])


def recall_sentence(runs: list[dict]) -> str:
    """Traffic lights, class by class: the smallest has few images, so the headline hides it."""
    shares = (
        f"{name} {statistics.mean(run['recall'][name] for run in runs):.1%} of {support}"
        for name, support in runs[0]["support"].items()
    )
    return (
        "traffic-lights is a folder of photographs that `benchmarks/registry.py` fetches; mean recall by class: "
        f"{', '.join(shares)} test images.\n"
    )


# --- docs/transfer.md -------------------------------------------------------------------------------------------------


def gain_table(lines: list[dict]) -> str:
    """One row a question: both arms as far as they are measured, and the difference of each seed's pair."""
    rows = [
        "| images | network | training images | steps | from scratch | fine-tuned | gain, points | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for question in [each.name for each in GAIN_QUESTIONS]:
        asked = [line for line in lines if line["question"] == question]
        if not asked:
            continue
        first = asked[0]
        scratch, tuned = (
            {line["seed"]: line["accuracy"] for line in asked if line["arm"] == arm}
            for arm in ("from scratch", "fine-tuned")
        )
        gains = [tuned[seed] - scratch[seed] for seed in tuned.keys() & scratch.keys()]
        labels = "" if first["labels_per_class"] is None else f", {first['labels_per_class']:,} labels a class"
        num_seeds = max(len(scratch), len(tuned))
        rows.append(
            f"| {first['data']}{labels} | `{first['model']}` | {first['num_train']:,} | {first['steps']:,} "
            f"| {_share(scratch.values())} | {_share(tuned.values())} | {_points(gains)} | {num_seeds} |"
        )
    machines = sorted({line["machine"] for line in lines})
    return "\n".join([*rows, "", f"Machine: {'; '.join(machines)}.", ""])


def draw_gain(lines: list[dict], target: Path) -> None:
    """Accuracy over labels a class on CIFAR-10, every seed a point and their mean a line."""
    from matplotlib import pyplot as plt

    known = [each for each in lines if each["data"] == "cifar10" and each["model"] == "mobilenet_v2"]
    figure, axes = plt.subplots(figsize=(6.4, 4))
    for arm, colour, marker in (("fine-tuned", BLUE, "o"), ("from scratch", ORANGE, "s")):
        by_labels: dict[int, list[float]] = defaultdict(list)
        for line in known:
            if line["arm"] == arm:
                by_labels[line["labels_per_class"]].append(100 * line["accuracy"])
        counts = sorted(by_labels)
        for count in counts:
            axes.plot([count] * len(by_labels[count]), by_labels[count], marker, color=colour, alpha=0.4, ms=5)
        means = [statistics.mean(by_labels[count]) for count in counts]
        axes.plot(counts, means, marker=marker, color=colour, label=arm)
        for count, mean in zip(counts, means, strict=True):
            axes.annotate(f"{mean:.1f}", (count, mean), (7, -13), textcoords="offset points", color=colour)
    axes.set(
        xscale="log", ylim=(0, 100), xlabel="labelled images of each class", ylabel="accuracy on 10,000 test images, %"
    )
    axes.margins(x=0.1)
    axes.set_xticks(sorted({line["labels_per_class"] for line in known}), minor=False)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="lower right")
    axes.set_title(
        "CIFAR-10 at 128 px, MobileNetV2: the same steps from ImageNet's weights and from scratch", fontsize=9
    )
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


# --- docs/depth.md ----------------------------------------------------------------------------------------------------


def depth_table(lines: list[dict]) -> str:
    """One row a network, by depth; both errors."""
    rows = ["| network | training error | test error | last epoch's training loss |", "|---|---|---|---|"]
    known = {line["network"]: line for line in lines}
    for network in NETWORKS:
        errors = "not run to its end yet | | |"
        if line := known.get(network):
            loss = line["train_loss_of_epochs"][-1]
            errors = f"{line['train_error']:.2%} | {line['test_error']:.2%} | {loss:.3f} |"
        rows.append(f"| `{network}` | {errors}")
    first = lines[0]
    told = (
        f"{first['num_train']:,} training images, not varied, {first['num_test']:,} test images; seed {first['seed']}."
    )
    return "\n".join([*rows, "", told, f"Machine: {'; '.join(sorted({line['machine'] for line in lines}))}.", ""])


def draw_depth(lines: list[dict], target: Path) -> None:
    """Training loss over epochs: a colour for plain and residual, a stroke for each depth."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4))
    for line in sorted(lines, key=_depth):
        depth, kind = _depth(line)
        losses = line["train_loss_of_epochs"]
        colour, stroke = (ORANGE if kind == "plain" else BLUE), ("--" if depth > 20 else "-")
        axes.plot(range(1, len(losses) + 1), losses, stroke, color=colour, label=f"{kind}, {depth} layers")
    axes.set(xlabel="epoch", ylabel="training loss, nats", yscale="log")
    axes.set_yticks([0.3, 0.5, 1, 2], labels=["0.3", "0.5", "1", "2"])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    axes.set_title("CIFAR-10: the same recipe with and without skip connections", fontsize=9)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def _depth(line: dict) -> tuple[int, str]:
    name = line["network"].removesuffix("-cifar")
    kind = name.rstrip("0123456789")
    return int(name.removeprefix(kind)), {"plain": "plain", "resnet": "residual"}[kind]


# --- docs/proof.md ----------------------------------------------------------------------------------------------------


def proof_table(lines: list[dict]) -> str:
    """One row a promise: its newest line."""
    if not lines:
        return "Not measured yet.\n"
    newest = {line["name"]: line for line in lines}.values()
    rows = ["| promise | tried | held | seconds | verdicts, SHA-256 | on |", "|---|---|---|---|---|---|"]
    rows += [
        f"| {line['name']} | {line['tried']:,} | {line['held']:,} | {line['seconds']:,.0f} "
        f"| `{line['sha256'][:16]}` | {line['started'][:10]} |"
        for line in newest
    ]
    versions = "; ".join(sorted({", ".join(f"{k} {v}" for k, v in line["versions"].items()) for line in newest}))
    machines = "; ".join(sorted({line["machine"] for line in newest}))
    told = f"Each by `python -m benchmarks.proof`, as `vitreous prove --full` does it. {versions}. Machine: {machines}."
    return "\n".join([*rows, "", told, ""])


# --- docs/seethrough.md -----------------------------------------------------------------------------------------------


def seethrough_table(lines: list[dict]) -> str:
    """One row for each network and tool, of the newest run that asked about the network."""
    if not lines:
        return "Not measured yet.\n"
    newest = {line["network"]: line["started"] for line in lines}  # lines are only added
    asked = [line for line in lines if line["started"] == newest[line["network"]]]
    knowing = {line["tool"] for line in asked if set(line.get("fields", ())) - {"unknown"}}  # receptive fields at all
    rows = [
        "| network | tool | parameters | MACs | functions, with shapes | receptive fields | warm | cold |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in asked:
        first = line["network"] if line["tool"] == asked[0]["tool"] else ""
        rows.append(f"| {first} | {line['tool']} | {' | '.join(_answers(line, line['tool'] in knowing))} |")
    last = asked[-1]
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    told = [f"Versions: {versions}.", f"Machine: {last['machine']}; one thread; rounds: {last['rounds']}."]
    return "\n".join([*rows, "", *told, ""])


def summary_growth_table(lines: list[dict]) -> str:
    """One row for each network: the newest line about it."""
    if not lines:
        return "Not measured yet.\n"
    newest = {line["network"]: line for line in lines}.values()
    rows = ["| `vitreous summary` of | median | fastest to slowest | rounds |", "|---|---|---|---|"]
    for line in newest:
        spread = f"{min(line['seconds']):.2f} to {max(line['seconds']):.2f} s"
        rows.append(f"| {line['network']} | {line['median']:.2f} s | {spread} | {line['rounds']} |")
    machines = sorted({line["machine"] for line in newest})
    return "\n".join([*rows, "", f"Machine: {'; '.join(machines)}.", ""])


def _answers(line: dict, knows_fields: bool) -> list[str]:
    """Of one tool about one network: a cell for each question."""
    if "error" in line:
        return [f"fails: `{line['error'].partition(':')[0]}`", *["–"] * 5]
    truth, kinds = line["truth"], line["fields"]
    functions = f"{line['functions_told']} of {line['functions']}" if line["functions"] else "has none"
    is_silent = not line["functions_told"] and line["functions"]
    if set(kinds) == {"unknown"}:
        fields = "unknown" if knows_fields else "not told"
    elif len(truth["fields"]) == 1:
        (told,), (kind,) = line["fields_told"].values(), kinds
        fields = f"{told[0][0]} px, {kind}"
    else:
        fields = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return [
        _beside(line["parameters"], truth["parameters"]),
        _beside(line["macs"], truth["macs"]),
        "not told" if is_silent else functions,
        fields,
        *(f"{line[key]:.3f} s" for key in ("warm_seconds", "cold_seconds")),
    ]


def _beside(said: int, true: int) -> str:
    return f"{said:,}" if said == true else f"{said:,} ({100 * (said / true - 1):+.2g} %)"


def mirroring_table(lines: list[dict]) -> str:
    """One row a data set, from the one that looks most the same in a mirror; the newest line of each."""
    newest = {line["data"]: line for line in lines}
    rows = ["| images | nearer to an image than to a mirror image | mirrored |", "|---|---|---|"]
    for line in sorted(newest.values(), key=lambda line: line["num_nearer"] / line["num_images"]):
        share = f"{line['num_nearer'] / line['num_images']:.0%} of {line['num_images']:,}"
        rows.append(f"| {line['data']} | {share} | {'yes' if line['is_mirrored'] else 'no'} |")
    return "\n".join(rows) + "\n"


def blur_table(lines: list[dict]) -> str:
    """One row for each network with and without blur: accuracy and shift consistency over the seeds."""
    if not lines:
        return "Not measured yet.\n"
    newest = {(line["network"], line["arm"]): line["sources"] for line in lines}
    rows = [
        "| network | | test accuracy | same answer, circular | same answer, edge | MACs | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for (network, arm), sources in sorted(newest.items()):
        runs = [line for line in lines if (line["network"], line["arm"], line["sources"]) == (network, arm, sources)]
        shares = (_share([run[key] for run in runs]) for key in ("accuracy", "same_circular", "same_edge"))
        rows.append(f"| `{runs[0]['line']}` | {arm} | {' | '.join(shares)} | {runs[0]['macs']:,} | {len(runs)} |")
    machines = sorted({line["machine"] for line in lines})
    shift = lines[-1]["max_shift"]
    told = f"Shifts of 1 to {shift} px down, right and both; {lines[-1]['num_images']:,} test images."
    return "\n".join([*rows, "", told, f"Machine: {'; '.join(machines)}.", ""])


def _share(values: Collection[float]) -> str:
    if not values:
        return "not run yet"
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread} %"


def _points(values: Collection[float]) -> str:
    if not values:
        return ""
    spread = f" ({100 * min(values):+.1f} to {100 * max(values):+.1f})" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):+.1f}{spread}"


if __name__ == "__main__":
    main()
