package masterfsm

import (
	"fmt"

	"github.com/chainstore/chainstore/wire"
)

// Protocol levels. A member announces the highest level that its program knows; the group's level is committed, by
// [RaiseLevel], once every member has announced it, and never falls. What an older member could not read, or would do
// differently, is written and done only from its level on. A member of a lower level than the group's is not admitted.
//
//	0: up to commit b74b8ae
//	1: submissions are distinguished by their content ([State.Apply] of an append); workers register with the start
//	   that the table has of them ([Register]); snapshots of version 5; raft connections open with handshake version 2
//	   (package raftstore/transport)
//	2: causes are codes with arguments ([Cause]), in the state and in commands; the table has the protocol levels of
//	   workers ([Register]); snapshots of version 6; handshake version 3
//	3: the table counts the time that passes for the schedules of checks ([BeginTerm], [EndCheck]), an operator can
//	   set its time ([SetTime]), and absurd times are ignored; snapshots of version 7; a body leaves the masters only
//	   if Replicas nodes have it now; settings change only through [ChangeSettings]; a leader asks the voters for
//	   their terms before a negative answer, and answers only masters that name themselves; handshake version 4;
//	   the table keeps how long the checks of storage nodes took, which miners are dead ([MarkMiners],
//	   [RemoveMiner]), and failed syncs of data folders ([FailedSync]); reports of storage nodes say that they are
//	   complete; ends of checks say their result ([EndCheck]), and a node that cannot be checked is no copy; the
//	   table counts the checks in a row that ended early
//	4: append streams (package masterfsm/streams); snapshots of version 8
//	5: named admin tokens ([CreateAdmin], [RevokeAdmin], [ExpireAdmins]); the table has the ids of append streams, and
//	   streams without a record ([OpenStream]); snapshots of version 9
//	6: nodes prove their secrets (package nodeauth)
//	7: acts are in the audit trail ([State.Apply] of an act), and its project is there; join tickets ([CreateTicket],
//	   [RevokeTicket]), and keys of masters ([AdmitMaster]); approval of workers ([DecideWorker]); projects and the
//	   log can be closed ([CloseProject], [CloseLog]); append streams have a larger window; snapshots of version 10
const (
	// LevelIdentities is the level from which reused names and copied data folders are recognised.
	LevelIdentities = 1

	// LevelCodes is the level from which causes are codes.
	LevelCodes = 2

	// LevelCopies is the level from which the masters drop a body only if enough nodes have it now.
	LevelCopies = 3

	// LevelSettings is the level from which settings change only through [ChangeSettings].
	LevelSettings = 3

	// LevelFailedSyncs is the level from which the table remembers failed syncs of data folders.
	LevelFailedSyncs = 3

	// LevelCounts is the level from which a cause counts all blocks, also those that it does not name.
	LevelCounts = 3

	// LevelElapsed is the level from which the schedules count elapsed time.
	LevelElapsed = 3

	// LevelTerms is the level from which masters answer the question for their term on a connection of raft's port, and
	// name themselves when they call the leader over HTTP.
	LevelTerms = 3

	// LevelMiners is the level from which the table has which miners are dead.
	LevelMiners = 3

	// LevelResults is the level from which ends of checks have a result, and a node that cannot be checked does not
	// count as a copy.
	LevelResults = 3

	// LevelReports is the level from which reports of storage nodes say that they are complete.
	LevelReports = 3

	// LevelSegments is the level from which a master moves its log out of raft.db: see package raftstore.
	LevelSegments = 3

	// LevelStreams is the level from which the table has append streams.
	LevelStreams = 4

	// LevelStreamIDs is the level from which the table has the ids of streams and the times of their last uses, and
	// streams without a record ([OpenStream]).
	LevelStreamIDs = 5

	// LevelAdmins is the level from which the table has named admin tokens.
	LevelAdmins = 5

	// LevelProofs is the level from which nodes prove their secrets and do not send them: see package nodeauth. It is
	// raised only after every worker of the table has announced it too.
	LevelProofs = wire.LevelProofs

	// LevelJoining is the level from which new masters need a ticket, and the table has the keys of masters.
	LevelJoining = wire.LevelJoining

	// LevelApprovals is the level from which new workers may need approval.
	LevelApprovals = 7

	// LevelAudit is the level from which acts are in the audit trail.
	LevelAudit = 7

	// LevelWindow is the level from which append streams have a window of [streams.Window] records.
	LevelWindow = 7

	// LevelClosing is the level from which projects and the log can be closed.
	LevelClosing = 7

	// ProtocolLevel is the highest level that this program knows.
	ProtocolLevel = wire.ProtocolLevel
)

// RaiseLevel raises the group's protocol level. The leader proposes it after every member of raft's configuration,
// non-voters included, has announced the level. It is refused with [ErrStale] where the group has that level or a
// higher one. A level above [ProtocolLevel] gives [ErrCommand]: this program must stop.
type RaiseLevel struct {
	Level uint64 `json:"level"`
	Time  uint64 `json:"time"`
}

func (c *RaiseLevel) apply(s *State) (any, error) {
	switch {
	case c.Level > ProtocolLevel:
		return nil, fmt.Errorf("%w: the group goes on at protocol level %d, this program knows %d: "+
			"a newer ChainStore is needed",
			ErrCommand, c.Level, ProtocolLevel)
	case c.Level <= s.level:
		return nil, fmt.Errorf("%w: protocol level %d, the group is at %d", ErrStale, c.Level, s.level)
	}
	s.tick(c.Time)
	s.level = c.Level
	if s.level >= LevelAudit {
		s.foundAudit(s.now)
	}
	return nil, nil
}

// Level is the group's protocol level.
func (s *State) Level() uint64 { return s.level }
