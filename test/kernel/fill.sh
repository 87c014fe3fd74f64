# Fills a directory with a bit of everything (bash, in a kernel node): fill.sh DIRECTORY ENTRIES
set -eu
cd "$1"
entries=$2
umask 022

# Wide and deep directories; every third entry goes again, so that their blocks have gaps.
mkdir wide deep names types data
(cd wide; for ((i = 0; i < entries; i++)); do : > "file-$i"; done; for ((i = 0; i < entries; i += 3)); do echo "file-$i"; done | xargs rm)
below=deep
for ((i = 0; i < 40; i++)); do below=$below/level-$i; done
mkdir -p "$below"
echo bottom > "$below/file"

# Names of every length, and odd ones; hard links; renames of all kinds.
for ((i = 1; i <= 255; i++)); do printf -v name '%*s' "$i" ''; : > "names/${name// /n}"; done
for name in 'with blank' $'new\nline' '*?[' "quo'te\"" $'\xff\xfe not UTF-8' 'grün ☃' '-dash' '...'; do echo "$name" > "names/$name"; done
for ((i = 0; i < 50; i++)); do ln names/... "names/hard-$i"; done
mkdir names/from names/to names/replaced
echo one > names/from/moved; echo two > names/from/replaces; echo old > names/to/target
mv names/from/moved names/to/moved; mv names/from/replaces names/to/target
mkdir names/from/sub; : > names/from/sub/file; mv names/from/sub names/to/sub; mv -T names/from names/replaced

# Types, modes, owners, times.
mkfifo types/fifo; mknod types/char c 5 1; mknod types/block b 259 70000
ln -s ../names types/short; ln -s "$(printf '%0200d' 0)" types/dangling; ln -s "$(printf '%04000d' 0)" types/long
for mode in 0000 0400 0777 1777 2755 4711 6755; do : > "types/$mode"; chmod "$mode" "types/$mode"; done
mkdir types/setgid; chown 1000:1001 types/setgid; chmod 2775 types/setgid; mkdir types/setgid/sub; : > types/setgid/file
chown 70000:4000000000 types/0777; touch -d '2001-02-03 04:05:06.123456789' types/0400; touch -d '2100-01-01' types/0777; touch -d @-1 types/1777

# Data: inline, grown out of the inode, appended, sparse, unwritten, punched, zeroed, fragmented, cut and extended.
printf 'inline' > data/inline; seq 700 > data/inline-large; seq 1000 > data/grown; seq 100000 > data/seq
for ((i = 0; i < 200; i++)); do echo "line $i of a file that is appended to" >> data/appended; done
truncate -s 6M data/sparse; printf middle | dd of=data/sparse bs=1 seek=3000003 conv=notrunc status=none
truncate -s 5T data/giant; printf end | dd of=data/giant bs=1 seek=$((5 * 1024 ** 4 - 3)) conv=notrunc status=none
fallocate -l 3M data/unwritten; seq 2000 | dd of=data/unwritten bs=4096 seek=100 conv=notrunc status=none
seq 300000 > data/punched; fallocate -p -o 100001 -l 900000 data/punched; fallocate -p -o 1600000 -l 4M data/punched
seq 100000 > data/zeroed; fallocate -p -o 5000 -l 300000 data/zeroed; fallocate -o 100000 -l 300000 data/zeroed
seq 500 > data/kept; fallocate -n -l 2M data/kept
fio --name=fragmented --filename=data/fragmented --size=3M --rw=write:4k --bs=4k --ioengine=psync --output=/dev/null
fio --name=shuffled --filename=data/shuffled --size=2M --rw=randwrite --bs=4k --direct=1 --ioengine=psync --randseed=7 --output=/dev/null
seq 200000 > data/cut; truncate -s 100001 data/cut; seq 1000 > data/longer; truncate -s 300000 data/longer; echo end >> data/longer
seq 100000 > data/gone; rm data/gone
cp --reflink=never data/seq data/copied; dd if=/dev/zero of=data/copied bs=1000 seek=77 count=33 conv=notrunc status=none
