"""How time and memory of our side grow with the size of the work, as one picture.

python benchmarks/growth.py --output docs/growth.png
python benchmarks/growth.py --stages --json
"""

import json
from pathlib import Path

from harness import Settings, measure, parser

HERE = Path(__file__).parent
WALK: Settings = {
    "images": 20,
    "previous": 0,
    "batch_size": 0,
    "walks": 1,
    "syn_steps": 10,
    "size": 32,
    "width": 32,
    "way": "recompute",
}
EXPERTS: Settings = {
    "images": 2000,
    "epochs": 1,
    "batch_size": 256,
    "size": 32,
    "width": 32,
    "networks": 1,
    "precision": "float32",
    "compile": False,
    "workers": 0,
    "processes": 1,
}
STAGES = range(1, 6)

Series = tuple[str, str, list[float], list[Settings]]


def series() -> list[Series]:
    """What grows: a title, the benchmark, the values and the settings of each."""
    steps, images, sizes, networks = [10, 20, 50, 100, 200], [10, 20, 50, 100], [16, 32, 64], [1, 2, 4]
    return [
        ("synthetic steps", "trajectory.py", list(steps), [{"syn_steps": value} for value in steps]),
        ("synthetic images", "trajectory.py", list(images), [{"images": value} for value in images]),
        of_stages(),
        ("image side", "trajectory.py", list(sizes), [{"size": value} for value in sizes]),
        ("experts", "experts.py", list(networks), [{"networks": value} for value in networks]),
    ]


def of_stages() -> Series:
    """Stages of ten images each, by default: a step takes as many images of the union as the stage learns."""
    stages: list[Settings] = [{"images": 10 * k, "previous": 10 * (k - 1), "batch_size": 10} for k in STAGES]
    return "stage, 10 images each", "trajectory.py", list(STAGES), stages


def draw(path: Path, found: list[tuple[str, list[float], list[float], list[float]]]) -> None:
    """One column for each series: seconds above, memory below."""
    import matplotlib  # noqa: PLC0415 (measuring needs none)

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(2, len(found), figsize=(3 * len(found), 5), sharex="col", squeeze=False)
    for column, (title, values, seconds, megabytes) in enumerate(found):
        for row, (y, unit) in enumerate(((seconds, "s"), (megabytes, "MB above baseline"))):
            axes[row, column].plot(values, y, "o-")
            axes[row, column].set_ylim(0, 1.08 * max(y) or 1)
            axes[row, column].grid(alpha=0.3)
            axes[row, column].set_ylabel(unit if column == 0 else "")
        axes[1, column].set_xlabel(title)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    options = parser(__doc__ or "")
    options.add_argument("--output", type=Path, default=None, help="Where to draw the picture.")
    options.add_argument("--stages", action="store_true", help="Stages alone.")
    options.add_argument("--json", action="store_true", help="End with a line of JSON: stage 5 over stage 1.")
    given = options.parse_args()
    common: Settings = {"repeats": given.repeats, "threads": given.threads, "device": given.device}
    results = []
    for title, benchmark, values, changes in [of_stages()] if given.stages else series():
        base = WALK if benchmark == "trajectory.py" else EXPERTS
        taken = [measure(str(HERE / benchmark), {**base, **common, **change}) for change in changes]
        grown = {what: [one[what] for one in taken] for what in ("seconds", "peak_mb")}
        results.append((title, values, grown["seconds"], grown["peak_mb"]))
        print(json.dumps({"growth": title, "values": values, **grown}), flush=True)
    if given.output is not None:
        draw(given.output, results)
    if given.json:
        seconds = next(seconds for title, _, seconds, _ in results if title == of_stages()[0])
        print(json.dumps({"stage5_over_stage1": round(seconds[-1] / seconds[0], 3)}))
