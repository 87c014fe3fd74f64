# A directory of 10,000 entries: made, listed, found, thinned out, filled again, emptied.
mkdir many; cd many || exit
for ((i = 0; i < 10000; i++)); do : > "entry-number-$i"; done
find . | wc -l; find . | sort | sha256sum; for ((i = 0; i < 10000; i += 977)); do [ -f "entry-number-$i" ] && echo "$i"; done; [ -e entry-number-10000 ]; echo "status $?"
for ((i = 0; i < 10000; i += 2)); do echo "entry-number-$i"; done | xargs rm; find . | wc -l; find . | sort | sha256sum
for ((i = 0; i < 2000; i++)); do : > "another-$i"; done; find . | sort | sha256sum
cd ..; mkdir gone; for ((i = 0; i < 1500; i++)); do echo "gone/$i"; done | xargs touch; rm -r gone; stat -c %h .
