# Sourced in the guest (User-Mode Linux or a sandbox): client hosts that know nothing of each other, and what can happen to
# the network between them and the server. The server itself runs outside of all hosts.
#
# A host is a set of namespaces: a network of its own (so a kernel client has its own connection, page, attribute and name
# caches), and mounts, process ids, host name and shared memory of its own. Process ids of two hosts are alike, as on real
# ones.
#
#   host_up NAME N        makes a host with the address 10.9.N.2; the server is 10.9.N.1 for it
#   on NAME CMD...        runs a command in that host
#   enter NAME            prints the command prefix that does the same
#   cut NAME on|off       no packet gets from or to that host
#   slow on|off           packets of all hosts are late by 50 ms (give or take 20), and one in fifty is lost
#   tree PID              prints the process and all that it started
#   wait_port ADDR PORT   waits for somebody to listen there

#   drive_of NAME         prints where the drive is mounted in that host; the same path shows that mount outside of it, too

# The folder that the server serves: memory, of a size that can be filled.
EXPORT=/run/export
EXPORT_MIB=400

drive_of() { echo "/run/drive/$1"; }

host_up() {
  local name=$1 n=$2 tries drive
  drive=$(drive_of "$1")
  ip netns add "$name"
  ip link add "v$name" type veth peer name eth0 netns "$name"
  ip addr add "10.9.$n.1/24" dev "v$name"
  ip link set "v$name" up
  ip -n "$name" addr add "10.9.$n.2/24" dev eth0
  ip -n "$name" link set eth0 up
  ip -n "$name" link set lo up
  # What is mounted there in the host is seen outside, too: doctor looks at two hosts from one process.
  mkdir -p /run/hosts "$drive"
  mount --bind "$drive" "$drive"
  mount --make-shared "$drive"
  nsenter --net="/run/netns/$name" unshare --mount --propagation unchanged --uts --ipc --pid --fork \
    sh -c "hostname $name; mount -t proc proc /proc; mount -t tmpfs tmpfs /dev/shm
           touch /run/hosts/$name.up; exec sleep infinity" &
  echo $! >"/run/hosts/$name.unshare"
  for tries in $(seq 100); do [ -e "/run/hosts/$name.up" ] && break; sleep 0.1; done
  [ -e "/run/hosts/$name.up" ] || { echo "guest: host $name did not come up"; return 1; }
  # Its first process, which is the child of `unshare --fork`.
  pgrep -P "$(cat "/run/hosts/$name.unshare")" >"/run/hosts/$name.pid"
}

enter() { echo "nsenter -t $(cat "/run/hosts/$1.pid") -m -u -i -n -p"; }

on() {
  local name=$1
  shift
  $(enter "$name") "$@"
}

# `mountpoint` alone would be content with the bind mount. A mount that failed would leave everything running on local memory, and passing.
must_be_mounted() {
  local tries
  for tries in $(seq 50); do
    mountpoint -q "$(drive_of "$1")" && grep -q " $(drive_of "$1") \(nfs\|cifs\|fuse\)" /proc/mounts && return
    sleep 0.1
  done
  echo "guest: $1 has no mount"
  return 1
}

export_up() {
  mkdir -p $EXPORT
  mount -t tmpfs -o size=${EXPORT_MIB}M tmpfs $EXPORT
  chmod 777 $EXPORT
}

# Firewall rules of the old kind: the guest's kernel has no tables of the new one, and would silently do nothing.
cut() {
  local how=-A
  [ "$2" = on ] || how=-D
  iptables-legacy $how INPUT -i "v$1" -j DROP
  iptables-legacy $how OUTPUT -o "v$1" -j DROP
}

has_netem() { modprobe sch_netem 2>/dev/null; tc qdisc add dev lo root netem delay 0ms 2>/dev/null && tc qdisc del dev lo root; }

slow() {
  local host
  for host in /run/hosts/*.pid; do
    host=$(basename "$host" .pid)
    if [ "$1" = on ]; then
      tc qdisc replace dev "v$host" root netem delay 50ms 20ms loss 2%
    else
      tc qdisc del dev "v$host" root
    fi
  done
}

# Every second packet of all hosts is lost; for kernels without netem.
lossy() {
  local how=-A
  [ "$1" = on ] || how=-D
  iptables-legacy $how INPUT -i v+ -m statistic --mode random --probability 0.3 -j DROP
}

# The share is full: one file takes whatever is left, and grows again when something is freed.
full() {
  if [ "$1" = on ]; then
    fallocate -l "$(($(df --output=avail -B1 $EXPORT | tail -n 1) - 8192))" $EXPORT/.filler 2>/dev/null
    cat /dev/zero >>$EXPORT/.filler 2>/dev/null
    true
  else
    rm -f $EXPORT/.filler
  fi
}

tree() {
  local child
  echo "$1"
  for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do tree "$child"; done
}

wait_port() {
  local tries
  for tries in $(seq 100); do
    (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null && return
    sleep 0.1
  done
  echo "guest: nobody listens on $1 port $2"
  return 1
}
