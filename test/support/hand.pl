# A user's process on a node of a cluster: makes one system call, or a few that belong together, for each line it gets, and says how they went.
# Needs nothing but perl itself, not one module (none is on a kernel node's small root): `perl -Mstrict -Mwarnings -c` looks it over elsewhere.
# test/support/hand.ts is its other end.
#
#   perl hand.pl DIRECTORY [PORT]     lines come by standard input, or by the virtio port of that name
#
# Request: ID, operation, arguments, with tabs between; paths are relative to DIRECTORY. Answer: ID, errno (0: done), values.

my ($directory, $port) = @ARGV;
my ($in, $out) = (\*STDIN, \*STDOUT);
if (defined $port) {
  my $ports = '/sys/class/virtio-ports';
  opendir(my $all, $ports) or die "$ports: $!\n";
  my ($name) = grep { my $file; open($file, '<', "$ports/$_/name") && <$file> eq "$port\n" } readdir $all;
  die "no port $port\n" unless defined $name;
  open($in, '+<', "/dev/$name") or die "$name: $!\n";
  open($out, '>&', $in) or die "$name: $!\n"; # a port can be opened once only
}
select($out);
$| = 1;

my ($CREAT, $EXCL, $TRUNC, $APPEND, $DIRECTORY) = (0100, 0200, 01000, 02000, 0200000);
my ($LOCK_EX, $LOCK_UN) = (2, 8);
my ($SETXATTR, $GETXATTR, $REMOVEXATTR, $GETDENTS64) = (188, 191, 197, 217);
my %files;

sub at { return "$directory/$_[0]" }

sub must { die "$_[0]\n" unless $_[1]; return $_[1] }

# Ends the operation with errno unless what it is given is true.
sub ok {
  my ($result) = @_;
  die { errno => $! + 0 } unless $result;
  return $result;
}

sub opened {
  my ($path, $flags) = @_;
  ok(sysopen(my $file, at($path), $flags, 0644));
  return $file;
}

sub all_of {
  my ($file) = @_;
  my $bytes = '';
  ok(defined sysseek($file, 0, 0));
  while (ok(defined(my $count = sysread($file, $bytes, 65536, length $bytes)))) { last if $count == 0 }
  return $bytes;
}

sub part_of {
  my ($file, $offset, $length) = @_;
  ok(sysseek($file, $offset, 0));
  ok(defined sysread($file, my $bytes, $length));
  return $bytes;
}

sub put {
  my ($file, $bytes) = @_;
  my $count = syswrite($file, $bytes);
  ok(defined $count);
  die { errno => 5 } if $count != length $bytes;
}

# Kind, inode, links, size, mode, time of change in seconds.
sub facts {
  my @stat = @_;
  ok(scalar @stat);
  my $kind = ($stat[2] & 0170000) == 0040000 ? 'directory' : ($stat[2] & 0170000) == 0120000 ? 'link' : 'file';
  return ($kind, $stat[1], $stat[3], $stat[7], $stat[2] & 07777, $stat[9]);
}

my %do = (
  # Files that stay open under a name of the caller's.
  open => sub { my ($as, $path, $flags) = @_; $files{$as} = opened($path, $flags); return (facts(stat $files{$as}))[1] },
  close => sub { ok(close delete $files{$_[0]}); return () },
  pread => sub { my ($as, $offset, $length) = @_; return unpack 'H*', part_of($files{$as}, $offset, $length) },
  pwrite => sub { my ($as, $offset, $hex) = @_; ok(sysseek($files{$as}, $offset, 0)); put($files{$as}, pack 'H*', $hex); return () },
  append => sub { my ($as, $hex) = @_; put($files{$as}, pack 'H*', $hex); return () },
  fstat => sub { return facts(stat $files{$_[0]}) },
  ftruncate => sub { my ($as, $size) = @_; ok(truncate $files{$as}, $size); return () },
  flock => sub { my ($as, $how) = @_; ok(flock $files{$as}, $how); return () },
  fsync => sub { my ($as) = @_; ok(syscall(74, fileno $files{$as}) == 0); return () },

  # Names.
  stat => sub { return facts(lstat at($_[0])) },
  unlink => sub { ok(unlink at($_[0])); return () },
  mkdir => sub { ok(mkdir at($_[0])); return () },
  rmdir => sub { ok(rmdir at($_[0])); return () },
  rename => sub { ok(rename at($_[0]), at($_[1])); return () },
  link => sub { ok(link at($_[0]), at($_[1])); return () },
  symlink => sub { ok(symlink $_[0], at($_[1])); return () },
  readlink => sub { my $target = readlink at($_[0]); ok(defined $target); return $target },
  # In one getdents call, so that what a small directory is said to hold it held at one moment.
  list => sub {
    my $file = opened($_[0], $DIRECTORY);
    my $buffer = "\0" x 32768;
    my $length = syscall($GETDENTS64, fileno $file, $buffer, length $buffer);
    ok($length >= 0);
    my @names;
    for (my $from = 0; $from < $length; $from += unpack 'S', substr $buffer, $from + 16, 2) {
      my ($name) = unpack 'Z*', substr $buffer, $from + 19;
      push @names, $name unless $name eq '.' || $name eq '..';
    }
    return sort @names;
  },

  # Attributes.
  chmod => sub { my ($path, $mode) = @_; ok(chmod $mode, at($path)); return () },
  utime => sub { my ($path, $seconds) = @_; ok(utime $seconds, $seconds, at($path)); return () },
  truncate => sub { my ($path, $size) = @_; ok(truncate at($path), $size); return () },
  setxattr => sub { my ($path, $name, $value) = @_; ok(syscall($SETXATTR, at($path), $name, $value, length $value, 0) == 0); return () },
  removexattr => sub { my ($path, $name) = @_; ok(syscall($REMOVEXATTR, at($path), $name) == 0); return () },
  getxattr => sub {
    my ($path, $name) = @_;
    my $value = "\0" x 65536;
    my $length = syscall($GETXATTR, at($path), $name, $value, length $value);
    ok($length >= 0);
    return substr $value, 0, $length;
  },

  # Whole errands, each with a descriptor of its own.
  create => sub { my ($path, $hex) = @_; my $file = opened($path, 2 | $CREAT | $EXCL); put($file, pack 'H*', $hex) if $hex ne ''; return (facts(stat $file))[1] },
  get => sub { my ($path, $offset, $length) = @_; return unpack 'H*', part_of(opened($path, 0), $offset, $length) },
  put => sub { my ($path, $offset, $hex) = @_; my $file = opened($path, 2 | $CREAT); ok(sysseek($file, $offset, 0)); put($file, pack 'H*', $hex); ok(close $file); return () },
  slurp => sub { return unpack 'H*', all_of(opened($_[0], 0)) },
  add => sub { my ($path, $hex) = @_; my $file = opened($path, 1 | $CREAT | $APPEND); put($file, pack 'H*', $hex); ok(close $file); return () },
  # Under the file's lock: add one to the number in the file; the number that was there.
  count => sub {
    my $file = opened($_[0], 2);
    ok(flock $file, $LOCK_EX);
    my $number = all_of($file) + 0;
    ok(sysseek($file, 0, 0));
    put($file, sprintf "%08d\n", $number + 1);
    ok(flock $file, $LOCK_UN);
    return $number;
  },
  # Under the file's lock: append; where to. (Linux 6.1 takes the end of a file for O_APPEND before it asks the cluster: file.c, ocfs2_file_write_iter. So fstat first.)
  lockedadd => sub {
    my ($path, $hex) = @_;
    my $file = opened($path, 2 | $APPEND);
    ok(flock $file, $LOCK_EX);
    my $at = (facts(stat $file))[3];
    put($file, pack 'H*', $hex);
    ok(flock $file, $LOCK_UN);
    return $at;
  },
);

while (defined(my $line = <$in>)) {
  chomp $line;
  my ($id, $operation, @arguments) = split /\t/, $line, -1;
  my @values = eval { must("no operation $operation", $do{$operation})->(@arguments) };
  my $errno = 0;
  if (my $error = $@) {
    if (ref $error) { $errno = $error->{errno} || 5 } else { chomp $error; ($errno, @values) = (-1, $error) }
  }
  print $out join("\t", $id, $errno, $errno > 0 ? () : @values) . "\n";
}
