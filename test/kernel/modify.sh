# Changes what fill.sh and the engine left in a directory (bash, in a kernel node): modify.sh DIRECTORY
set -eu
cd "$1"
(cd wide; for ((i = 1; i < 1500; i += 3)); do echo "file-$i"; done | xargs rm -f; for ((i = 0; i < 700; i++)); do : > "kernel-$i"; done)
rm -r deep; mkdir -p deep/again; echo new > deep/again/file
mv names/to names/moved-again; rm names/hard-1*; ln names/hard-2 types/linked
rm names/nnn*
rm types/0000 types/fifo; ln -sf elsewhere types/short; chmod 0640 types/2755; chown 5:6 types/4711
seq 5 300000 > data/seq; echo more >> data/appended; printf tail >> data/inline; seq 3000 >> data/grown
printf x | dd of=data/sparse bs=1 seek=1 conv=notrunc status=none
seq 9000 | dd of=data/unwritten bs=4096 seek=10 conv=notrunc status=none; seq 200000 | dd of=data/punched bs=64K conv=notrunc oflag=seek_bytes seek=150001 status=none
truncate -s 2000001 data/fragmented; fallocate -p -o 4096 -l 1M data/fragmented; truncate -s 0 data/zeroed; rm data/shuffled data/cut data/giant
fallocate -l 1M data/cut
