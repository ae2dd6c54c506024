#!/bin/sh
# Makes a root file system of Debian's busybox-static, for the pods of the examples:
#   apt-get install busybox-static && examples/guestbook/rootfs.sh /srv/busybox
set -eu
root=${1:?which directory?}
mkdir -p "$root/bin" "$root/dev" "$root/etc" "$root/proc" "$root/root" "$root/sys" "$root/tmp" "$root/var"
cp "$(command -v busybox)" "$root/bin/busybox"
for name in $(busybox --list); do
    [ "$name" = busybox ] || ln -sf busybox "$root/bin/$name"
done
echo 'root:x:0:0:root:/root:/bin/sh' > "$root/etc/passwd"
echo 'root:x:0:' > "$root/etc/group"
