#!/bin/busybox sh
# First program of every virtual machine: load the modules, find the disk whose serial is "root", hand over to its init.
bb() { /bin/busybox "$@"; }
bb mount -t proc proc /proc
bb mount -t sysfs sysfs /sys
bb mount -t devtmpfs devtmpfs /dev
while read -r module; do bb insmod "/modules/$module" || echo "lunfs-init: $module refused"; done < /modules/order
mode=ro
for word in $(bb cat /proc/cmdline); do case $word in lunfs.root=*) mode=${word#lunfs.root=} ;; esac; done
tries=0
root=
while [ -z "$root" ] && [ $tries -lt 500 ]; do
  for disk in /sys/block/vd*; do
    if [ -e "$disk/serial" ] && [ "$(bb cat "$disk/serial")" = root ]; then root=/dev/${disk##*/}; fi
  done
  tries=$((tries + 1))
  [ -n "$root" ] || bb usleep 20000
done
bb mount -t ext4 -o "$mode,noatime" "$root" /root || { echo "lunfs-init: no root file system on '$root'"; bb poweroff -f; }
bb mount -o move /dev /root/dev
bb mount -o move /proc /root/proc
bb mount -o move /sys /root/sys
exec /bin/busybox switch_root /root /usr/sbin/lunfs-agent
