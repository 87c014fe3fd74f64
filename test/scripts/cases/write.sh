# Writes of all alignments, over, into and behind what is there; direct and synchronous ones.
seq 100000 > data; sha256sum data
for ((i = 1; i < 30; i++)); do seq $((i * 100)) | dd of=data bs=$((i * 37)) seek=$((i * 3)) conv=notrunc status=none; done; sha256sum data
dd if=data of=direct bs=64K count=7 oflag=direct status=none; cmp -n $((7 * 65536)) data direct && echo same
dd if=direct bs=4096 skip=3 count=5 iflag=direct status=none | sha256sum
dd if=data of=synchronous bs=8191 oflag=sync count=20 status=none; dd if=data of=synced bs=1M conv=fsync status=none; sync synced; sha256sum synchronous synced
head -c 300 data > inline; printf X | dd of=inline bs=1 seek=100 conv=notrunc status=none; sha256sum inline; seq 1000 >> inline; sha256sum inline
cp data copy; truncate -s 1000 copy; truncate -s 100000 copy; sha256sum copy; : > copy; stat -c %s copy
exec 5<>data; printf beginning >&5; read -r -N 20 rest <&5; echo "$rest"; exec 5>&-
truncate -s 20T beyond; echo "status $?"; rm -f beyond
