"""What runs on a device: a few lines of Python that need nothing but it, sent as they are.

They are constants: no name, path or number of the user's is ever put into a command that a shell on the device reads,
but a folder's name that is made here of hexadecimal digits.
"""

# Says what is there, and removes what a link that was cut a day ago may have left.
PROBE = """
import importlib.metadata, json, os, platform, shutil, sys, time
for name in os.listdir("."):
    if name.startswith(".zoo-") and time.time() - os.path.getmtime(name) > 86400:
        shutil.rmtree(name, ignore_errors=True)
def version(*names):
    for name in names:
        try:
            return importlib.metadata.version(name)
        except Exception:
            pass
print(json.dumps({
    "python": platform.python_version(), "machine": platform.machine(), "system": platform.system(),
    "free": shutil.disk_usage(".").free,
    "onnxruntime": version("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"), "numpy": version("numpy"),
    "pillow": version("pillow"), "torch": version("torch"), "tensorrt": version("tensorrt"),
}))
"""

# Hashes the files of its folder, runs the package, and removes the folder: in the end, when it is stopped, and when the
# link breaks, which it sees by its standard input ending.
RUN = """
import hashlib, json, os, shutil, signal, subprocess, sys, threading
folder, hashes, arguments = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
done = threading.Event()
child = None
def leave(*_):
    if child is not None and child.poll() is None:
        child.kill()
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
answer = {"error": ""}
try:
    for name, wanted in hashes.items():
        with open(os.path.join(folder, name), "rb") as file:
            got = hashlib.sha256()
            for block in iter(lambda: file.read(1 << 20), b""):
                got.update(block)
        if got.hexdigest() != wanted:
            answer["error"] = name + " did not arrive as it was sent"
    if not answer["error"]:
        child = subprocess.Popen([sys.executable, "package.zoo", *arguments], cwd=folder, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        out, err = child.communicate()
        answer = {"code": child.returncode, "out": out.decode("utf-8", "replace"),
                  "err": err.decode("utf-8", "replace")[-2000:]}
except OSError as error:
    answer["error"] = str(error)
finally:
    done.set()
    shutil.rmtree(folder, ignore_errors=True)
sys.stdout.write(json.dumps(answer) + "\\n")
sys.stdout.flush()
os._exit(0)
"""
