#!/usr/bin/env bash
# Creates or completes the virtual environment of `make demo` and `make test`.
#   VENV    where (default .venv)
#   PYTHON  the interpreter (default: the first of python3.12, python3.11, python3 that is Python 3.11 or 3.12)
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf '\nmmkd_ros: %s\n' "$1" >&2; exit 1; }

venv=${VENV:-.venv}
fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'

# Running a candidate is the only honest test: a version manager's shim may carry the name and start nothing.
find_python() {
  local candidate
  for candidate in python3.12 python3.11 python3; do
    if "$candidate" -c "$fits" >/dev/null 2>&1; then echo "$candidate"; return; fi
  done
}

# An environment whose creation was cut short has no pip; it is made again.
fresh=1
if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  fresh=
  python=$venv/bin/python
  "$python" -c "$fits" || fail "The environment in $venv is not Python 3.11 or 3.12; remove it ('make distclean') and call make again."
elif [ -n "${PYTHON:-}" ]; then
  python=$PYTHON
  "$python" -c "$fits" 2>/dev/null || fail "PYTHON=$PYTHON does not start or is not Python 3.11 or 3.12; name another interpreter."
else
  python=$(find_python)
  [ -n "$python" ] || fail "Python 3.11 or 3.12 is needed and none was found. Install one (Debian 12, Ubuntu 24.04: 'apt install python3 python3-venv python3-dev') or name it: make PYTHON=/path/to/python3.12 ..."
fi

"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python cannot create virtual environments; 'apt install python3-venv' adds what is missing."
"$python" -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file())' ||
  fail "Python.h of $python is missing, and generating the message packages needs it; 'apt install python3-dev' adds it."
for tool in gcc g++ cmake; do
  command -v "$tool" >/dev/null || fail "'$tool' is missing; 'apt install build-essential cmake' adds it."
done
cmake_version=$(cmake --version | sed -n '1s/[^0-9]*//p')
[ "$(printf '%s\n' 3.21 "$cmake_version" | sort -V | head -n 1)" = 3.21 ] ||
  fail "CMake 3.21 or newer is needed and this is $cmake_version; 'apt install cmake' on Debian 12 or Ubuntu 22.04 has it, or 'pip install cmake'."
if command -v ninja >/dev/null; then generator=Ninja
elif command -v make >/dev/null; then generator='Unix Makefiles'
else fail "Neither ninja nor make is here; 'apt install ninja-build' adds one."
fi

mkdir -p "$venv"
venv=$(cd "$venv" && pwd)
log=$venv/setup.log
: >"$log"
touch "$venv/COLCON_IGNORE"
started=$SECONDS

# step SENTENCE COMMAND...: one line on the terminal, everything else into the log.
step() {
  printf '  %-58s' "$1"
  local begin=$SECONDS
  shift
  printf '\n$ %s\n' "$*" >>"$log"
  if "$@" >>"$log" 2>&1; then
    printf '%4d s\n' $((SECONDS - begin))
  else
    printf 'failed\n\n'
    tail -n 15 "$log" >&2
    fail "Setting up the environment failed at this step; the whole story is in $log."
  fi
}

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

# generate_messages PACKAGE...: those that are not here yet, in this order, from interfaces/PACKAGE.
generate_messages() {
  local package build status=0
  for package in "$@"; do
    if AMENT_PREFIX_PATH=$venv "$venv/bin/python" -c "import $package.msg" 2>/dev/null; then
      echo "$package is here already"
      continue
    fi
    build=$(mktemp -d)
    AMENT_PREFIX_PATH=$venv PATH=$venv/bin:$PATH bash -euc '
      cmake -G "$1" -S "interfaces/$4" -B "$2" -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$3" \
        -DCMAKE_PREFIX_PATH="$3" -DPython3_EXECUTABLE="$3/bin/python" -DBUILD_TESTING=OFF
      cmake --build "$2" --parallel "$(nproc)"
      cmake --install "$2"' bash "$generator" "$build" "$venv" "$package" || status=$?
    rm -rf "$build"
    [ "$status" = 0 ] && AMENT_PREFIX_PATH=$venv "$venv/bin/python" -c "import $package.msg" || return 1
  done
}

# What an ament index look-up and `ros2 run` expect, which pip alone does not make: the resource marker, share/ and
# lib/PACKAGE/EXECUTABLE.
link_into_prefix() {
  mkdir -p "$venv/share/ament_index/resource_index/packages" "$venv/share/mmkd_ros" "$venv/lib/mmkd_ros"
  cp resource/mmkd_ros "$venv/share/ament_index/resource_index/packages/mmkd_ros"
  local name
  for name in package.xml launch config models; do
    ln -sfn "$PWD/$name" "$venv/share/mmkd_ros/$name"
  done
  for name in $("$venv/bin/python" -c 'from importlib.metadata import distribution
print(*(e.name for e in distribution("mmkd_ros").entry_points if e.group == "console_scripts"))'); do
    ln -sf "../../bin/$name" "$venv/lib/mmkd_ros/$name"
  done
}

printf 'Setting up %s with %s (log: %s)\n' "$venv" "$("$python" -V)" "$log"
[ -z "$fresh" ] || step "virtual environment" "$python" -m venv "$venv"
step "ROS 2 Jazzy: rclpy, Fast DDS, messages (60 MB)" pip install --no-deps -r requirements/ros_jazzy.txt
step "torch and the other packages (the longest step, 1 GB)" \
  pip install -r requirements/runtime.txt -r requirements/train.txt -r requirements/dev.txt
step "faster engines for the network on a CPU (130 MB)" pip install --no-deps -r requirements/backends.txt
step "versions fit together" pip check
step "vision_msgs, generated from its field list" generate_messages vision_msgs
step "Autoware's messages, generated from their field lists" \
  generate_messages autoware_perception_msgs tier4_perception_msgs autoware_internal_debug_msgs
step "this package" pip install --no-deps --no-build-isolation -e .
step "places where ROS looks for it" link_into_prefix
printf 'The environment is ready after %d s.\n\n' $((SECONDS - started))
