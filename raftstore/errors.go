package raftstore

import (
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/wire"
)

// Errors of this package.
var (
	// ErrNotLeader: this master does not lead, is handing the leadership over, or is new. Nothing was appended.
	ErrNotLeader = fmt.Errorf("this master: %w", wire.ErrNotLeader)
	// ErrClosed: the store was closed, or stopped by a failure. Nothing was appended.
	ErrClosed = fmt.Errorf("this master is stopping: %w", ErrNotLeader)
	// errStopped: the store stopped during a call of raft. Whether the call appended is unknown.
	errStopped = errors.New("this master has stopped")
	// ErrUnknownOutcome: the entry may be in the log, or get there later, or never. Only the state shows which.
	ErrUnknownOutcome = fmt.Errorf("%w: the leadership or the time ended while the entry was being committed",
		wire.ErrUnknownOutcome)
	// ErrOtherGroup: this master is part of another group.
	ErrOtherGroup = errors.New("this master belongs to another group")
	// ErrOtherMember: the request names another member than this one. A wiped data folder makes a new member.
	ErrOtherMember = errors.New("another master is meant")
	// ErrNoMember: the group has no such member.
	ErrNoMember = errors.New("no member")
	// ErrRemoved: the group has removed this master, and never accepts it again.
	ErrRemoved = errors.New("this master was taken out of its group for good")
	// ErrRecovery: a recovery of the data folder was begun and not finished.
	ErrRecovery = errors.New("a recovery of this data folder was begun and not finished: " +
		"run 'chainstore master recover' again")
	// ErrDisk: a read, write or sync of the data folder failed, or its content is damaged. The master must stop,
	// since it is unknown how much of a failed write is on the disk.
	ErrDisk = errors.New("data folder failed")
)
