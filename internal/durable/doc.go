// Package durable writes files durably: whole, synced, renamed into place, with the folder synced after it. All files
// that ChainStore writes as a whole go through it, and the small checked ones through its codec ([Format]). It also
// locks data folders against a second process.
//
// A small file of a data folder is read with [ReadFile], which follows no symbolic link: ChainStore makes none, and
// what a link leads to may be changed from outside the folder.
//
// A failed write or sync must not be retried. The caller stops its role, because the kernel may have dropped the pages
// that it could not write (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
// [SyncMark] remembers a failed sync until the machine is started again.
package durable
