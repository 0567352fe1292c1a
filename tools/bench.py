"""Measures tilework beside onnxruntime-web in one page of a browser and writes the figures.

Owns the cases, the folder that the page is served from (build/bench/site) and the statistics;
web/bench/ takes the times. Run by `python3 build.py bench`, which has built everything before.

    python -m tools.bench [--json FILE] [--only PATTERN] [--threads 1 2] [--seconds S]
                          [--engine chromium] [--sides tilework peer] [--check]
"""

from __future__ import annotations

import argparse
import fnmatch
import gzip
import json
import os
import shutil
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx

from tests.onnx.language import SHORT, language
from tools import fetch
from tools.bench_models import (
    HEADS,
    NETWORKS,
    WIDTH,
    decoder_caches,
    decoder_model,
    made_models,
    matmul_integer_model,
    matmul_model,
)
from tools.engines import ENGINES, EnginePage
from tools.minilm import write_pieces
from tools.project import BUILD, DIST, ROOT, BuildError, files_below, remove, replace_file
from tools.quantised import DATA_NAME, make_quantised, save_apart
from tools.web_host import static_host
from tools.wheel import wheel_name

SHARED = ("chromium", "firefox")  # the engines here that share memory among threads
FOLDER = BUILD / "bench"
SITE = FOLDER / "site"
PEER = f"onnxruntime-web {fetch.ONNXRUNTIME.version}"
PEER_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
MATMULS = (64, 256, 512, 1024)
INTEGER_MATMULS = (512, 1024)
SEQUENCES = (16, 128, 256)
TOKENS = 64  # of the decoder
LANGUAGE = "language_q4"
PROMPTS = (32, 128)
VOCABULARY = 30522  # of MiniLM
MANIFEST = "models/minilm/model.onnx.data.json"
INT8 = "bench/models/minilm-int8"
# More than fits into one answer.
LARGE = ("resnet50_int8", "resnet50_int8_channels", "whisper_encoder", "whisper_step", "lstm")
TOLERANCE = 1e-3  # largest difference of the two sides' outputs, relative to the largest value
# A sum rounded otherwise moves a byte by one, in every layer: onnxruntime with and without its
# optimisations differs from itself by 0.08 on 256 tokens.
INT8_TOLERANCE = 0.2

# What is asked for: (case, threads) or a figure, and its floor or ceiling.
RATIOS = {
    **{(name, threads): 1.0 for name in made_models() for threads in (1, 2)},
    **{(name, threads): 1.2 for name in NETWORKS for threads in (1, 2)},
    **{(f"matmul_integer_{n}", threads): 2.0 for n in INTEGER_MATMULS for threads in (1, 2)},
    **{(name, threads): 1.2 for name in made_models() if "_int8" in name for threads in (1, 2)},
    **{(f"minilm_int8_{s}", threads): 1.0 for s in SEQUENCES for threads in (1, 2)},
    **{(f"gpt_decode_{TOKENS}", threads): 1.5 for threads in (1, 2)},
    **{(f"llm_q4_prefill_{rows}", threads): 1.5 for rows in PROMPTS for threads in (1, 2)},
    **{("llm_q4_decode", threads): 1.5 for threads in (1, 2)},
    ("matmul_1024", 1): 1.6,
    ("matmul_1024", 2): 1.7,
    ("minilm_128", 1): 1.5,
    ("minilm_128", 2): 1.5,
    ("minilm_16", 1): 1.8,
    ("minilm_16", 2): 1.8,
}
FIGURES = {
    "dispatch": ("us", "most", 0.5),
    "submit_from_python": ("us", "most", 60.0),
    "numpy_matmul_512": ("ratio", "least", 50.0),
    "heap_muladd_4m": ("ratio", "least", 4.0),
    "wheel_gz_bytes": ("bytes", "most", 1_000_000),
    "load_ms": ("ms", "most", None),
    "plan_ms": ("ms", "most", 500.0),
}
IN_HEAP = ("heap_muladd_4m",)  # figures of Pyodide on a shared heap
SCALING = 1.8  # two threads over one, matmul_1024

Row = dict[str, Any]


def cases(seconds: float) -> list[Row]:
    """The comparisons, as web/bench/page.js takes them."""
    found: list[Row] = []
    for n in MATMULS:
        a, b = ({"name": name, "dims": [n, n]} for name in "ab")
        found.append({"name": f"matmul_{n}", "model": f"bench/models/matmul_{n}.onnx"})
        found[-1]["feeds"] = [a, b]
        found.append({"name": f"matmul_const_{n}", "model": f"bench/models/matmul_const_{n}.onnx"})
        found[-1]["feeds"] = [a]
    found += [minilm(f"minilm_{s}", s) for s in SEQUENCES]
    for s in SEQUENCES:
        files = {"model": f"{INT8}/model.onnx", "manifest": f"{INT8}/{DATA_NAME}.json"}
        found.append(minilm(f"minilm_int8_{s}", s) | files | {"tolerance": INT8_TOLERANCE})
    for n in INTEGER_MATMULS:
        name = f"matmul_integer_{n}"
        feed = {"name": "a", "dims": [n, n], "bytes": "uint8"}
        found.append({"name": name, "model": f"bench/models/{name}.onnx", "feeds": [feed]})
    for name, made in made_models().items():
        feeds = [{"name": made.feed, "dims": made.dims}, *made.more]
        found.append({"name": name, "model": f"bench/models/{name}.onnx", "feeds": feeds})
        if "_int8" in name:
            found[-1]["tolerance"] = INT8_TOLERANCE
        if name in LARGE:
            found[-1]["model"] = f"bench/models/{name}/model.onnx"
            found[-1]["manifest"] = f"bench/models/{name}/{DATA_NAME}.json"
    found.append(decoder())
    found += language_cases()
    return [{**case, "seconds": seconds} for case in found]


def minilm(name: str, sequence: int) -> Row:
    """MiniLM on one sentence of `sequence` random tokens, none masked."""
    dims = [1, sequence]
    return {
        "name": name,
        "model": "models/minilm/model.onnx",
        "manifest": MANIFEST,
        "feeds": [
            {"name": "input_ids", "dims": dims, "below": VOCABULARY},
            {"name": "attention_mask", "dims": dims, "below": 1},
            {"name": "token_type_ids", "dims": dims, "below": 0},
        ],
        "seconds": 1,
    }


def decoder() -> Row:
    """A run is so many words one after the other, each from the caches that the last one gave."""
    past = [1, HEADS, 0, WIDTH // HEADS]
    return {
        "name": f"gpt_decode_{TOKENS}",
        "model": "bench/models/decoder.onnx",
        "feeds": [
            {"name": "ids", "dims": [1, 1], "below": 1},
            *({"name": fed, "dims": past} for _, fed in decoder_caches()),
        ],
        "tokens": TOKENS,
        "fed": decoder_caches(),
    }


def language_cases() -> list[Row]:
    """A prompt of a model of 4 bits at once, and words behind 32 one by one."""
    shape = [1, SHORT.kv_heads, 0, SHORT.size]
    files = {f"{key}": f"bench/models/{LANGUAGE}/{name}" for key, name in
             (("model", "model.onnx"), ("manifest", f"{DATA_NAME}.json"))}  # fmt: skip

    def feeds(rows: int, past: int) -> list[Row]:
        caches = [{"name": fed, "dims": [*shape[:2], past, shape[3]]} for _, fed in SHORT.caches()]
        return [
            {"name": "input_ids", "dims": [1, rows], "below": SHORT.words},
            {"name": "attention_mask", "dims": [1, past + rows], "below": 1},
            *caches,
        ]

    found: list[Row] = [
        {"name": f"llm_q4_prefill_{rows}", "feeds": feeds(rows, 0)} for rows in PROMPTS
    ]
    found.append({"name": "llm_q4_decode", "feeds": feeds(1, 32), "tokens": 8,
                  "fed": SHORT.caches(), "grows": "attention_mask"})  # fmt: skip
    return [{**files, **one} for one in found]


# -- the site ------------------------------------------------------------------------------------


def make_site() -> None:
    """dist/ with onnxruntime-web, the bench's page and its models beside it, as hard links."""
    remove(SITE)
    for path in files_below(DIST):
        _link(path, SITE / path.relative_to(DIST))
    # The checkout's own bench, in case dist/ is older.
    for folder, target in (("static/bench", "bench"), ("web/bench", "web/bench")):
        for path in files_below(ROOT / folder):
            _link(path, SITE / target / path.relative_to(ROOT / folder))
    _link(ROOT / "tests/bench/in_page.py", SITE / "bench/in_page.py")
    for name in PEER_FILES:
        _link(fetch.ONNXRUNTIME.folder / "dist" / name, SITE / "bench/onnxruntime-web" / name)
    for n in MATMULS:
        for constant in (False, True):
            name = f"matmul_{'const_' if constant else ''}{n}.onnx"
            if not (FOLDER / "models" / name).is_file():
                replace_file(FOLDER / "models" / name, matmul_model(n, constant))
            _link(FOLDER / "models" / name, SITE / "bench/models" / name)
    quantised = make_quantised()
    _link(quantised, SITE / INT8 / quantised.name)
    write_pieces(quantised.with_name(DATA_NAME), SITE / INT8)
    for n in INTEGER_MATMULS:
        name = f"matmul_integer_{n}.onnx"
        if not (FOLDER / "models" / name).is_file():
            replace_file(FOLDER / "models" / name, matmul_integer_model(n))
        _link(FOLDER / "models" / name, SITE / "bench/models" / name)
    path = FOLDER / "models" / "decoder.onnx"
    if not path.is_file():
        replace_file(path, decoder_model())
    _link(path, SITE / "bench/models" / path.name)
    apart = FOLDER / "models" / LANGUAGE / "model.onnx"
    if not apart.is_file():
        apart.parent.mkdir(parents=True, exist_ok=True)
        save_apart(language(SHORT), apart)
    _link(apart, SITE / "bench/models" / LANGUAGE / apart.name)
    write_pieces(apart.with_name(DATA_NAME), SITE / "bench/models" / LANGUAGE)
    for name, made in made_models().items():
        path = FOLDER / "models" / f"{name}.onnx"
        if not path.is_file():
            replace_file(path, made.make())
        if name not in LARGE:
            _link(path, SITE / "bench/models" / path.name)
            continue
        made_folder = path.with_suffix("")
        apart = made_folder / "model.onnx"
        if not apart.is_file():
            made_folder.mkdir(parents=True, exist_ok=True)
            save_apart(onnx.load(path), apart)
        _link(apart, SITE / "bench/models" / name / apart.name)
        write_pieces(made_folder / DATA_NAME, SITE / "bench/models" / name)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


# -- measuring -----------------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> list[Row]:
    """All rows that were asked for, printed as they come."""
    chosen = [c for c in cases(options.seconds) if _asked(c["name"], options.only)]
    rows: list[Row] = []
    print(f"tilework beside {PEER}; milliseconds, medians of interleaved runs", flush=True)
    for threads in options.threads:
        with _page(options.engine) as page:
            idle = control(page, "")
            opening = {"threads": threads, "sides": options.sides, "device": True}
            told = page.evaluate("o => bench.open(o)", opening)
            print(f"\n{threads} thread{'s' * (threads > 1)}. {told['tilework']}", flush=True)
            print(_HEAD, flush=True)
            for case in chosen:
                rows.append(compare(page, case, threads, len(options.sides) == 2))
            for side in options.sides if chosen else ():
                print(
                    f"control: plain work on every core takes {idle:.2f} ms before, "
                    f"{control(page, side):.2f} ms soon after {side} has run",
                    flush=True,
                )
    if "tilework" in options.sides:
        rows += figures(options)
    return rows


@contextmanager
def _page(engine: str) -> Iterator[EnginePage]:
    """The bench's page in that browser. BuildError says what the machine lacks for it."""
    absent = ENGINES[engine].absent()
    if absent:
        packages = " ".join(ENGINES[engine].packages())
        raise BuildError(f"{engine}: {absent}; its Debian packages: {packages}")
    with ENGINES[engine].open(static_host(SITE, isolated=True)) as page:
        page.goto("/bench/")
        page.wait_for("() => globalThis.bench !== undefined", 60)
        yield page


def control(page: EnginePage, after: str) -> float:
    """The control's least time: equal ones say that the side `after` sleeps between its turns."""
    options = {"repeat": 25, "after": after}
    return float(min(page.evaluate("o => bench.control(o)", options)))


_HEAD = (
    f"{'case':<18}{'tilework':>9}{'min':>9}{'IQR':>8}"
    f"{'peer':>10}{'min':>9}{'IQR':>8}{'ratio':>8}{'rounds':>8}{'max diff':>10}"
)


def compare(page: EnginePage, case: Row, threads: int, both: bool) -> Row:
    """One case of one thread count, as a row of the report."""
    found = page.evaluate("c => bench.compare(c)", case)
    ours, theirs = found["tilework"], found["peer"]
    line, row = f"{case['name']:<18}", {"case": case["name"], "threads": threads}
    for key, times, widths in (("tilework_ms", ours, (9, 9, 8)), ("peer_ms", theirs, (10, 9, 8))):
        if key == "peer_ms":
            row["peer"] = PEER
        row[key] = round(statistics.median(times), 5) if times else None
        cells = (statistics.median(times), min(times), spread(times)) if times else ("-",) * 3
        line += "".join(_cell(c, w) for c, w in zip(cells, widths, strict=True))
    row["ratio"] = round(row["peer_ms"] / row["tilework_ms"], 4) if both else None
    line += _cell(row["ratio"] if both else "-", 8) + f"{found['rounds']:>8}"
    if both:
        line += f"{found['difference']:>10.1e}"
    print(line, flush=True)
    if both and not found["difference"] <= case.get("tolerance", TOLERANCE):
        raise BuildError(
            f"{case['name']}, {threads} threads: tilework's and the peer's outputs differ by "
            f"{found['difference']:.2e} of the largest value; a time for a wrong result is none."
        )
    return row


def _cell(value: float | str, width: int) -> str:
    if isinstance(value, str):
        return f"{value:>{width}}"
    return f"{value:>{width}.{3 if value < 10 else 2 if value < 100 else 1}f}"


def spread(times: Sequence[float]) -> float:
    """The interquartile range."""
    if len(times) < 2:
        return 0.0
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return high - low


def figures(options: argparse.Namespace) -> list[Row]:
    """The figures that only tilework has, at two threads, each in a fresh page."""
    rows: list[Row] = []
    print("", flush=True)
    specs = {c["name"]: c for c in cases(1)}
    specs = {
        "load_ms": specs["minilm_16"],
        "plan_ms": specs["minilm_128"],
        "numpy_matmul_512": specs["matmul_512"],
    }
    for name, (unit, _, _) in FIGURES.items():
        if not _asked(name, options.only):
            continue
        if name == "wheel_gz_bytes":
            value, more = wheel_bytes(), {}
        else:
            with _page(options.engine) as page:
                device = name != "load_ms"  # which begins before tilework is imported
                opening = {"threads": 2, "sides": ["tilework"], "device": device}
                opening["memory"] = "heap" if name in IN_HEAP else "own"
                page.evaluate("o => bench.open(o)", opening)
                more = page.evaluate("([n, c]) => bench.figure(n, c)", [name, specs.get(name)])
                value = more.pop("value")
        rows.append({"case": name, unit: value})
        detail = ", ".join(f"{k} {v:.4g}" for k, v in more.items())
        print(f"{name:<20} {value:>12.6g} {unit:<6} {detail}", flush=True)
    return rows


def wheel_bytes() -> int:
    """The wheel's size as a host sends it: the smaller of as it is and gzipped."""
    content = (DIST / wheel_name()).read_bytes()
    return min(len(content), len(gzip.compress(content, 9)))


# -- judging -------------------------------------------------------------------------------------


def judge(rows: Iterable[Row]) -> list[str]:
    """Sentences about each figure that was measured and missed."""
    found = list(rows)
    missed = []
    by_case = {(r["case"], r.get("threads")): r for r in found}
    for (case, threads), least in RATIOS.items():
        ratio = by_case.get((case, threads), {}).get("ratio")
        if ratio is not None and ratio < least:
            missed.append(f"{case} at {threads} threads: ratio {ratio:.2f}, floor {least}")
    times = [by_case.get(("matmul_1024", t), {}).get("tilework_ms") for t in (1, 2)]
    if times[0] and times[1] and times[0] / times[1] < SCALING:
        missed.append(
            f"matmul_1024: two threads are {times[0] / times[1]:.2f} times as fast as one, "
            f"floor {SCALING}"
        )
    for name, (unit, kind, bound) in FIGURES.items():
        value = by_case.get((name, None), {}).get(unit)
        if value is None or bound is None:
            continue
        if value > bound if kind == "most" else value < bound:
            missed.append(f"{name}: {value:.4g} {unit}, at {kind} {bound:g}")
    return missed


def _asked(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatch(name, p) for p in patterns)


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write; with --check, 1 when a figure was missed."""
    parser = argparse.ArgumentParser(prog="build.py bench")
    parser.add_argument("--json", type=Path, help="write the rows as a list to this file")
    parser.add_argument("--only", nargs="*", default=[], help="cases, e.g. 'matmul_*' dispatch")
    parser.add_argument("--engine", default=SHARED[0], choices=SHARED)
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=2.5, help="of measuring, a case")
    parser.add_argument("--sides", nargs="*", default=["tilework", "peer"])
    parser.add_argument("--check", action="store_true", help="exit 1 when a figure was missed")
    options = parser.parse_args(arguments)
    make_site()
    rows = measure(options)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        print(f"\nwrote {options.json}")
    missed = judge(rows)
    for sentence in missed:
        print(f"missed: {sentence}")
    return 1 if missed and options.check else 0


def report(rows: Iterable[Mapping[str, Any]]) -> str:
    """The comparisons as a Markdown table, for the README."""
    lines = [f"| case | threads | tilework, ms | {PEER}, ms | ratio |", "|---|---|---|---|---|"]
    for row in rows:
        if "peer_ms" in row:
            ours, theirs = (_cell(row[k], 0) for k in ("tilework_ms", "peer_ms"))
            lines.append(
                f"| {row['case']} | {row['threads']} | {ours} | {theirs} | {row['ratio']:.2f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BuildError as error:
        sys.exit(f"bench: {error}")
