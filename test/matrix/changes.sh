# What Linux does to a volume of the matrix (bash, in a kernel node): changes.sh DIRECTORY CLUSTER-SIZE SPARSE UNWRITTEN
set -eu
cd "$1"
cluster=$2 sparse=$3 unwritten=$4
mkdir theirs theirs/sub
cd theirs
seq 3000 > text; printf inline > inline
for ((i = 0; i < 80; i++)); do : > "sub/file-$i"; done
for ((i = 0; i < 80; i += 2)); do echo "sub/file-$i"; done | xargs rm
block=$(printf '%03000d' 7)
for ((i = 0; i < 12; i++)); do echo "$block" >> a; echo "$block" >> b; sync -d a b; done
printf begin > beyond; printf end | dd of=beyond bs=1 seek=$((3 * cluster + 9)) conv=notrunc status=none
truncate -s $((4 * cluster + 1)) beyond
cd ../ours
echo more >> text; rm link; mv inline empty/moved; ln text empty/hard
for name in even odd; do truncate -s -1000 $name; done
[ "$sparse" = true ] || exit 0
# Into the gaps of a tree of ours.
for ((i = 1; i < 300; i += 19)); do printf "linux $i" | dd of=deep bs=1 seek=$(((2 * (i * 7 % 300) + 1) * cluster + 3)) conv=notrunc status=none; done
[ "$unwritten" = true ] || exit 0
for ((i = 5; i < 300; i += 45)); do fallocate -n -o $(((2 * i + 1) * cluster)) -l "$cluster" deep; fallocate -p -o $((4 * i * cluster)) -l $((3 * cluster)) deep; done
rm ../full/2 ../again/file-1??
