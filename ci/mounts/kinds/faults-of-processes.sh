# Faults of a server that is a tree of processes with its root in /run/server.pid, and started by `server_on`.

# It stops, with all that it started, and goes on later as if nothing had been.
fault_stop() {
  if [ "$1" = on ]; then
    tree "$(cat /run/server.pid)" >/run/stopped
    kill -STOP $(cat /run/stopped)
  else
    kill -CONT $(cat /run/stopped) 2>/dev/null
    true
  fi
}

# It is killed, with every session, and started again.
fault_restart() {
  if [ "$1" = on ]; then
    kill -KILL $(tree "$(cat /run/server.pid)") 2>/dev/null
    true
  else
    server_on
  fi
}

fault_cut() { cut hA "$1"; }
fault_slow() { slow "$1"; }
fault_lossy() { lossy "$1"; }
fault_full() { full "$1"; }
