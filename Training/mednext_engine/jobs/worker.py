"""The worker's entry: `python -m mednext_engine.jobs.worker`, or this file's path as a script.

Slicer runs it as a script with its own Python. Options: `--parent PID` ends the worker with that
process too (a launcher may stand between), `--resources FOLDER` says where `Models`, `Catalog` and
`SampleData` lie.
"""

import os
import sys

if not __package__:  # run as a script: Python put jobs/ first, where our names would hide others'
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if os.path.abspath(p) != _here]
    sys.path.insert(0, os.path.dirname(os.path.dirname(_here)))

# OpenVINO reports usage to its maker where it finds this package; without it, it uses a stub.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
# Threads that wait for each other sleep. By default they spin, which takes the cores away from
# Slicer, and on a busy computer from the very threads that they wait for (three times the work).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main(arguments: "list[str] | None" = None) -> int:
    """Serves the client on stdin and stdout until it asks to stop or is gone."""
    import argparse
    import signal
    import threading

    from mednext_engine.jobs import lifeline, logs, server

    parser = argparse.ArgumentParser(prog="mednext_engine.jobs.worker")
    parser.add_argument("--parent", type=int, default=None, metavar="PID")
    parser.add_argument("--resources", default=None, metavar="FOLDER")
    options = parser.parse_args(arguments)
    if options.resources:
        from mednext_engine.models.resources import set_resources

        set_resources(options.resources)
    source, sink = private_streams()
    redaction, log = logs.start_log()
    serving = server.Server(source, sink, redaction, log)
    lifeline.watch(options.parent, serving.leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the parent
    signal.signal(
        signal.SIGTERM, lambda *_: threading.Thread(target=serving.leave, daemon=True).start()
    )
    return serving.run()


def private_streams() -> "tuple[int, int]":
    """Takes stdin and stdout away from everybody else: what a library prints goes to stderr, and
    a child of ours inherits neither. Returns the two descriptors, binary."""
    sys.stdout.flush()
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(source, os.O_BINARY)
        msvcrt.setmode(sink, os.O_BINARY)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    return source, sink


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Native libraries may hang when they are taken down; everything of ours is written.
    os._exit(code)
