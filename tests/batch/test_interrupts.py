"""Batches that are stopped or killed, as processes of their own."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from hashlib import sha256

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

PARAMETERS = 'profile = "quick"\nbackend = "numpy"\nseed = 1\noutput_dir = "figures"'
SAVE = """
import hashlib, os, pathlib, time
def save_figure(figure, name):
    for part in range(3):
        content = hashlib.sha256(f"{figure} {part}".encode()).digest()
        (pathlib.Path(output_dir) / f"{name}_{part}.bin").write_bytes(content)
"""
KILLS = 4
STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def write_notebook(path, *sources):
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), *map(new_code_cell, sources)]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def start(notebooks, out, *options, **kept):
    command = [sys.executable, "-m", "srlib", "regenerate", "--notebooks", str(notebooks), "--out", str(out), *options]
    return subprocess.Popen(command, text=True, preexec_fn=heed, **kept)


def heed():
    """Heed what a process started in the background, or by nohup, inherits that it ignores."""
    for number in STOPS:
        signal.signal(number, signal.SIG_DFL)


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.02)


def processes_about(directory):
    """Return the processes whose command line names a directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(directory) in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def hashes(out):
    made = [path for path in out.rglob("*") if path.is_file() and "manifests" not in path.parts]
    return {str(path.relative_to(out)): sha256(path.read_bytes()).hexdigest() for path in made}


def manifests(out):
    return {path.name: json.loads(path.read_text()) for path in out.glob("manifests/*.json")}


@pytest.mark.slow
def test_a_batch_that_is_killed_again_and_again_ends_as_one_that_is_not(tmp_path):
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    for number in range(3):
        save = f'save_figure(seed + {number}, "figure_{number}")'
        write_notebook(notebooks / f"{number}.ipynb", SAVE, save, "time.sleep(0.3)")
    begun = time.monotonic()
    assert start(notebooks, tmp_path / "undisturbed").wait() == 0
    whole = time.monotonic() - begun
    out, moments = tmp_path / "out", random.Random(2022)
    for _ in range(KILLS):
        before = manifests(out)
        process = start(notebooks, out, stdout=subprocess.DEVNULL)
        time.sleep(moments.uniform(0, whole))
        process.kill()
        process.wait()
        after = manifests(out)
        assert {name: after.get(name) for name in before} == before  # no finished job has been repeated
        for manifest in after.values():
            assert all(hashes(out)[name] == digest for name, digest in manifest["outputs"].items())
        wait_until(lambda: not processes_about(out), seconds=10)
    before = manifests(out)
    assert start(notebooks, out, stdout=subprocess.DEVNULL).wait() == 0
    assert {name: manifest for name, manifest in manifests(out).items() if name in before} == before
    assert hashes(out) == hashes(tmp_path / "undisturbed")
    assert sorted(path.name for path in out.iterdir()) == ["figures", "manifests", "notebooks"]


@pytest.mark.slow
@pytest.mark.parametrize("number", STOPS)
def test_an_interrupt_or_two_leave_no_process_and_nothing_unfinished_but_what_had_finished(tmp_path, number):
    started, out = tmp_path / "started", tmp_path / "out"
    write_notebook(tmp_path / "01_ends.ipynb", SAVE, 'save_figure(1, "done")')
    tell = f'save_figure(2, "undone")\npathlib.Path({str(tmp_path)!r}, "pid").write_text(str(os.getpid()))'
    tell += f"\nos.rename({str(tmp_path / 'pid')!r}, {str(started)!r})"
    write_notebook(tmp_path / "02_sleeps.ipynb", SAVE, tell, "time.sleep(600)")
    write_notebook(tmp_path / "03_waits.ipynb", SAVE, 'save_figure(3, "never")')
    process = start(tmp_path, out, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    wait_until(started.exists)
    kernel = int(started.read_text())
    assert psutil.pid_exists(kernel)
    process.send_signal(number)
    time.sleep(0.05)
    process.send_signal(number)  # if it still runs
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert said == "Interrupted; notebooks that had not finished left nothing.\n"
    assert sorted(path.name for path in out.iterdir()) == ["figures", "manifests", "notebooks"]
    assert {path.stem for path in (out / "notebooks").iterdir()} == {"01_ends"}
    assert {path.stem for path in (out / "figures").iterdir()} == {"done_0", "done_1", "done_2"}
    assert not psutil.pid_exists(kernel)
    assert not processes_about(out)


@pytest.mark.slow
def test_progress_is_a_line_for_each_running_job_on_a_terminal(tmp_path):
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    write_notebook(tmp_path / "01_waits.ipynb", SAVE, "1", "time.sleep(2)")
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    process = start(tmp_path, tmp_path / "out", stdout=slave)
    os.close(slave)
    said = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        said += part
    assert process.wait() == 0
    text = said.decode()
    assert "01_waits  cell 5 of 5" in text, said
    assert "01_waits  ok" in text
