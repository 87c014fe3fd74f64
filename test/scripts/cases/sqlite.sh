# SQLite with its journal and with its write-ahead log, from two processes at once.
sqlite3 journal.db 'pragma journal_mode=delete; create table t(a integer primary key, b text); with recursive n(i) as (select 1 union all select i+1 from n where i<5000) insert into t select i, hex(i*7919) from n; create index i on t(b); delete from t where a%3=0; select count(*), sum(a) from t; pragma integrity_check'
sqlite3 wal.db 'pragma journal_mode=wal; create table t(a integer, b text)'
for writer in 1 2; do (for ((i = 0; i < 30; i++)); do sqlite3 -cmd '.timeout 60000' wal.db "insert into t values($i, 'writer $writer')"; done) & done; wait
sqlite3 wal.db 'select count(*), sum(a) from t; pragma wal_checkpoint(truncate); pragma integrity_check; pragma journal_mode=delete'
sqlite3 journal.db "begin; update t set b='changed' where a<100; rollback; select count(*) from t where b='changed'; vacuum; pragma integrity_check"
sqlite3 wal.db '.dump' | sort | sha256sum; rm wal.db
