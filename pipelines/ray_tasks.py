"""Tasks on a Ray cluster, or on one that is started here and stopped at the end.

`RAY_ADDRESS` names a cluster, whose machines need this package and the run's folder under the same
paths; without it two lines of Ray on this machine do. Ray is spoken to directly: datatrove's
executor for it runs a task in a process pool inside an actor, which waits forever when that process
is killed, and tells errors to a log only. A task whose worker was killed is tried again by Ray.

Ray's usage statistics and dashboard are off, and a cluster of our own listens on loopback only.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from pipelines.tasks import TaskError, Watch, run_task

RETRIES = 2  # of a task whose process was killed, not of one that raised
STORE_BYTES = 80 << 20  # nothing passes through Ray's object store but errors; it wants 75 MB


def _connect(workers: int) -> None:
    """Join the cluster that `RAY_ADDRESS` names, or start one with `workers` processors."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    elsewhere = bool(os.environ.get("RAY_ADDRESS"))
    if not elsewhere:
        # "No cluster of several machines": Ray's servers then bind to loopback only, which it does
        # by itself only where it knows no other kind of cluster. It is read when Ray is imported.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ImportError:
        raise TaskError(
            "executor: ray needs the package ray, which is not installed: "
            "pip install 'gristmill[ray]'"
        ) from None
    if ray.is_initialized():
        return
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if elsewhere:
        ray.init(**quiet)
        return
    # A short path: sockets in it may have 107 bytes.
    folder = tempfile.mkdtemp(prefix="ray-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(ray.shutdown)  # runs before the line above
    ray.init(
        address="local",
        num_cpus=workers,
        num_gpus=0,
        object_store_memory=STORE_BYTES,
        include_dashboard=False,
        _temp_dir=folder,
        **quiet,
    )


def run_on_ray(stage: Path, name: str, count: int, workers: int, watch: Watch) -> None:
    """Run tasks 0 to count - 1, `workers` at once.

    Raises the exception of the first task that failed;
    TaskError if a task's process was killed again and again.
    """
    _connect(workers)
    import ray

    task = ray.remote(num_cpus=1, max_retries=RETRIES)(run_task)
    folder = stage.resolve()
    waiting = list(range(count))[::-1]
    running: dict = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                number = waiting.pop()
                running[task.remote(folder, name, number)] = number
            ready, _ = ray.wait(list(running), timeout=0.25)
            watch.glance()
            for reference in ready:
                number = running.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise (error.cause or TaskError(str(error))) from None
                except ray.exceptions.RayError as error:
                    raise TaskError(
                        f"{name}: task {number} was killed {RETRIES + 1} times (out of memory?): "
                        f"{str(error).splitlines()[0]}; run the same command again to go on"
                    ) from None
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
