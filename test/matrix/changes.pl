# What Linux does to a volume of the matrix, in one process, as starting programs is what takes time under emulation:
#   changes.pl DIRECTORY CLUSTER-SIZE FEATURE,…    (of sparse, unwritten, xattr, refcount, quota)
# The node has perl without any module, hence system calls by number (x86-64).
BEGIN { $^H |= 0x602 } # use strict
my ($top, $cluster, $features) = @ARGV;
my %has = map { $_ => 1 } split /,/, $features;
my ($CREAT, $WRONLY, $KEEP_SIZE, $PUNCH) = (0100, 1, 1, 3);
my @LENGTHS = (0, 3, 30, 79, 80, 81, 200, 5000);

sub done { my ($result, $what) = @_; die "$what: $!\n" if $result == -1; return $result }
sub opened { my ($path) = @_; sysopen my $file, $path, 2 | $CREAT, 0644 or die "$path: $!\n"; return $file }
sub put { my ($path, $at, $bytes) = @_; my $file = opened($path); sysseek $file, $at, 0; (syswrite($file, $bytes) // -1) == length $bytes or die "writing $path: $!\n" }
sub append { my ($path, $bytes) = @_; put($path, -s $path, $bytes) }
sub fsync { my ($path) = @_; my $file = opened($path); done(syscall(74, fileno $file), "fsync $path") }
sub cut { my ($path, $size) = @_; my $file = opened($path); truncate $file, $size or die "truncate $path: $!\n" }
sub reserve { my ($path, $mode, $at, $length) = @_; my $file = opened($path); done(syscall(285, fileno $file, $mode, $at, $length), "fallocate $path") }
sub attribute { my ($path, $name, $value) = @_; done(syscall(189, $path, $name, $value, length $value, 0), "setxattr $path $name") }
sub unattribute { my ($path, $name) = @_; done(syscall(198, $path, $name), "removexattr $path $name") }
sub cloned { my ($from, $to) = @_; my ($in, $out) = (opened($from), opened($to)); done(ioctl($out, 0x40049409, fileno $in) // -1, "FICLONE $to") }
# With attributes and owner.
sub snapshot { my ($from, $to) = @_; my $file = opened($from); done(ioctl($file, 0x40186f04, pack 'ppQ', $from, $to, 1) // -1, "OCFS2_IOC_REFLINK $to") }
sub shared { my ($from, $at, $length, $to, $there) = @_; my ($in, $out) = (opened($from), opened($to)); done(ioctl($out, 0x4020940d, pack 'q4', fileno $in, $at, $length, $there) // -1, "FICLONERANGE $to") }
sub lines { my ($first, $last) = @_; return join '', map { "$_\n" } $first .. $last }
# Bytes no two words of which are alike.
sub bytes { my ($n, $seed) = @_; return substr pack('V*', map { ($_ * 2654435761 + $seed * 40503) & 0xffffffff } 1 .. $n / 4 + 1), 0, $n }
sub acl { my ($uid, $perm) = @_; return pack 'V(vvV)5', 2, 1, 6, 0xffffffff, 2, $perm, $uid, 4, 4, 0xffffffff, 16, 7, 0xffffffff, 32, 0, 0xffffffff }

chdir $top or die "$top: $!\n";
umask 022;
mkdir $_ or die "mkdir $_: $!\n" for 'theirs', 'theirs/wide', 'theirs/attributes', 'theirs/clones';
chdir 'theirs';
put('text', 0, lines(1, 3000));
put('inline', 0, 'inline');
put("wide/file-$_", 0, '') for 0 .. 79;
for (my $i = 0; $i < 80; $i += 2) { unlink "wide/file-$i" or die "unlink: $!\n" }
for my $i (0 .. 9) { for my $name ('a', 'b') { append($name, bytes(3000, $i)); fsync($name) } }
put('beyond', 0, 'begin'); put('beyond', 3 * $cluster + 9, 'end'); cut('beyond', 4 * $cluster + 1);
put('owned', 0, bytes(50_000, 1)); chown 1003, 2001, 'owned'; put("owned-$_", 0, 'x') for 0 .. 9; chown $_ < 5 ? (1004, 2000) : (5, 6), "owned-$_" for 0 .. 9;

files_of_ours();
trees() if $has{sparse};
attributes() if $has{xattr};
clones() if $has{refcount};
full() if $has{unwritten};

sub files_of_ours {
  chdir '../ours';
  append('text', "more\n"); unlink 'link'; rename 'inline', 'empty/moved'; link 'text', 'empty/hard';
  cut($_, -s($_) - 1000) for 'even', 'odd';
  unlink "wide/entry number $_" or die "unlink: $!\n" for 1, 2, 3, 101 .. 104, 211;
  put("wide/of Linux $_", 0, '') for 1 .. 40;
  chown 1004, 2001, 'owners/file-3', 'owners/file-6'; unlink 'owners/file-0'; append('owners/file-9', bytes(20_000, 3));
  rename 'below/0/1', 'empty/below' or die "rename: $!\n";
  chdir '../theirs';
}

# A deep tree of its own, and more in the gaps of one of ours.
sub trees {
  # Linux writes the whole of a new cluster.
  my $written = 8 << 20 > 4 * $cluster ? (8 << 20) / $cluster : 4;
  for my $i (0 .. 150) {
    my $k = $i * 7 % 151;
    if ($k % 3 != 0 && $written-- > 0) { put('deep', 2 * $k * $cluster + 3, "piece $k") }
    elsif ($has{unwritten}) { reserve('deep', 0, 2 * $k * $cluster, $cluster) }
  }
  for (my $i = 1; $i < 300; $i += $cluster > 65536 ? 75 : 19) { put('../ours/deep', (2 * ($i * 7 % 300) + 1) * $cluster + 3, "linux $i") }
  return unless $has{unwritten};
  for (my $i = 5; $i < 150; $i += 20) { reserve('deep', $PUNCH, 2 * $i * $cluster, $cluster) }
  for (my $i = 5; $i < 300; $i += 45) {
    reserve('../ours/deep', $KEEP_SIZE, (2 * $i + 1) * $cluster, $cluster);
    reserve('../ours/deep', $PUNCH, 4 * $i * $cluster, 3 * $cluster);
  }
}

# No value comes to take less room in its bucket than before: Linux forgets to count that (xattr.c:ocfs2_xa_reuse_entry).
sub attributes {
  put('attributes/many', 0, 'text');
  attribute('attributes/many', "user.by Linux $_", bytes($LENGTHS[$_ % ($cluster > 65536 ? 5 : 8)], $_)) for 0 .. 59;
  for (my $i = 0; $i < 60; $i += 7) { unattribute('attributes/many', "user.by Linux $i") }
  attribute('attributes/many', 'security.selinux', "system_u:object_r:tmp_t:s0\0");
  put('attributes/listed', 0, 'listed'); attribute('attributes/listed', 'system.posix_acl_access', acl(1001, 6));
  mkdir 'attributes/lists'; attribute('attributes/lists', 'system.posix_acl_default', acl(1002, 7)); put('attributes/lists/inherits', 0, 'x'); mkdir 'attributes/lists/below';
  chdir '../ours/attributes';
  attribute('many-0', "user.added by Linux $_", bytes($LENGTHS[$_ % 5], $_)) for 0 .. 19;
  unattribute('many-0', $_ % 5 == 0 ? "trusted.attribute $_" : $_ % 7 == 0 ? "security.attribute $_" : "user.attribute $_") for 4, 5, 6, 8, 10, 14;
  attribute('few', 'user.one', bytes(70, 1)); attribute('few', 'user.two', bytes(60, 2)); attribute('directory', 'user.e', bytes(30, 3));
  unattribute('lists/file-2', 'system.posix_acl_access'); chmod 0604, 'lists/file-4'; put('lists/of Linux', 0, 'inherits what we set');
  chdir '../../theirs';
}

sub clones {
  chdir 'clones';
  put('base', 0, bytes(5 * $cluster > 300_000 ? 300_000 : 5 * $cluster, 9)); put('base', 7 * $cluster + 100, 'behind a hole');
  if ($has{xattr}) { attribute('base', 'user.small', 'with it'); attribute('base', 'user.large', bytes(2000, 4)) }
  cloned('base', "clone-$_") for 0 .. 3;
  snapshot('base', 'snapshot');
  put('clone-0', $cluster + 7, 'rewritten'); cut('clone-1', $cluster + 100); append('clone-3', 'and more');
  reserve('snapshot', $PUNCH, $cluster, $cluster) if $has{unwritten};
  cloned('clone-0', 'second'); unlink 'clone-3';
  put('target', 0, 'x');
  # Without sparse files Linux 6.1 meets a BUG here (a hole before the range that it is to share).
  shared('base', 0, $cluster, 'target', 2 * $cluster) if $has{sparse};
  chdir '../../ours/clones';
  cloned('kept', 'of Linux'); snapshot('clone-0', 'snapshot of Linux');
  put('clone-1', 5, 'into a clone of ours'); append('clone-6', 'at its end'); cut('clone-5', 50); unlink 'clone-2'; put('source', 10, 'into a range of ours'); put('kept', $cluster, 'into the last');
  reserve('clone-6', $PUNCH, $cluster, 2 * $cluster) if $has{unwritten};
  chdir '../../theirs';
}

# To the last cluster, thinned out, and filled again of smaller things.
sub full {
  mkdir 'full';
  # Out of its inode while there is room: where it finds none for that, Linux goes on to count a cluster (dir.c:ocfs2_expand_inline_dir).
  my @early = map { 'full/' . $_ x 200 } 'a' .. 'z';
  put($_, 0, '') for @early;
  unlink @early;
  my ($n, $size) = (0, 64 * $cluster);
  for (;;) {
    my $file = opened("full/$n");
    if (syscall(285, fileno $file, $KEEP_SIZE, 0, $size) == 0) { last if ++$n >= 40 && $size > $cluster; next }
    die "fallocate: $!\n" unless $! == 28;
    last if $size == $cluster;
    $size = $size > 8 * $cluster ? $size / 8 : $cluster;
  }
  for my $i (0 .. $n) { unlink "full/$i" if $i % 4 != 1 }
  for (my $i = 1; $i < $n; $i += 4) { for (my $k = 1; $k < 16; $k += 3) { reserve("full/$i", $PUNCH, $k * $cluster, $cluster) } }
  for my $i (0 .. 30) { eval { put("full/small-$i", 0, bytes(100, $i)) }; last if $@ }
  unlink "../again/file-$_" for 100 .. 149;
}
