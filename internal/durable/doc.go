// Package durable is the one way in which ChainStore puts a file on disk for good: whole, synced, renamed into place, and the
// folder synced after it. It also keeps a second process out of a data folder.
//
// Nobody retries on dirty pages: after a failed write or sync the caller stops its role, because the kernel may have
// dropped the pages that it could not write (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
package durable
