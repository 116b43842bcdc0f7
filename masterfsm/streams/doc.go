// Package streams has the append streams of the status table: for each stream the number of its newest record, and the
// positions of its newest records, so that records that are sent again get their first positions. It is pure, as
// package masterfsm is.
//
// A stream belongs to a project and numbers its records from 1. The table is bounded: a stream has the positions of its
// newest [Window] records, a project has [Named] streams whose ids its clients have chosen and [Unnamed] others, and
// all streams take [MaxBytes].
//
// A stream that was forgotten would begin again when its first records are sent once more, and they would be appended
// twice. So one makes room for another only after it was idle for some time: [NamedIdle], or [UnnamedIdle] where no
// client can begin it again. Until then another one is refused. If memory is short, streams lose positions instead: the
// records of such a stream are refused when they are sent again, and not appended.
//
// # Sharing
//
// The runs of a stream are only appended to, and the newest one, which may grow, is apart. So [Table.Images] shares
// them with the table, and its cost does not depend on the number of runs.
package streams
