"""What runs on a device: a few lines of Python that need nothing but it, sent as they are.

They are constants: no name, path or number of the user's is ever put into a command that a shell on the device reads,
but a folder's name that is made here of hexadecimal digits.
"""

# Says what is there, and removes what a link that was cut a day ago may have left.
PROBE = """
import importlib.metadata, importlib.util, json, os, platform, shutil, sys, time
sys.path[:] = [path for path in sys.path if path]  # a folder zoo or tensorrt in the home is no package
for name in os.listdir("."):
    if name.startswith(".zoo-") and time.time() - os.path.getmtime(name) > 86400:
        shutil.rmtree(name, ignore_errors=True)
def version(*names):
    for name in names:
        try:
            return importlib.metadata.version(name)
        except Exception:
            pass
def importable(name):
    try:
        return importlib.util.find_spec(name) is not None
    except Exception:
        return False
def trtexec():
    for path in (shutil.which("trtexec"), "/usr/src/tensorrt/bin/trtexec"):
        if path and os.path.exists(path):
            return path
print(json.dumps({
    "python": platform.python_version(), "machine": platform.machine(), "system": platform.system(),
    "free": shutil.disk_usage(".").free,
    "onnxruntime": version("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"), "numpy": version("numpy"),
    "pillow": version("pillow"), "torch": version("torch"),
    "tensorrt": (version("tensorrt", "tensorrt-cu13", "tensorrt-cu12") or "of no known version")
    if importable("tensorrt") else None,
    "zoo": version("zoo-export") if importable("zoo.__main__") else None, "trtexec": trtexec(),
}))
"""

# Begins what is run in a folder: that is removed in the end, when this is stopped, and when the link breaks, which is
# seen by the standard input ending. What was started goes with it, and with what it started itself. Caches that a
# library would leave in the home go into the folder, and ONNX Runtime, whose packages since 1.31 send events to their
# maker and leave a number of the device in its home, is told not to.
_GUARD = """
import hashlib, json, os, shutil, signal, subprocess, sys, threading
folder, hashes = sys.argv[1], json.loads(sys.argv[2])
done = threading.Event()
child = None
def leave(*_):
    if child is not None and child.poll() is None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except OSError:
            pass  # it ended just now
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(9)
def watch():
    while sys.stdin.buffer.read(1):
        pass
    if not done.is_set():
        leave()
for name in ("SIGHUP", "SIGTERM", "SIGPIPE"):
    signal.signal(getattr(signal, name), leave)
threading.Thread(target=watch, daemon=True).start()
def changed():
    for name, wanted in hashes.items():
        with open(os.path.join(folder, name), "rb") as file:
            got = hashlib.sha256()
            for block in iter(lambda: file.read(1 << 20), b""):
                got.update(block)
        if got.hexdigest() != wanted:
            return name + " did not arrive as it was sent"
    return ""
def run(*command):
    global child
    cache = os.path.join(os.path.abspath(folder), "cache")
    here = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "XDG_CACHE_HOME": cache, "ZOO_CACHE": cache,
            "CUDA_CACHE_PATH": cache, "PYTHONDONTWRITEBYTECODE": "1"}
    child = subprocess.Popen([sys.executable, *command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             stdin=subprocess.DEVNULL, start_new_session=True, env=here)
    out, err = child.communicate()
    return {"code": child.returncode, "out": out.decode("utf-8", "replace"),
            "err": err.decode("utf-8", "replace")[-2000:]}
"""

_END = """
except OSError as error:
    answer = {"error": str(error)}
finally:
    done.set()
    shutil.rmtree(folder, ignore_errors=True)
sys.stdout.write(json.dumps(answer) + "\\n")
sys.stdout.flush()
os._exit(0)
"""

# Hashes the files of its folder, and runs the package.
RUN = f"""{_GUARD}
try:
    answer = {{"error": changed()}}
    if not answer["error"]:
        answer = run("package.zoo", *json.loads(sys.argv[3]))
{_END}"""

# Hashes the files of its folder, gives those of an artifact their names, has the device's own zoo build it where that
# is asked for, and measures it.
ENGINE = f"""{_GUARD}
try:
    answer = {{"error": changed()}}
    if not answer["error"]:
        with open(os.path.join(folder, "task"), encoding="utf-8") as file:
            task = json.load(file)
        for sent, name in task["files"].items():
            place = os.path.join(folder, "artifact", *name.split("/"))
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.replace(os.path.join(folder, sent), place)
        built = None
        if task["build"]:
            built = answer = run("-P", "-m", "zoo", "build", "artifact", "--json")
        if not task["build"] or built["code"] == 0:
            answer = run("-P", "-m", "zoo.exporter.device.engine", json.dumps(task["measure"]))
            answer["built"] = built and built["out"]
{_END}"""
