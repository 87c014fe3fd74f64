# Files, directories and device files of every kind; modes under a umask; times.
umask 027
mkdir -p one/two/three four; mkdir -m 1777 sticky; touch empty; echo short > short; seq 20000 > long
mkfifo fifo; mknod char c 1 3; mknod block b 259 70000; ln -s one/two link
touch -d '2001-02-03 04:05:06.123456789' short; touch -d '1970-01-01 00:00:00' empty; touch -d '2100-01-01' long; 
mkdir one; echo "status $?"; mkdir missing/below; echo "status $?"; : > one; echo "status $?"; cat four; echo "status $?"
name=$(printf '%255s' '' | tr ' ' n); echo deep > "one/$name"; : > "one/${name}n"; echo "status $?"
for odd in 'with blank' $'new\nline' "quo'te\"" 'grün ☃' $'\xff\xfe' -dash ...; do echo "$odd" > "./$odd"; done
ls -1A | sort | od -c | sha256sum; stat -c '%n %F %a %s' one four sticky empty short long fifo char block link; touch -r short one; stat -c '%n %Y %y' empty short long one
below=.; for ((i = 0; i < 50; i++)); do below=$below/level; mkdir "$below"; done; echo bottom > "$below/file"; find level -name file -exec cat {} +
