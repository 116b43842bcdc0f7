// Package logstore is the log of a master: raft's entries in segment files of github.com/hashicorp/raft-wal.
//
// The library appends and reads. It assumes that a disk returns what was written, and drops what follows a wrong byte.
// So [Open] reads all files first, and refuses a log that has lost an entry. It knows from the file "mark" which
// entries there were. It also finishes what an interrupted process has left, before the library sees it: a batch that
// was not written to its end is cut off, a batch that may not be synced is written again, and a segment that was
// completed without its successor gets one.
//
//	log/segments        which segments there are, replaced as a whole
//	log/mark            the newest entry, written in place after each append
//	log/<first>-<id>.wal a segment
//
// See docs/adr/0019-raft-wal-log-store.md.
package logstore
