# NFS by the kernel: nfs4, nfs3, nfs3-nolock, nfs4-soft.
#
# The server exports one folder in memory, `sync`, under both protocols. What a kind's file must define is told in ci/mounts/drive.
ROOM=uml
TOOLS="exportfs:nfs-kernel-server rpc.nfsd:nfs-kernel-server mount.nfs:nfs-common rpcbind:rpcbind"
FAULTS="stop restart stale cut slow full"
NFSD=/proc/fs/nfsd

server_up() {
  modprobe -a nfsd nfsv4 nfsv3 lockd
  # lockd's ports are fixed: it registers them through a socket that network namespaces share, so the last host's would
  # hide the server's, and locks of NFSv3 would wait for ever.
  sysctl -q -w fs.nfs.nlm_tcpport=4045 fs.nfs.nlm_udpport=4045 fs.nfs.nlm_grace_period=10
  mkdir -p /run/rpcbind /run/lock /var/lib/nfs/{rpc_pipefs,sm,sm.bak,v4recovery}
  touch /var/lib/nfs/{etab,rmtab,state}
  export_up
  mount -t rpc_pipefs sunrpc /var/lib/nfs/rpc_pipefs
  mount -t nfsd nfsd $NFSD
  rpcbind -w 2>/dev/null || rpcbind
  rpc.statd --no-notify
  export_it
  rpc.mountd 2>/dev/null # complains about IPv6, which the guest has not
  server_on
  # Nobody holds state from before this boot, so nobody needs the grace period.
  echo Y >$NFSD/v4_end_grace
}

# fsid=0: the root of the NFSv4 tree, since memory has no identity of its own.
export_it() { exportfs -o rw,no_root_squash,no_subtree_check,sync,fsid=0,insecure "*:$EXPORT"; }
# Ten seconds are the shortest grace and lease that the kernel takes.
server_on() { rpc.nfsd -G 10 -L 10 8; }
server_off() { rpc.nfsd 0; }

# NFSv3's lock manager is a service of each host, and asks that host's own rpcbind for statd. rpcbind has its socket in a fixed place, so
# the host gets a /run of its own, in which only the drives are those of before.
lock_manager_of() {
  on "$1" sh -c '
    mount -t tmpfs tmpfs /mnt && mkdir -p /mnt/drive /mnt/rpcbind /mnt/lock && mount --rbind /run/drive /mnt/drive && mount -n --move /mnt /run
    mount -t tmpfs tmpfs /var/lib/nfs && mkdir -p /var/lib/nfs/sm /var/lib/nfs/sm.bak
    rpcbind && rpc.statd --no-notify'
}

mount_in() {
  local host=$1 server=10.9.$2.1 drive
  drive=$(drive_of "$1")
  [ "$KIND" != nfs3 ] || lock_manager_of "$host" || return 1
  case $KIND in
    nfs4) on "$host" mount -t nfs -o vers=4.2,hard $server:/ "$drive" ;;
    nfs4-soft) on "$host" mount -t nfs -o vers=4.2,soft,timeo=10,retrans=1 $server:/ "$drive" ;;
    nfs3) on "$host" mount -t nfs -o vers=3,hard $server:$EXPORT "$drive" ;;
    nfs3-nolock) on "$host" mount -t nfs -o vers=3,hard,nolock $server:$EXPORT "$drive" ;;
  esac
}

# The server does not answer, and forgets nothing.
fault_stop() {
  local how=-A
  [ "$1" = on ] || how=-D
  iptables-legacy $how INPUT -p tcp --dport 2049 -j DROP
}

# The server dies and starts again: opens and locks are gone, and clients have its grace period to claim them.
fault_restart() { if [ "$1" = on ]; then server_off; else server_on; fi; }

# The export is replaced by a copy of itself, as a backup that was restored or another node that took over: the same names and
# bytes, but every handle that a client holds is stale.
fault_stale() {
  [ "$1" = on ] || return 0
  server_off
  exportfs -ua
  mkdir -p /run/copy
  mount -t tmpfs -o size=${EXPORT_MIB}M tmpfs /run/copy
  # So that no number of a file is by chance what it was.
  mktemp -p /run/copy spacer.XXXXXX >/dev/null
  cp -a $EXPORT/. /run/copy/
  umount -l $EXPORT
  mount --move /run/copy $EXPORT
  export_it
  server_on
  echo Y >$NFSD/v4_end_grace
}

fault_cut() { cut hA "$1"; }
fault_slow() { slow "$1"; }
fault_full() { full "$1"; }
