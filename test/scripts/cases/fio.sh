# fio writes with checksums and reads them back: buffered, direct, mapped, with holes; one file of a fixed pattern stays.
job() { fio --output=fio.log --name=job --size=4M --randseed=5 --verify_fatal=1 "$@" > /dev/null || { echo "fio $*"; cat fio.log; }; rm -f fio.log local-*.state; }
job --filename=buffered --rw=randwrite --bs=4k --verify=crc32c --ioengine=psync --fsync=64
job --filename=direct --rw=randwrite --bs=16k --verify=crc32c --ioengine=psync --direct=1
job --filename=mixed --rw=randrw --bsrange=512-64k --bs_unaligned --verify=crc32c --ioengine=psync
job --filename=mapped --rw=randwrite --bs=4k --verify=crc32c --ioengine=mmap
rm buffered direct mixed mapped
job --filename=pattern --rw=randwrite --bs=8k --verify=pattern --verify_pattern=0xabcd%o --ioengine=psync --direct=1
sha256sum pattern
