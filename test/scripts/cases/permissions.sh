# What root sets up and two other users may do with it.
as() { setpriv --reuid="$1" --regid="$2" --groups="$3" bash -c "$4"; echo "status $?"; }
chmod 755 .; mkdir -m 755 public; mkdir -m 700 private; mkdir -m 1777 tmp; mkdir -m 2775 team; chgrp 50 team
echo secret > secret; chmod 600 secret; echo open > open; chmod 666 open; echo group > group; chgrp 50 group; chmod 640 group; echo x > private/file
as 1000 1000 1000 'cat secret'; as 1000 1000 1000 'echo more >> open; cat open'; as 1000 1000 1000 'cat group'; as 1000 1000 1000,50 'cat group'; as 1000 1000 1000 'ls private'; as 1000 1000 1000 'touch public/new'
as 1000 1000 1000 'echo mine > tmp/mine; chmod 644 tmp/mine'; as 1001 1001 1001 'rm -f tmp/mine'; as 1001 1001 1001 'mv tmp/mine tmp/yours'; as 1001 1001 1001 'echo x >> tmp/mine'
as 1000 1000 1000,50 'umask 002; mkdir team/sub; echo a > team/sub/a'; stat -c '%n %a %u %g' team/sub team/sub/a
as 1000 1000 1000 'chown 1001 tmp/mine'; as 1000 1000 1000 'chmod 4755 tmp/mine'; as 1001 1001 1001 'chmod 777 tmp/mine'; as 1000 1000 1000 'touch -d @1000 open'; as 1000 1000 1000 'touch open'
echo run > suid; chmod 6755 suid; chown 1000:1000 suid; stat -c %a suid; chmod 6777 suid; as 1001 1001 1001 'echo more >> suid'; stat -c %a suid
chmod 0 secret; cat secret; as 1000 1000 1000 'cat secret'; stat -c '%n %a %u %g' * tmp/* team
