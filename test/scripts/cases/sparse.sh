# Holes, preallocation, punching; what lseek finds, what stat counts.
truncate -s 100M hole; printf x | dd of=hole bs=1 seek=50000001 conv=notrunc status=none; stat -c '%n %s %b' hole; tail -c +50000000 hole | head -c 3 | od -c
cp --sparse=always hole copied; cmp hole copied && stat -c '%n %b' copied
fallocate -l 5M reserved; stat -c '%n %s %b' reserved; head -c 5M reserved | tr -d '\0' | wc -c
seq 1000 | dd of=reserved bs=4096 seek=300 conv=notrunc status=none; sha256sum reserved
echo kept > kept; fallocate -n -l 1M kept; stat -c '%n %s %b' kept; truncate -s 5 kept; cat kept
seq 400000 > punched; fallocate -p -o 1000 -l 1000000 punched; fallocate -p -o 2000000 -l 100M punched; sha256sum punched; stat -c '%n %s %b' punched
cp --sparse=auto punched punched-copy; cmp punched punched-copy && echo same
truncate -s 5T giant; printf end | dd of=giant bs=1 seek=$((5 * 1024 ** 4 - 3)) conv=notrunc status=none; stat -c '%n %s %b' giant; tail -c 3 giant; rm giant
for ((i = 0; i < 200; i++)); do printf '%s' "$i" | dd of=fragmented bs=1 seek=$((i * 9000)) conv=notrunc status=none; done; sha256sum fragmented; stat -c %b fragmented
