# A Samba server of one share, `drive`, with its state in a folder of its own. User root, password pw.
SAMBA=/run/samba-state

samba_up() {
  mkdir -p /var/log/samba /var/lib/samba/private $SAMBA/{private,lock,state,cache,pid,ncalrpc,log} /run/samba
  cat >$SAMBA/smb.conf <<END
[global]
 smb ports = 445
 server role = standalone server
 private dir = $SAMBA/private
 lock directory = $SAMBA/lock
 state directory = $SAMBA/state
 cache directory = $SAMBA/cache
 pid directory = $SAMBA/pid
 ncalrpc dir = $SAMBA/ncalrpc
 log file = $SAMBA/log/log.%m
 disable netbios = yes
 disable spoolss = yes
 load printers = no
 server min protocol = SMB2_02
 ea support = no
 store dos attributes = no
[drive]
 path = $EXPORT
 read only = no
 force user = root
 strict sync = yes
END
  printf 'pw\npw\n' | smbpasswd -c $SAMBA/smb.conf -a -s root >/dev/null
  samba_on
}

samba_on() {
  smbd -F --no-process-group -s $SAMBA/smb.conf >>$SAMBA/log/out 2>&1 &
  echo $! >/run/server.pid
  disown
  wait_port 127.0.0.1 445
}

