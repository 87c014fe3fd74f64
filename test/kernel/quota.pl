# Quota of a mounted volume by quotactl(2), for the node, which has perl without any module. DEVICE is the block device.
#   get DEVICE TYPE ID...          id bytes inodes block-soft block-hard inode-soft inode-hard of each
#   on DEVICE TYPE                 enforce limits
#   set DEVICE TYPE ID BS BH IS IH limits: blocks of 1 KiB, inodes
my ($what, $device, $type, @rest) = @ARGV;
my ($QUOTACTL, $ON, $GET, $SET) = (179, 0x800002, 0x800007, 0x800008);
sub quotactl {
  my ($sub, $id) = @_;
  # Not a copy of the buffer: the kernel writes into it.
  return syscall($QUOTACTL, ($sub << 8) | $type, $device, $id, $_[2]);
}
if ($what eq 'get') {
  for my $id (map { $_ + 0 } @rest) {
    my $buffer = "\0" x 72;
    quotactl($GET, $id, $buffer) >= 0 or die "getquota: $!\n";
    my ($bhard, $bsoft, $space, $ihard, $isoft, $inodes) = unpack('Q8 L2', $buffer);
    print "$id $space $inodes $bsoft $bhard $isoft $ihard\n";
  }
} elsif ($what eq 'on') {
  my $path = "none\0";
  quotactl($ON, 2, $path) >= 0 or die "quotaon: $!\n";
} elsif ($what eq 'set') {
  my ($id, $bsoft, $bhard, $isoft, $ihard) = map { $_ + 0 } @rest;
  # QIF_BLIMITS | QIF_ILIMITS
  my $buffer = pack('Q8 L2', $bhard, $bsoft, 0, $ihard, $isoft, 0, 0, 0, 1 | 4, 0);
  quotactl($SET, $id, $buffer) >= 0 or die "setquota: $!\n";
}
