# Drives on which two hosts can be given the same name: smbnetfs, rclone (WebDAV), s3fs. No cache can be shared for writing there;
# what is shown is that this one says so, and what it allows instead.
ROOM=sandbox
. "$(dirname "${BASH_SOURCE[0]}")/samba.sh"
FAULTS=""
case $KIND in
  smbnetfs) TOOLS="smbd:samba smbnetfs:smbnetfs" ;;
  rclone) TOOLS="rclone:rclone" ;;
  s3fs) TOOLS="s3fs:s3fs" PYTHON_TOOLS="moto_server" ;;
esac

server_up() {
  export_up
  case $KIND in
    smbnetfs) samba_up ;;
    rclone)
      rclone serve webdav $EXPORT --addr 0.0.0.0:8080 >>/run/server.log 2>&1 &
      echo $! >/run/server.pid
      wait_port 127.0.0.1 8080
      ;;
    s3fs)
      "$STATE/s3/bin/moto_server" -H 0.0.0.0 -p 5000 >>/run/server.log 2>&1 &
      echo $! >/run/server.pid
      wait_port 127.0.0.1 5000 || return 1
      curl -sf -X PUT http://127.0.0.1:5000/drive >/dev/null
      ;;
  esac
}

mount_in() {
  local server=10.9.$2.1 drive
  drive=$(drive_of "$1")
  case $KIND in
    smbnetfs)
      mkdir -p "/run/smbnetfs.$1/root"
      cat >"/run/smbnetfs.$1/conf" <<END
auth "root" "pw"
smb_query_browsers "false"
host $server visible=true
END
      chmod 600 "/run/smbnetfs.$1/conf"
      on "$1" smbnetfs "/run/smbnetfs.$1/root" -o config="/run/smbnetfs.$1/conf" 2>/dev/null # it looks for a folder in the home, too
      on "$1" mount --bind "/run/smbnetfs.$1/root/$server/drive" "$drive"
      ;;
    rclone)
      on "$1" sh -c "rclone mount ':webdav,url=\"http://$server:8080\":' $drive --allow-non-empty --vfs-cache-mode writes --cache-dir /run/rclone.$1 \
        --dir-cache-time 1s --daemon --config /dev/null >>/run/rclone.$1.log 2>&1"
      ;;
    s3fs)
      echo "key:secret" >"/run/s3fs.$1"
      chmod 600 "/run/s3fs.$1"
      on "$1" s3fs drive "$drive" -o "passwd_file=/run/s3fs.$1,url=http://$server:5000,use_path_request_style"
      ;;
  esac
}
