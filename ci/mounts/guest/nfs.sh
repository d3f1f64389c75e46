# Sourced in the guest: an NFS server, and client hosts that know nothing of each other.
#
# A host is a set of namespaces: a network of its own (so the kernel gives it an NFS client of its own, with its own page,
# attribute and name caches), and mounts, process ids, host name and shared memory of its own. Process ids of two hosts
# are alike, as on real ones.
#
#   nfs_server            exports /run/export (in memory, `sync`) to everybody
#   nfs_host NAME N       makes a host with the address 10.9.N.2; the server is 10.9.N.1 for it
#   nfs_mount NAME N OPTS mounts the export at /run/nfs in that host
#   on NAME CMD...        runs a command in that host

nfs_server() {
  modprobe -a veth nfsd nfsv4
  mkdir -p /run/export /run/rpcbind /run/lock /var/lib/nfs/{rpc_pipefs,sm,sm.bak,v4recovery}
  touch /var/lib/nfs/{etab,rmtab,state}
  mount -t tmpfs -o size=400M tmpfs /run/export
  mount -t rpc_pipefs sunrpc /var/lib/nfs/rpc_pipefs
  mount -t nfsd nfsd /proc/fs/nfsd
  rpcbind -w 2>/dev/null || rpcbind
  # fsid=0: the root of the NFSv4 tree, since a tmpfs has no identity of its own.
  exportfs -o rw,no_root_squash,no_subtree_check,sync,fsid=0,insecure '*:/run/export'
  rpc.mountd
  rpc.nfsd -G 10 -L 10 8
  # Nobody holds state from before this boot, so nobody needs the grace period.
  echo Y >/proc/fs/nfsd/v4_end_grace
}

nfs_host() {
  local name=$1 n=$2 waited
  ip netns add "$name"
  ip link add "v$name" type veth peer name eth0 netns "$name"
  ip addr add "10.9.$n.1/24" dev "v$name"
  ip link set "v$name" up
  ip -n "$name" addr add "10.9.$n.2/24" dev eth0
  ip -n "$name" link set eth0 up
  ip -n "$name" link set lo up
  mkdir -p /run/hosts
  nsenter --net="/run/netns/$name" unshare --mount --propagation private --uts --ipc --pid --fork \
    sh -c "hostname $name; mount -t proc proc /proc; mount -t tmpfs tmpfs /dev/shm
           mkdir -p /run/nfs; touch /run/hosts/$name.up; exec sleep infinity" &
  echo $! >"/run/hosts/$name.unshare"
  for waited in $(seq 100); do [ -e "/run/hosts/$name.up" ] && break; sleep 0.1; done
  [ -e "/run/hosts/$name.up" ] || { echo "guest: host $name did not come up"; return 1; }
  # Its first process, which is the child of `unshare --fork`.
  pgrep -P "$(cat "/run/hosts/$name.unshare")" >"/run/hosts/$name.pid"
}

on() {
  local pid
  pid=$(cat "/run/hosts/$1.pid")
  shift
  nsenter -t "$pid" -m -u -i -n -p "$@"
}

nfs_mount() {
  on "$1" mount -t nfs -o "vers=4.2,$3" "10.9.$2.1:/" /run/nfs
  # A mount that failed would leave everything running on local memory, and passing.
  on "$1" mountpoint -q /run/nfs || { echo "guest: $1 has no mount"; return 1; }
}
