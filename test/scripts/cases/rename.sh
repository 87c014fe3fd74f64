# Renames of all kinds, the refused ones too; files that are open when their name goes.
mkdir from to full; echo one > from/a; echo two > from/b; echo old > to/b; : > full/file; mkdir from/dir from/dir/below
mv from/a to/a; mv from/b to/b; cat to/b; mv from/dir to/dir; ls -A from to to/dir
mv to/dir to/dir/below; echo "status $?"; mv -T to/dir full; echo "status $?"; mv -T to/a full; echo "status $?"; mkdir empty; mv -T to/dir empty && ls empty
mv -n to/a to/b; cat to/a to/b; mv missing there; echo "status $?"; rmdir full; echo "status $?"; rm to; echo "status $?"
ln to/a to/same; mv to/a to/same; ls to
exec 3< to/b; rm to/b; cat <&3; exec 3<&-; exec 3<> scratch; rm scratch; seq 30000 >&3; sha256sum < /proc/self/fd/3; exec 3>&-
for ((i = 0; i < 200; i++)); do echo "$i" > temporary; mv temporary target; done; cat target
mkdir -p tree/{a,b,c}/{d,e}; for d in tree/*/*; do echo "$d" > "$d/file"; done; mv tree/a/d tree/b/moved; mv tree/b tree/c/deeper; find tree | sort; find tree -type f | sort | xargs cat
stat -c '%n %h' tree tree/* from to empty
