# Appending: by one, by four processes at once, after a truncation.
for ((i = 0; i < 300; i++)); do echo "line $i" >> lines; done; sha256sum lines
for writer in a b c d; do (for ((i = 0; i < 200; i++)); do echo "$writer $i" >> shared; done) & done; wait
sort shared > sorted; rm shared; wc -l sorted; sha256sum sorted
exec 4>> log; echo first >&4; : > log; echo second >&4; exec 4>&-; od -c log
seq 50000 >> large; seq 50000 >> large; sha256sum large
