# Hard links and symbolic links.
echo content > file; for ((i = 0; i < 100; i++)); do ln file "link-$i"; done; stat -c %h file; rm link-5*; stat -c %h file; echo more >> link-7; cat file
ln file file; echo "status $?"; mkdir dir; ln dir dir-link; echo "status $?"; ln -s dir here; ln here hard-to-link; stat -c '%F %h' hard-to-link
ln -s nowhere dangling; cat dangling; echo "status $?"; ln -s loop loop; cat loop; echo "status $?"
for n in 1 50 59 60 61 255 1000 3000 4095; do target=$(printf "%${n}s" '' | tr ' ' t); ln -s "$target" "symlink-$n"; [ "$(readlink "symlink-$n")" = "$target" ] && echo "$n"; done
ln -s "$(printf '%4096s' '' | tr ' ' t)" too-long 2> /dev/null; echo "status $?"
echo through > here/file; cat dir/file; ls -l here | wc -l; readlink -f here/file | sed 's:.*/::'; chmod 600 here; stat -c %a dir here
