// Package streams has the append streams of the status table: for each stream the number of its newest record, and the
// positions of its newest records, so that records that are sent again get their first positions. It is pure, as
// package masterfsm is.
//
// A stream belongs to a project and numbers its records from 1. The table is bounded: a stream has the positions of its
// newest [Window] records, a project has [PerProject] streams, and all streams take [MaxBytes]. Beyond a bound the
// stream that was used least recently is forgotten.
//
// # Sharing
//
// The runs of a stream are only appended to, and the newest one, which may grow, is apart. So [Table.Images] shares
// them with the table, and its cost does not depend on the number of runs.
package streams
