# What is in a mounted volume, in one process and one stream: look.pl DEVICE QUOTA-TYPES IDS < the list that `look` (linux.ts) makes with find
#
# Answer, of words ended by NUL: the number of entries; of each the path, what find said of it, where its data is (pieces as
# OFFSET+LENGTH, and a sum of its words, which is only to say which file differs), its attributes (NAME=HEX, sorted); then
# the number of quota rows and the rows; then the MD5 of all data, inodes in order, each piece after a line that says
# whose and where it is. Holes and unwritten extents are not read: that Linux knows where they are is in the pieces.
BEGIN { $^H |= 0x602 } # use strict
my ($device, $types, $ids) = @ARGV;
my ($SEEK_DATA, $SEEK_HOLE, $CHUNK) = (3, 4, 1 << 20);
binmode $_ for *STDIN, *STDOUT;
my (@entries, %inodes);
# The kernel writes into them: made once, not for each of 200,000 inodes.
my ($names, $value) = ("\0" x 65536, "\0" x 65536);
{ local $/; my @words = split /\0/, <STDIN>, -1; pop @words; push @entries, [splice @words, 0, 2] while @words; }
$inodes{(split /\|/, $$_[1])[9]} //= $_ for @entries;
my $sum = "/tmp/sum.$$";
open my $stream, '|-', "md5sum > $sum" or die "md5sum: $!\n";
binmode $stream;
my (%data, %attributes);
for my $inode (sort { $a <=> $b } keys %inodes) {
  my ($path, $line) = @{$inodes{$inode}};
  my ($type, $size) = (split /\|/, $line)[0, 5];
  $path = "./$path";
  $data{$inode} = $type eq 'f' && $size > 0 ? data($path, $inode) : '';
  $attributes{$inode} = attributes($path);
}
close $stream or die "md5sum: $!\n";

sub data {
  my ($path, $inode) = @_;
  sysopen my $file, $path, 0 or die "$path: $!\n";
  my ($at, $sum, @pieces) = (0, 0);
  while (defined(my $from = sysseek $file, $at, $SEEK_DATA)) {
    $from += 0;
    my $end = (sysseek($file, $from, $SEEK_HOLE) // die "$path: $!\n") + 0;
    push @pieces, "$from+" . ($end - $from);
    print $stream "$inode $from ", $end - $from, "\n";
    sysseek $file, $from, 0;
    for ($at = $from; $at < $end;) {
      my $n = sysread $file, my $bytes, $end - $at < $CHUNK ? $end - $at : $CHUNK;
      die "$path at $at: " . (defined $n ? 'its end' : $!) . "\n" unless $n;
      print $stream $bytes;
      $sum += unpack '%64V*', $n % 4 ? "$bytes\0\0\0" : $bytes;
      $at += $n;
    }
  }
  die "$path: $!\n" unless $! == 6;
  return join(',', @pieces) . " $sum";
}

sub attributes {
  my ($path) = @_;
  my $n = syscall(195, $path, $names, 65536);
  return $! == 95 ? '' : die "listxattr $path: $!\n" if $n < 0;
  return join ' ', map {
    my $length = syscall(192, $path, $_, $value, 65536);
    die "getxattr $path $_: $!\n" if $length < 0;
    "$_=" . unpack 'H*', substr $value, 0, $length;
  } sort split /\0/, substr $names, 0, $n;
}

my @rows;
for my $type (split /,/, $types) {
  for my $id (split /,/, $ids) {
    my $buffer = "\0" x 72;
    # Q_GETQUOTA; an id that was never used has no record.
    if (syscall(179, (0x800007 << 8) | $type, $device, $id + 0, $buffer) < 0) { die "getquota: $!\n" unless $! == 2 || $! == 3; next }
    my ($bhard, $bsoft, $space, $ihard, $isoft, $inodes) = unpack 'Q8 L2', $buffer;
    push @rows, "$type $id $space $inodes $bsoft $bhard $isoft $ihard" if $bhard || $bsoft || $space || $ihard || $isoft || $inodes;
  }
}

open my $told, '<', $sum or die "$sum: $!\n";
my ($md5) = <$told> =~ /^([0-9a-f]{32})/;
unlink $sum;
print scalar(@entries), "\0";
for (@entries) {
  my ($path, $line) = @$_;
  my $inode = (split /\|/, $line)[9];
  print "$path\0$line\0$data{$inode}\0$attributes{$inode}\0";
}
print scalar(@rows), "\0", (map { "$_\0" } @rows), "$md5\0";
