// Package masterfsm is the status table: the deterministic state that every master holds, and the commands that change
// it.
//
// A [State] changes through [State.Apply] alone, and Apply gets nothing but committed log entries. There is no clock,
// no randomness, no I/O and no goroutine here: times, random ids and salts come inside the commands, and times are
// clamped so that they never run backwards. The same log gives the same state on every master, byte for byte;
// [State.Snapshot] of two masters at one log index is therefore equal.
//
// # The way of a record
//
//	Append ─► open buffer ─cut─► pending block ─Mined─► mined block ─Acknowledge─► stored block ─► dropped
//	          (position is       (header known          (head moves)               (replicas nodes
//	           final here)        when it is its turn)                              have it on disk)
//
// A position is final at the commit, before any mining, because the state itself cuts the blocks. Block k+1's root
// contains block k's seal, so its header is made when block k is mined.
//
// # Sharing
//
// Bytes of records are written once and never changed, so slices handed out by a State stay good after the State has
// moved on. Everything else is read while no command is applied; package raftstore holds the lock.
package masterfsm
