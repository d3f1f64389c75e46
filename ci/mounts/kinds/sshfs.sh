# sshfs: two mounts of one sshd, with keys of their own.
ROOM=sandbox
TOOLS="sshfs:sshfs sshd:openssh-server ssh-keygen:openssh-client"
FAULTS="stop restart cut lossy full"
SSH=/run/ssh

server_up() {
  export_up
  # The folder of privilege separation; /run is the sandbox's own.
  mkdir -p $SSH /run/sshd
  ssh-keygen -q -t ed25519 -N '' -f $SSH/host
  ssh-keygen -q -t ed25519 -N '' -f $SSH/client
  cat >$SSH/config <<END
Port 22022
HostKey $SSH/host
AuthorizedKeysFile $SSH/client.pub
StrictModes no
PasswordAuthentication no
PermitRootLogin yes
UsePAM no
PidFile none
MaxStartups 100
Subsystem sftp internal-sftp
END
  server_on
}

server_on() {
  "$(command -v sshd)" -D -e -f $SSH/config >>/run/sshd.log 2>&1 &
  echo $! >/run/server.pid
  disown
  wait_port 127.0.0.1 22022
}

# `reconnect` and the keep-alive are what everybody's manual tells; they bound how long a dead server is waited for.
mount_in() {
  on "$1" sshfs -p 22022 -o "IdentityFile=$SSH/client,StrictHostKeyChecking=no,UserKnownHostsFile=$SSH/known.$1,reconnect" \
    -o ServerAliveInterval=2,ServerAliveCountMax=2 "root@10.9.$2.1:$EXPORT" "$(drive_of "$1")"
}

. "$(dirname "${BASH_SOURCE[0]}")/faults-of-processes.sh"
