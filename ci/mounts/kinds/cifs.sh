# SMB 3 by Samba and the kernel's client: cifs, and cifs-nobrl (locks are not sent to the server).
ROOM=uml
TOOLS="smbd:samba mount.cifs:cifs-utils"
FAULTS="stop restart cut slow full"
. "$(dirname "${BASH_SOURCE[0]}")/samba.sh"
. "$(dirname "${BASH_SOURCE[0]}")/faults-of-processes.sh"

server_up() {
  # Its ciphers by name: programs that the kernel starts for itself (it would call modprobe) do not run on every machine's guest.
  modprobe -a cifs hmac cmac ccm gcm ctr ecb sha512_generic nls_utf8
  export_up
  samba_up
}

server_on() { samba_on; }

mount_in() {
  local more=
  [ "$KIND" = cifs ] || more=,nobrl
  on "$1" mount -t cifs -o "username=root,password=pw,vers=3.0,mfsymlinks$more" "//10.9.$2.1/drive" "$(drive_of "$1")"
}
