#!/bin/bash
# PID 1 of the virtual machines: serves commands from the virtio port "lunfs.agent".
#
# Request:  "ID COMMANDBYTES INPUTBYTES\n", then the command, then its standard input.
# Answer:   "ID STATUS OUTBYTES ERRBYTES\n", then the bytes. Lengths frame everything: no prompt, no terminal.
# Commands run side by side, each in its own process; answers come whole, in the order in which commands end.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
if [ ! -w / ]; then
  for directory in /tmp /run /mnt /root /var /etc/ocfs2; do mount -n -t tmpfs tmpfs "$directory"; done
fi
mkdir -p /dev/pts /dev/shm /run/agent /var/log
mount -n -t tmpfs tmpfs /dev/shm
mount -n -t tmpfs tmpfs /run/agent
ln -sfn /proc/self/fd /dev/fd
ip link set lo up 2>/dev/null
port=
while [ -z "$port" ]; do
  for candidate in /sys/class/virtio-ports/*; do
    if [ "$(cat "$candidate/name" 2>/dev/null)" = lunfs.agent ]; then port=/dev/${candidate##*/}; fi
  done
  [ -n "$port" ] || sleep 0.02
done
exec 3<>"$port"
read -r up _ < /proc/uptime
echo "ready $up" >&3
while :; do
  if ! read -r -u 3 id command_bytes input_bytes; then sleep 0.02; continue; fi
  command=
  if [ "$command_bytes" -gt 0 ]; then IFS= read -r -N "$command_bytes" -u 3 command; fi
  work=/run/agent/$id
  mkdir "$work"
  input=/dev/null
  if [ "$input_bytes" -gt 0 ]; then input=$work/in; head -c "$input_bytes" <&3 >"$input"; fi
  (
    bash -c "$command" <"$input" >"$work/out" 2>"$work/err" 3>&-
    status=$?
    exec 4>/run/agent/lock
    flock 4
    { echo "$id $status $(stat -c %s "$work/out") $(stat -c %s "$work/err")"; cat "$work/out" "$work/err"; } >&3
    rm -rf "$work"
  ) &
done
