# A shared mapping of a file, changed and looked at by commands on standard input; one line answers each. System calls by number: no module is needed.
# usage: perl mapping.pl FILE BYTES [ro]     put OFFSET CHAR BYTES | get OFFSET BYTES | sync | end
#        perl mapping.pl FILE BYTES count N PROBABILITY   N times: lock the file, see that a page holds one number, in the mapping and by read(2), and count it up
# Kernel nodes have perl without modules.
$| = 1;
my ($LOCK_EX, $LOCK_UN) = (2, 8);
my ($MMAP, $MSYNC, $READ) = `uname -m` =~ /aarch64/ ? (222, 227, 63) : (9, 26, 0);
my ($file, $bytes, $mode, $times, $mapped) = @ARGV;
my $ro = ($mode // '') eq 'ro';
sysopen(my $fh, $file, $ro ? 0 : 2) or die "open $file: $!\n";
my $at = syscall($MMAP, 0, $bytes + 0, $ro ? 1 : 3, 1, fileno($fh), 0);
$at == -1 and die "mmap $file: $!\n";
pipe(my $out, my $in) or die "pipe: $!\n";
sub put {
  my ($offset, $data) = @_;
  for (my $done = 0; $done < length $data; $done += 4096) {
    my $part = substr($data, $done, 4096);
    syswrite($in, $part) == length $part or die "pipe: $!\n";
    my $got = syscall($READ, fileno($out), $at + $offset + $done, length $part);
    $got == length $part or die "write to the mapping: $got, $!\n";
  }
}
sub get { return unpack("P$_[1]", pack('Q', $at + $_[0])) }
if (($mode // '') eq 'count') {
  srand($$);
  for (1 .. $times) {
    flock($fh, $LOCK_EX) or die "flock: $!\n";
    my $page = int(rand($bytes / 4096));
    my $here = get($page * 4096, 4096);
    sysseek($fh, $page * 4096, 0);
    sysread($fh, my $there, 4096) == 4096 or die "read: $!\n";
    for my $seen ($here, $there) { $seen eq substr($seen, 0, 8) x 512 or die "page $page is torn\n" }
    $here eq $there or die "page $page: mapped " . unpack('Q', $here) . ', read ' . unpack('Q', $there) . "\n";
    my $next = pack('Q', unpack('Q', $here) + 1) x 512;
    if (rand() < $mapped) { put($page * 4096, $next) }
    else { sysseek($fh, $page * 4096, 0); syswrite($fh, $next) == 4096 or die "write: $!\n" }
    syscall($MSYNC, $at + 0, $bytes + 0, 4) == 0 or die "msync: $!\n" if rand() < 0.1;
    flock($fh, $LOCK_UN);
  }
  print "counted\n";
  exit 0;
}
print "mapped\n";
while (<STDIN>) {
  my ($command, $offset, @rest) = split;
  if ($command eq 'put') { put($offset, $rest[0] x $rest[1]); print "put\n" }
  elsif ($command eq 'get') {
    my %of;
    $of{$_}++ for split //, get($offset, $rest[0]);
    print join(' ', map { sprintf('%s:%d', $_ eq "\0" ? '0' : $_, $of{$_}) } sort keys %of), "\n";
  }
  elsif ($command eq 'sync') { print syscall($MSYNC, $at + 0, $bytes + 0, 4) == 0 ? "synced\n" : "$!\n" }
  elsif ($command eq 'end') { print "end\n"; exit 0 }
}
