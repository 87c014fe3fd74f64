# A source tree through tar and git: unpacked, packed, committed, cloned, branched, merged, packed again.
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000' GIT_CONFIG_NOSYSTEM=1 HOME=$PWD
git config --global init.defaultBranch main; git config --global pack.threads 1; git config --global gc.auto 0; export GIT_TEMPLATE_DIR=$PWD/template; mkdir template
mkdir tree; tar -xf "$SOURCE" -C tree; find tree -type f | wc -l; touch -d @1700000000 tree; tar -C tree --sort=name -cf packed.tar .; tar -df packed.tar -C tree && echo same
cd tree && git init -q && git add . && git commit -qm first && git status --porcelain && git rev-parse HEAD
git checkout -qb other; for file in $(git ls-files '*.ts' | head -20); do echo '// changed' >> "$file"; done; git commit -qam second; git checkout -q main; git rm -q "$(git ls-files '*.ts' | tail -1)"; git commit -qm third; git merge -q -m merge other; git rev-parse HEAD
git fsck --strict 2>&1 | grep -v '^dangling'; git repack -qad; cd .. && git clone -q tree clone && git -C clone remote set-url origin ../tree && diff -r -x .git tree clone && echo same; (cd clone && git log --format=%H | sha256sum; git status --porcelain)
rm tree/.git/index clone/.git/index; rm -r tree/.git/logs clone/.git/logs
