# GlusterFS: one brick, or (glusterfs-replica) two that mirror each other, of which one is killed and healed.
#
# Its programs keep state in fixed places (/var/lib/glusterd, /run/gluster), which are the sandbox's own, and refuse loopback
# addresses, so the server has one on a link of its own that every host can reach.
ROOM=sandbox
TOOLS="glusterd:glusterfs-server gluster:glusterfs-server glusterfs:glusterfs-client"
FAULTS="stop restart cut lossy full"
[ "$KIND" != glusterfs-replica ] || FAULTS="brick stop restart"
VOLUME=drive
SERVER=10.9.200.1

server_up() {
  export_up
  mkdir -p /var/lib/glusterd /var/log/glusterfs/bricks /run/gluster
  ip link add gluster0 type veth peer name gluster1
  ip addr add $SERVER/32 dev gluster0
  ip link set gluster0 up
  ip link set gluster1 up
  local bricks=("$SERVER:$EXPORT/brick1") layout=()
  if [ "$KIND" = glusterfs-replica ]; then
    bricks+=("$SERVER:$EXPORT/brick2")
    layout=(replica 2)
  fi
  mkdir -p $EXPORT/brick1 $EXPORT/brick2
  glusterd -N -l /var/log/glusterfs/glusterd.log &
  echo $! >/run/glusterd.pid
  wait_port $SERVER 24007 || return 1
  gluster --mode=script volume create $VOLUME "${layout[@]}" "${bricks[@]}" force || return 1
  # Answers within this time, or the brick counts as gone (42 s by default: the other hosts would stand still for as long).
  gluster --mode=script volume set $VOLUME network.ping-timeout 5
  gluster --mode=script volume start $VOLUME
}

mount_in() {
  on "$1" ip route add $SERVER via "10.9.$2.1"
  on "$1" glusterfs --volfile-server=$SERVER --volfile-id=$VOLUME -l "/var/log/glusterfs/$1.log" "$(drive_of "$1")"
}

# brick_pids [N]: of all bricks, or of one.
brick_pids() { cat /run/gluster/vols/$VOLUME/*brick"${1:-}"*.pid 2>/dev/null; }
bricks_on() { gluster --mode=script volume start $VOLUME force >/dev/null; }

fault_stop() { if [ "$1" = on ]; then kill -STOP $(brick_pids); else kill -CONT $(brick_pids); fi; }
fault_restart() { if [ "$1" = on ]; then kill -KILL $(brick_pids); else bricks_on; fi; }

# One of two mirrors is killed while all go on writing, comes back, and is healed.
fault_brick() {
  if [ "$1" = on ]; then
    kill -KILL $(brick_pids 2)
  else
    bricks_on
    gluster --mode=script volume heal $VOLUME full >/dev/null 2>&1
    true
  fi
}

fault_cut() { cut hA "$1"; }
fault_lossy() { lossy "$1"; }
fault_full() { full "$1"; }
