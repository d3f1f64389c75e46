# Sourced by the scripts of this folder: where things are, how they speak, how root is reached.
#
# After `. ci/lib.sh` these are set:
#   ROOT      the repository
#   TARGET    cargo's output folder (CARGO_TARGET_DIR is honoured)
#   STATE     what the scripts remember between runs (stamps, logs); safe to delete
#   VENV, PY  the project's Python environment and its interpreter

set -uo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
STATE=$ROOT/target/ci
VENV=$ROOT/.venv
PY=$VENV/bin/python
# PyO3 must see one interpreter in every build, or each tool would rebuild what the last one built.
export PYO3_PYTHON=$PY
export PIP_DISABLE_PIP_VERSION_CHECK=1
export LC_ALL=C.UTF-8
# Where `cargo install` puts tools: not on everybody's PATH. And where Debian keeps servers: not on an ordinary user's.
export PATH=$PATH:${CARGO_INSTALL_ROOT:-${CARGO_HOME:-$HOME/.cargo}}/bin:/usr/sbin:/sbin

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { warn "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Prints the text of the script's head: the comment block that starts on its second line.
help_of_head() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$1"; }

# as_root CMD...: as it is for root, by sudo where that asks for no password, else 126.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif have sudo && sudo -n true 2>/dev/null; then sudo -n "$@"
  else return 126
  fi
}

# Prints why FUSE mounts cannot be made here, or nothing.
why_no_fuse() {
  if [ ! -c /dev/fuse ]; then echo "no /dev/fuse"
  elif [ "$(id -u)" != 0 ]; then echo "not root"
  elif ! have fusermount3; then echo "no fusermount3"
  fi
}

# Prints why the User-Mode Linux mounts cannot be made here, or nothing.
why_no_uml() {
  local tool
  for tool in linux.uml exportfs rpc.nfsd mount.nfs busybox ip iptables-legacy rpcbind modprobe; do
    have "$tool" || { echo "no $tool (./ci/setup --mounts installs it)"; return; }
  done
  [ -d /usr/lib/uml/modules ] || echo "no modules for linux.uml"
}

# The fonts that pages are looked at with.
FONTS=/usr/share/fonts/truetype/dejavu

# Prints why pages cannot be looked at in a browser here, or nothing.
why_no_pages() {
  if ! have chromium; then echo "no chromium (./ci/setup --pages installs it)"
  elif ! have node; then echo "no node (./ci/setup --pages installs it)"
  elif ! node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 18 ? 1 : 0)'; then echo "node $(node --version) is older than 18"
  elif [ ! -d "$FONTS" ]; then echo "no fonts in $FONTS (./ci/setup --pages installs them)"
  elif [ ! -d "$STATE/pages/node_modules/playwright-core" ]; then echo "no playwright-core and axe-core from npm (./ci/setup --pages installs them)"
  fi
}

# One hash of the content and the names of all files under the given paths.
hash_of() {
  (cd "$ROOT" && find "$@" -type f ! -path '*/__pycache__/*' ! -path '*/.*_cache/*' ! -name '*.so' ! -name '*.pyc' -print0 2>/dev/null \
    | sort -z | xargs -0 sha256sum 2>/dev/null | sha256sum | cut -c1-32)
}
